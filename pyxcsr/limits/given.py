"""Words as they were given, with the place where each of them stands: for errors that say what to change."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.limits.limits import Limits, check_libxc, without_live_ones
from pyxcsr.limits.words import ABOUT, WORDS, parse
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Optional

    from pyxcsr.limits.words import PolicyName


class Given:
    """Values by word, None for "none"; and where each was given, as ``PYXCSR_TIMEOUT`` or ``FILE, line 3``."""

    __slots__ = ("values", "where")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.where: dict[str, str] = {}

    def add(self, name: str, text: str, where: str, shown: str) -> None:
        """A word as text. ``where``: its place; ``shown``: how an error about the value begins."""
        self.values[name] = parse(name, text, shown)
        self.where[name] = where

    def over(self, lower: Given) -> Given:
        """Both together; where both have a word, this one's counts. What it lifts takes with it what ``lower`` says
        about that."""
        lifted = [x for x, one in ABOUT.items() if one in self.values and self.values[one] is None]
        both = Given()
        both.values = {**_without(lower.values, lifted), **self.values}
        both.where = {**_without(lower.where, lifted), **self.where}
        return both

    def for_save(self, live: bool) -> Given:
        """Without what says nothing about a save of a guest that is suspended first, if it is one."""
        out = Given()
        out.values = dict(self.values) if live else without_live_ones(self.values)
        out.where = {x: self.where[x] for x in out.values}
        return out

    def leave_out(self, name: str, why: str, warn: Callable[[str], None]) -> None:
        """Drops a limit that does not hold. ``warn`` is told of it, if it was given."""
        if self.values.pop(name, None) is not None:
            warn(f"{name} does not hold: {why} ({self.where[name]})")
        self.where.pop(name, None)

    @property
    def policy(self) -> Optional[PolicyName]:
        """The policy's name, if one was given."""
        name: Optional[PolicyName] = self.values.get("policy")
        return name

    def limits(self) -> Limits:
        """The limits. Raises UsageError for such as contradict each other, with the places where they stand."""
        values = {x: value for x, value in self.values.items() if x != "policy" and value is not None}
        try:
            limits = Limits(**values)
            if self.policy == "libxc":
                check_libxc(limits)
            return limits
        except UsageError as error:
            raise UsageError(f"{error} ({self.places(str(error))})") from None

    def places(self, text: str) -> str:
        """Where the words that a text speaks of were given."""
        given = {name: where for name, where in self.where.items() if self.values[name] is not None}
        return "; ".join(f"{name}: {where}" for name, where in given.items() if name in text)


def _without(words: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {x: value for x, value in words.items() if x not in names}


def from_environment(environ: Mapping[str, str]) -> Given:
    """The PYXCSR_* variables; an empty one counts as unset. Raises UsageError that names the variable."""
    given = Given()
    for word in WORDS:
        text = environ.get(word.variable, "")
        if text:
            given.add(word.name, text, word.variable, word.variable)
    return given
