"""Sizes and times as people write them: ``256MB``, ``1.5G``, ``300ms``, ``2m``."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Union

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

LONGEST = 4000
"""Characters of a number: Python makes none of more than 4300 digits."""


def _split(text: str) -> tuple[str, str]:
    """The number and the unit that a text begins and ends with; the number is "" if it is none. (re would take longer
    to load than all that the save helper reads with it.)"""
    text = text.strip()
    end = next((i for i, x in enumerate(text) if x not in "0123456789."), len(text))
    number = text[:end]
    whole, dot, rest = number.partition(".")
    if not whole or "." in rest or (dot and not rest) or len(number) > LONGEST:
        number = ""
    return number, text[end:].lstrip(" \t\n\r\f\v")


def parse_size(text: Union[str, int]) -> int:
    """Bytes from ``4096``, ``"64K"``, ``"64KiB"``, ``"256MB"``, ``"1.5G"`` or ``"2T"``. Raises UsageError.

    The units are powers of 1024, however they are written: memory comes in those.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is not a size: give a whole number of bytes, or text like '64M'")
    number, unit = _split(text)
    power = _UNITS.get(unit[:1].upper(), 1) if unit.isascii() else 1
    ends = unit.upper() in ("", "B") if power == 1 else unit[1:].upper() in ("", "B", "IB")
    if not number or not unit.isascii() or not ends:
        raise UsageError(f"{text!r} is not a size: write bytes, or a number with K, M, G or T")
    if "." not in number:
        return int(number) * power
    from fractions import Fraction  # slow to load, and most programs never come here

    nr_bytes = Fraction(number) * power
    if nr_bytes.denominator != 1:
        raise UsageError(f"{text!r} is not a whole number of bytes: write it in a smaller unit")
    return int(nr_bytes)


def format_size(nr_bytes: int) -> str:
    """The shortest text that :func:`parse_size` turns back into ``bytes``."""
    for letter in ("T", "G", "M", "K"):
        if nr_bytes and nr_bytes % _UNITS[letter] == 0:
            return f"{nr_bytes // _UNITS[letter]}{letter}"
    return str(nr_bytes)


def parse_seconds(text: Union[str, float]) -> float:
    """Seconds from ``"300ms"``, ``"1.5s"``, ``"2m"`` or ``"1h"``; a number is seconds already. Raises UsageError.

    Text must have a unit: whether 300 are seconds or milliseconds nobody should have to know by heart.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is not a time: give a number of seconds, or text like '300ms'")
    number, unit = _split(text)
    if not number or (unit and not (unit.isascii() and unit.isalpha() and unit.islower())):
        raise UsageError(f"{text!r} is not a time: write a number with us, ms, s, m or h")
    if unit not in _SECONDS:
        what = f"unknown unit {unit!r}" if unit else "no unit"
        raise UsageError(f"{text!r} has {what}: write a number with us, ms, s, m or h")
    return float(number) * _SECONDS[unit]


def format_seconds(seconds: float) -> str:
    """A time for people: ``300 ms``, ``1.5 s``, ``2 min``."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 60 else f"{seconds / 60:.3g} min"
