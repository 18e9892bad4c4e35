"""The words for limits, the same in Python, on the command line, in the environment and in a settings file.

No dataclass here: the save helper loads this while a guest's user waits.
"""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.units import parse_seconds, parse_size

if TYPE_CHECKING:
    from typing import Any, Callable, Literal

    OnTimeout = Literal["abort", "suspend"]
ON_TIMEOUT: tuple[OnTimeout, ...] = ("abort", "suspend")

if TYPE_CHECKING:
    PolicyName = Literal["adaptive", "libxc"]
POLICIES: tuple[PolicyName, ...] = ("adaptive", "libxc")

NONE = "none"
"""As a value in text: not limited, although another source has a limit."""

LEAST_BANDWIDTH = 4096
MOST_BANDWIDTH = 1 << 62
MOST_SECONDS = 1e9
MOST = 999_999_999


class Word:
    """One word. ``parse``: text to value, or UsageError; ``metavar``, ``help``: for a command line; ``metavar`` "":
    it is yes or no; ``only_live``: it says nothing about a save of a guest that is suspended first."""

    __slots__ = ("help", "metavar", "name", "only_live", "parse")

    def __init__(
        self, name: str, parse: Callable[[str], Any], metavar: str, text: str, only_live: bool = True
    ) -> None:
        self.name, self.parse, self.metavar, self.help, self.only_live = name, parse, metavar, text, only_live

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"PYXCSR_{self.name.upper()}"

    @property
    def option(self) -> str:
        """Its name on a command line."""
        return f"--{self.name.replace('_', '-')}"


def _seconds(text: str) -> float:
    seconds = parse_seconds(text)
    if not seconds > 0:
        raise UsageError(f"{text!r} is no time: it must be more than 0")
    if seconds > MOST_SECONDS:
        raise UsageError(f"{text!r} is longer than any save")
    return seconds


def _bandwidth(text: str) -> int:
    plain = text.strip()
    nr_bytes = parse_size(plain[:-2] if plain.endswith("/s") else plain)
    if nr_bytes < LEAST_BANDWIDTH:
        raise UsageError(f"{text!r} is no bandwidth: it must be at least {LEAST_BANDWIDTH} bytes a second")
    if nr_bytes > MOST_BANDWIDTH:
        raise UsageError(f"{text!r} is more than any output takes: leave it out")
    return nr_bytes


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > len(str(MOST)) or int(text) < least:
            raise UsageError(f"{text!r} is not a number from {least} to {MOST}")
        return int(text)

    return parse


def _choice(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise UsageError(f"{text!r} is not {' or '.join(choices)}")
        return text

    return parse


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("yes", "no", "1", "0", "true", "false", "on", "off"):
        raise UsageError(f"{text!r} is not yes or no")
    return text.lower() in ("yes", "1", "true", "on")


WORDS = (
    Word("policy", _choice(POLICIES), "NAME", "adaptive: by measured rates (default); libxc: by libxenguest's numbers"),
    Word("max_downtime", _seconds, "TIME", "the longest pause that the guest should see, as 300ms or 1.5s"),
    Word("timeout", _seconds, "TIME", "the longest time that the whole save may take, as 90s or 10m", False),
    Word(
        "on_timeout", _choice(ON_TIMEOUT), "WHAT",
        "when that time is over: abort (default), and the guest runs on; or suspend the guest at once", False,
    ),
    Word("max_iterations", _count(1), "N", "the most passes while the guest runs (adaptive: 30, libxc: 5)"),
    Word("target_dirty", _count(0), "N", "suspend the guest once fewer pages are dirty (adaptive: none, libxc: 50)"),
    Word("bandwidth", _bandwidth, "SIZE", "the most bytes a second, as 500M, while the guest runs", False),
    Word("bandwidth_while_paused", _yes_or_no, "", "the bandwidth limit also applies while the guest is paused", False),
    Word("abort_if_busy", _yes_or_no, "", "end the save if the guest writes faster than its pages can be sent"),
    Word("throttle", _yes_or_no, "", "give a guest that writes too fast less processor time, step by step"),
)

BY_NAME = {x.name: x for x in WORDS}

ABOUT = {"on_timeout": "timeout", "bandwidth_while_paused": "bandwidth"}
"""Words that only say something about another one. Where that is lifted, they go with it."""


def parse(name: str, text: str, where: str) -> Any:
    """The value of the word ``name``; None for "none". Raises UsageError that begins with ``where``."""
    if text.strip() == NONE:
        return None
    try:
        return BY_NAME[name].parse(text.strip())
    except UsageError as error:
        raise UsageError(f"{where} is {text!r}: {error}") from None
