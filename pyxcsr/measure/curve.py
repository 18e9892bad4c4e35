"""Distinct pages over the length of an interval, for any length, from those that were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

APART = 1.2
"""Points nearer to each other than that tell more of chance than of the guest."""


class Curve:
    """``points``: (seconds, pages), as measured. ``limit``: there are no more pages than that.

    Between two points the number of pages grows with a power of the length. That power is 1 where each page is written
    once, and 0 where the same pages are written again and again. Beyond both ends the nearest power holds on.
    """

    def __init__(self, points: Sequence[tuple[float, float]], limit: float) -> None:
        self._limit = limit
        self._points: list[tuple[float, float]] = []
        most = 0.0
        for seconds, pages in sorted(points):
            most = max(most, pages)  # a longer window has at least what a shorter one in it has
            apart = not self._points or seconds > APART * self._points[-1][0]
            if seconds > 0 and most > 0 and apart:
                self._points.append((seconds, most))

    def pages(self, seconds: float) -> float:
        """How many distinct pages are dirtied in so many seconds."""
        if seconds <= 0 or not self._points:
            return 0.0
        at = next((i for i, x in enumerate(self._points) if x[0] >= seconds), len(self._points))
        if 0 < at < len(self._points):
            length, pages = self._points[at - 1]
            power = self._power(at)
        else:  # not between two points: never faster than the time
            length, pages = self._points[min(at, len(self._points) - 1)]
            power = min(1.0, self._power(max(1, min(at, len(self._points) - 1))))
        return min(self._limit, pages * math.pow(seconds / length, power))

    def _power(self, at: int) -> float:
        """With which the pages grow from the point before ``at`` to that."""
        if len(self._points) < 2:
            return 1.0
        low, high = self._points[at - 1], self._points[at]
        return math.log(high[1] / low[1]) / math.log(high[0] / low[0])
