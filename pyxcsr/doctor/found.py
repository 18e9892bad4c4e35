"""What the doctor has to tell: findings, and what will work."""

from __future__ import annotations

from typing import Any, Literal, Optional

Verdict = Literal["ok", "note", "bad"]


class Finding:
    """One thing that was looked at. ``advice``: what to do about it."""

    __slots__ = ("advice", "name", "text", "verdict")

    def __init__(self, name: str, text: str, verdict: Verdict = "ok", advice: str = "") -> None:
        self.name, self.text, self.verdict, self.advice = name, text, verdict, advice

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"name": self.name, "verdict": self.verdict, "text": self.text, "advice": self.advice}


class Ability:
    """Something that one may want to do. ``works`` None: it cannot be told here. ``why``: if not, or not surely.

    ``expected`` False: it is this Xen that does not allow it, and nothing is amiss with the host.
    """

    __slots__ = ("expected", "name", "why", "works")

    def __init__(self, name: str, works: Optional[bool], why: str = "", expected: bool = True) -> None:
        self.name, self.works, self.why, self.expected = name, works, why, expected

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "works": self.works, "why": self.why}


class Diagnosis:
    """All of it, of this host and of another one if it was asked for."""

    __slots__ = ("abilities", "findings")

    def __init__(self, findings: list[Finding], abilities: list[Ability]) -> None:
        self.findings, self.abilities = findings, abilities

    @property
    def healthy(self) -> bool:
        """Whether nothing is amiss: what this Xen does not allow is none of that."""
        return not any(x.verdict == "bad" for x in self.findings) and not any(
            x.works is False and x.expected for x in self.abilities
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "healthy": self.healthy,
            "findings": [x.to_dict() for x in self.findings],
            "abilities": [x.to_dict() for x in self.abilities],
        }
