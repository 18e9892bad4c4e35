"""Pfns in a row, and where they lie in tables that are kept in chunks of as many pfns each."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Piece(NamedTuple):
    """A part of a row of pfns that lies in one chunk: from which pfn of the row on, and where in which chunk."""

    at: int
    chunk: int
    within: int
    nr_pfns: int


def in_a_row(pfns: Sequence[int]) -> bool:
    """Whether each is one more than the one before; ``pfns`` is not empty."""
    first = pfns[0]
    return pfns[-1] - first == len(pfns) - 1 and list(pfns) == list(range(first, first + len(pfns)))


def pieces(first: int, count: int, size: int) -> Iterator[Piece]:
    """The parts of ``count`` pfns from ``first`` on, in order; ``size``: pfns in a chunk."""
    at = 0
    while at < count:
        chunk, within = divmod(first + at, size)
        here = min(count - at, size - within)
        yield Piece(at, chunk, within, here)
        at += here
