"""What is known of one end: the answer of the script that was run there, read with suspicion."""

from __future__ import annotations

import re
from typing import Optional

from pyxcsr.errors import ProbeError

FIRST, LAST = "pyxcsr-facts 1", "end"
LARGEST = 1 << 20
LONGEST = 4096
KEYS = ("xl", "info", "list", "failed", "helper", "relay", "pyxcsr", "zstd", "autoballoon")

ROW = re.compile(r"(\d{1,5}) (\d{1,12}) (\d{1,5}) ([r-][b-][p-][s-][-rscwS?][d-]) \d+\.\d", re.ASCII)
"""What stands behind the name in a line of `xl list`; the fifth letter of the state says why a domain has shut down,
"s": to be suspended."""


class Domain:
    """A line of `xl list`. ``mib``: its memory."""

    __slots__ = ("domid", "mib", "name", "nr_vcpus", "state")

    def __init__(self, name: str, domid: int, mib: int, nr_vcpus: int, state: str) -> None:
        self.name, self.domid, self.mib, self.nr_vcpus, self.state = name, domid, mib, nr_vcpus, state

    @property
    def condition(self) -> str:
        """In a word: running, paused, suspended, crashed, "shut down" or dying."""
        if self.state[5] == "d":
            return "dying"
        if self.state[3] == "s":
            return {"s": "suspended", "c": "crashed"}.get(self.state[4], "shut down")
        return "paused" if self.state[2] == "p" else "running"


class Facts:
    """What an end has. ``info``: of `xl info`; ``pyxcsr``: what pyxcsr there says of itself; None, "": not there."""

    __slots__ = ("autoballoon", "domains", "failed", "helper", "info", "pyxcsr", "relay", "side", "xl", "zstd")

    def __init__(self, side: str) -> None:
        self.side = side
        self.xl = self.helper = self.relay = self.zstd = self.failed = self.autoballoon = ""
        self.info: dict[str, str] = {}
        self.pyxcsr: dict[str, str] = {}
        self.domains: list[Domain] = []

    def number(self, name: str) -> Optional[int]:
        """A number of `xl info`."""
        text = self.info.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 13 else None

    @property
    def release(self) -> Optional[tuple[int, int]]:
        """Of Xen, as (4, 17)."""
        major, minor = self.number("xen_major"), self.number("xen_minor")
        return None if major is None or minor is None else (major, minor)

    def named(self, name: str) -> Optional[Domain]:
        """The domain with a name."""
        return next((x for x in self.domains if x.name == name), None)

    def numbered(self, domid: int) -> Optional[Domain]:
        """The domain with an id."""
        return next((x for x in self.domains if x.domid == domid), None)


def plain(text: str) -> str:
    """Text of another machine for this one's terminal: nothing in it steers that."""
    return "".join(x if x.isprintable() else "\N{REPLACEMENT CHARACTER}" for x in text)


def read_facts(side: str, data: bytes) -> Facts:
    """From a script's output. Raises ProbeError for anything that such a script does not print."""
    if len(data) > LARGEST:
        raise ProbeError(f"{side}: the answer is longer than {LARGEST} bytes", side=side)
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if lines[0] != FIRST:
        raise ProbeError(
            f"{side}: it answers {plain(lines[0][:80])!r}, where the answer should begin. If its shell prints "
            "something of its own when it starts, xl cannot work with it either: make it silent for commands",
            side=side,
        )
    if lines[-2:] != [LAST, ""]:
        raise ProbeError(f"{side}: the answer is incomplete; it ends with {plain(lines[-1][-80:])!r}", side=side)
    facts = Facts(side)
    for line in lines[1:-2]:
        key, _, text = line.partition(" ")
        if key not in KEYS or len(line) > LONGEST or "\0" in line:
            raise ProbeError(f"{side}: the answer has a line that is not understood: {plain(line[:80])!r}", side=side)
        _take(facts, key, text)
    return facts


def _take(facts: Facts, key: str, text: str) -> None:
    if key == "info":
        name, _, value = text.partition(":")
        facts.info[name.strip()] = value.strip()
    elif key == "pyxcsr":
        name, _, value = text.partition(" ")
        facts.pyxcsr[name] = value
    elif key == "list":
        _take_domain(facts, text)
    else:
        setattr(facts, key, text)


def _take_domain(facts: Facts, text: str) -> None:
    if text.split() == ["Name", "ID", "Mem", "VCPUs", "State", "Time(s)"]:
        return
    words = text.rsplit(maxsplit=5)
    row = ROW.fullmatch(" ".join(words[-5:]))
    if row is None:
        raise ProbeError(f"{facts.side}: `xl list` has a line that is not understood: {plain(text[:80])!r}",
                         side=facts.side)  # fmt: skip
    name = words[0] if len(words) > 5 else ""
    facts.domains.append(Domain(name, int(row[1]), int(row[2]), int(row[3]), row[4]))
