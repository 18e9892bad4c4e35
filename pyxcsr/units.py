"""Sizes and times as people write them: ``256MB``, ``1.5G``, ``300ms``, ``2m``."""

from __future__ import annotations

import re
from typing import Union

from pyxcsr.errors import UsageError

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(?:i?B)?|B?)"
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_TIME = r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)"


def parse_size(text: Union[str, int]) -> int:
    """Bytes from ``4096``, ``"64K"``, ``"64KiB"``, ``"256MB"``, ``"1.5G"`` or ``"2T"``. Raises UsageError.

    The units are powers of 1024, however they are written: memory comes in those.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is not a size: give a whole number of bytes, or text like '64M'")
    found = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE | re.ASCII)
    if found is None:
        raise UsageError(f"{text!r} is not a size: write bytes, or a number with K, M, G or T")
    from fractions import Fraction  # slow to load, and most programs never come here

    nr_bytes = Fraction(found[1]) * _UNITS.get((found[2] or "").upper(), 1)
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
    found = re.fullmatch(_TIME, text.strip(), re.ASCII)
    if found is None:
        raise UsageError(f"{text!r} is not a time: write a number with us, ms, s, m or h")
    if found[2] not in _SECONDS:
        what = f"unknown unit {found[2]!r}" if found[2] else "no unit"
        raise UsageError(f"{text!r} has {what}: write a number with us, ms, s, m or h")
    return float(found[1]) * _SECONDS[found[2]]


def format_seconds(seconds: float) -> str:
    """A time for people: ``300 ms``, ``1.5 s``, ``2 min``."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 60 else f"{seconds / 60:.3g} min"
