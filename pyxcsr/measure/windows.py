"""How many pages are dirtied in windows of different lengths, each page counted once in its window.

The bitmaps fetched are the shortest windows. Two neighbours of one length make a window of twice that length, so that
for each length the windows follow one another and do not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional

from pyxcsr.hypervisor.interface import MeterHandle

FINEST, COARSE, UNIT = -6, -3, 0
"""Lengths as powers of two of a second. In each second one of the coarse windows is made of finest ones: often enough
to know the beginning of the curve, and seldom enough that fetching does not slow the guest down by much."""

FETCHED = 0


class Counted(NamedTuple):
    """Windows of one length: how many there were, how long and how many pages each on an average, and the most."""

    seconds: float
    windows: int
    pages: float
    most: int


class Windows:
    """Counts pages by lengths of windows. ``finest``, ``coarse``: the lengths of the bitmaps, as powers of two."""

    def __init__(self, meter: MeterHandle, finest: int, coarse: int) -> None:
        self._meter, self._finest, self._coarse = meter, finest, coarse
        self._unit = max(UNIT, coarse)
        self._all, self._steady = meter.nr_sets - 1, meter.nr_sets - 2
        self._open: dict[int, float] = {}  # windows that lack their second half: how long the first is
        self._sums: dict[int, list[float]] = {}  # by length: number, seconds, pages, most
        self.distinct = 0
        """Pages dirtied at all."""
        self.steady: Optional[int] = None
        """Pages dirtied in each of the windows of a second; None before the first."""

    def leaf(self, level: int, seconds: float, pages: int) -> None:
        """A bitmap of ``pages`` pages has been fetched, over a window of that length."""
        self.distinct = self._meter.join(FETCHED, self._all)
        self._complete(FETCHED, level, seconds, pages)

    def _complete(self, number: int, level: int, seconds: float, pages: int) -> None:
        """A window is complete, and in set ``number``."""
        self._note(level, seconds, pages)
        if level == self._unit:
            self.steady = self._meter.join(number, self._steady, "copy" if self.steady is None else "common")
        above = self._number(level + 1)
        if above >= self._steady:
            return
        first = self._open.pop(level + 1, None)
        if first is None:
            self._meter.join(number, above, "copy")
            self._open[level + 1] = seconds
        else:
            self._complete(above, level + 1, first + seconds, self._meter.join(number, above))

    def _number(self, level: int) -> int:
        """The set that a window of that length is made in."""
        return level - self._finest + 1

    def _note(self, level: int, seconds: float, pages: int) -> None:
        sums = self._sums.setdefault(level, [0, 0.0, 0, 0])
        sums[0] += 1
        sums[1] += seconds
        sums[2] += pages
        sums[3] = max(sums[3], pages)

    def counted(self) -> list[Counted]:
        """From the shortest windows to the longest."""
        return [
            Counted(seconds / number, int(number), pages / number, int(most))
            for _, (number, seconds, pages, most) in sorted(self._sums.items())
        ]

    def spread(self, per_range: int) -> list[int]:
        """How many pages were dirtied at all, in each range of so many pfns."""
        return self._meter.spread(self._all, per_range)


def lengths_for(fetch_seconds: float) -> tuple[int, int]:
    """Finest and coarse windows: at least eight times as long as one fetch takes, for which the guest stands still."""
    finest = FINEST
    while 2.0**finest < 8 * fetch_seconds and finest < 4:
        finest += 1
    return finest, max(COARSE, finest)


def leaves(finest: int, coarse: int, seconds: float, is_quick: Callable[[], bool]) -> Iterator[int]:
    """The lengths of the bitmaps to fetch, one after another, until so many seconds are full.

    ``is_quick``: whether fetching is quick enough for the finest ones, by the last time.
    """
    number, each = max(1, round(seconds / 2.0**coarse)), max(1, round(2.0 ** (UNIT - coarse)))
    for at in range(number):
        if at % each == 0 and is_quick():
            yield from [finest] * (1 << (coarse - finest))
        else:
            yield coarse
