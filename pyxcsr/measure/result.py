"""What was measured of a guest's writes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from pyxcsr.arguments import check_number
from pyxcsr.errors import UsageError
from pyxcsr.limits.limits import Limits
from pyxcsr.limits.words import MOST_BANDWIDTH
from pyxcsr.measure.curve import Curve
from pyxcsr.measure.predict import Guest, Prediction, predict
from pyxcsr.measure.windows import Counted

if TYPE_CHECKING:
    from pyxcsr.limits.limits import Time


@dataclass
class DirtyRate:
    """How a guest dirtied its memory while it was measured. Pages are counted by pfn.

    Xen's bitmap tells that a page was written since the last one, and not how often: a page written twice in a window
    counts once in it. So the rate is lower the longer the window is, and ``windows`` has it for each length.

    ``seconds``: for how long it was measured; ``nr_pfns``: that the guest has; ``tot_pages``: pages of memory;
    ``bitmaps``: read; those that were cleared as well took ``fetch_seconds`` on an average; ``distinct``: pages dirtied
    at all;
    ``steady``: of these, pages dirtied in each period of the measurement, which no further pass of a save gets rid of,
    or None if it was measured for less than a second; ``period``: seconds of a period, more than one if a bitmap takes
    long; ``ranges``: how many of the distinct pages are in each range of ``per_range`` pfns; ``taken_over``: log-dirty
    mode was on already, and was begun anew; ``ended_by``: what ended it before its time, a save that began, in words,
    or None.
    """

    domid: int
    seconds: float
    nr_pfns: int
    tot_pages: int
    nr_vcpus: int
    bitmaps: int
    fetch_seconds: float
    windows: list[Counted]
    distinct: int
    steady: Optional[int]
    per_range: int
    ranges: list[int]
    taken_over: bool = False
    warnings: list[str] = field(default_factory=list)
    ended_by: Optional[str] = None
    period: float = 1.0

    @property
    def second(self) -> Counted:
        """The windows that are closest to one second."""
        return min(self.windows, key=lambda x: abs(x.seconds - 1.0))

    @property
    def pages_per_second(self) -> float:
        """Distinct pages dirtied in a second: the rate over windows of one second, or as close to that as there are."""
        return self.second.pages / self.second.seconds

    @property
    def curve(self) -> Curve:
        """Distinct pages over the length of an interval."""
        points = [(x.seconds, x.pages) for x in self.windows]
        return Curve([*points, (self.seconds, float(self.distinct))], float(max(self.tot_pages, self.distinct)))

    def predict(
        self,
        bandwidth: float,
        max_downtime: Optional[Time] = None,
        max_iterations: Optional[int] = None,
        *,
        limits: Optional[Limits] = None,
    ) -> Prediction:
        """What a live save of this guest would come to, through an output that takes ``bandwidth`` bytes a second.

        ``max_downtime``, ``max_iterations``: as in :class:`pyxcsr.Limits`; or ``limits``: all limits of the save, of
        which ``bandwidth`` may slow its live passes further, and ``throttle`` is taken to win nothing. Raises
        UsageError for numbers that are not above 0, or larger than any output or time, and if a limit is given twice.
        """
        check_number("bandwidth", bandwidth, 1, (int, float))
        if bandwidth > MOST_BANDWIDTH:
            raise UsageError(f"bandwidth is {bandwidth!r}: that is more than any output takes")
        if limits is None:
            limits = Limits(max_downtime=max_downtime, max_iterations=max_iterations)
        elif max_downtime is not None or max_iterations is not None:
            raise UsageError("max_downtime and max_iterations are given beside limits: put them there")
        guest = Guest(self.curve, self.tot_pages, self.nr_vcpus, self.fetch_seconds)
        return predict(guest, bandwidth, limits)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields, and the rate."""
        windows = [{**x._asdict(), "pages_per_second": x.pages / x.seconds} for x in self.windows]
        return {**asdict(self), "windows": windows, "pages_per_second": self.pages_per_second}
