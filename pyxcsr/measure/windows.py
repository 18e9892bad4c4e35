"""How many pages are dirtied in windows of different lengths, each page counted once in its window.

The bitmap is cleared once in a period, of a second mostly. Until then it is read several times, so that each period has
one window of each shorter length, which all begin with it. From a period on two neighbours of one length make a window
of twice that length: these follow one another and do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

from pyxcsr.hypervisor.interface import MeterHandle

FINEST, SHORTEST, UNIT, LONGEST = -6, -3, 0, 4
"""Lengths as powers of two of a second: of the finest window; of the period, at least, usually, and at most."""

SHARE = 8
"""A window is at least so many times as long as one fetch takes, for which the guest stands still."""

FETCHED = 0


class Counted(NamedTuple):
    """Windows of one length: how many there were, how long and how many pages each on an average, and the most."""

    seconds: float
    windows: int
    pages: float
    most: int


class Read(NamedTuple):
    """The bitmap, read within a period: the window's length as a power of two, as it really was, and its pages."""

    level: int
    seconds: float
    pages: int


class Windows:
    """Counts pages by lengths of windows. ``period``: its length as a power of two."""

    def __init__(self, meter: MeterHandle, period: int) -> None:
        self._meter, self._period = meter, period
        self._all, self._steady = meter.nr_sets - 1, meter.nr_sets - 2
        self._open: dict[int, float] = {}  # windows that lack their second half: how long the first is
        self._sums: dict[int, list[float]] = {}  # by length: number, seconds, pages, most
        self.distinct = 0
        """Pages dirtied at all."""
        self.steady: Optional[int] = None
        """Pages dirtied in each of the periods, if these are a second or longer; None before the first."""
        self.period_seconds = 2.0**period

    @property
    def empty(self) -> bool:
        """Whether not even one period is complete."""
        return not self._sums

    def period(self, reads: Sequence[Read], seconds: float, pages: int) -> None:
        """One more period is complete; its bitmap was fetched just now."""
        for read in reads:
            self._note(*read)
        self.distinct = self._meter.join(FETCHED, self._all)
        if self._period >= UNIT:
            self.steady = self._meter.join(FETCHED, self._steady, "copy" if self.steady is None else "common")
        self._complete(FETCHED, self._period, seconds, pages)

    def _complete(self, number: int, level: int, seconds: float, pages: int) -> None:
        """A window is complete, and in set ``number``."""
        self._note(level, seconds, pages)
        above = level + 1 - self._period
        if above >= self._steady:
            return
        first = self._open.pop(level + 1, None)
        if first is None:
            self._meter.join(number, above, "copy")
            self._open[level + 1] = seconds
        else:
            self._complete(above, level + 1, first + seconds, self._meter.join(number, above))

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


def period_for(seconds: float, fetch_seconds: float) -> int:
    """How long the periods are, as a power of two: if one fetch takes so long, and it is measured for ``seconds``."""
    period = UNIT if seconds >= 2.0**UNIT else max(SHORTEST, math.floor(math.log2(seconds)))
    while 2.0**period < SHARE * fetch_seconds and period < LONGEST:
        period += 1
    return period


def reads_for(period: int, fetch_seconds: float) -> list[int]:
    """The lengths of windows, as powers of two, after which the bitmap is read within a period."""
    return [x for x in range(FINEST, period) if 2.0**x >= SHARE * fetch_seconds]
