"""Streams and memory that must be the same.

Where CI is set, or with -v, pytest takes minutes to show how megabytes differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Optional


def first_difference(one: Sequence[Any], other: Sequence[Any]) -> Optional[int]:
    """Where two streams, or lists of their records, differ first; None: nowhere."""
    if one == other:
        return None
    return next((i for i, (x, y) in enumerate(zip(one, other)) if x != y), min(len(one), len(other)))


def check_same(one: Sequence[Any], other: Sequence[Any], what: str = "the two") -> None:
    """Raises AssertionError if two streams, or lists of their records, differ."""
    at = first_difference(one, other)
    if at is not None:
        raise AssertionError(f"{what} differ from item {at} on: they have {len(one)} and {len(other)}")


def check_same_pages(one: Mapping[int, Any], other: Mapping[int, Any]) -> None:
    """Raises AssertionError if two guests' memories differ: pages by pfn."""
    if one != other:
        pfns = (x for x in sorted(one.keys() | other.keys()) if one.get(x) != other.get(x))
        raise AssertionError(f"the memories differ, first in pfns {[hex(x) for x in islice(pfns, 10)]}")
