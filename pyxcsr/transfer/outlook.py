"""What a live save has measured so far, and what it makes of it: for how long the guest would be paused.

The pause is a fixed part (the last dirty bitmap, the state of the vcpus, the end of the stream) and a part for each
dirty page. Passes over dirty pages tell what a page costs, fetched bitmaps and looks at them how fast the guest dirties
pages, and the bitmaps fetched, small passes and the rehearsal (SaveOps.rehearse) what the fixed part costs.
"""

from __future__ import annotations

import time

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.policy import pause_of
from pyxcsr.transfer.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.report import PassReport

SCATTERED = 32
"""Pages that a pass over dirty ones must have sent to tell what one of them costs."""

ENOUGH = 512
"""Pages in the last such passes whose mean counts."""

DIRTY_PAGE = 0.000008
"""Seconds for a dirty page until such a pass was made. In a pass over all of memory they come in rows and cost less."""

PASS = 0.0001
"""Seconds for a pass that sends nothing, until a shorter one was seen."""

FETCH = 0.0001
"""Seconds for a dirty bitmap, until one was fetched."""

STATE = 0.0004
STATE_VCPU = 0.00005
"""Seconds for the state of a guest, and for each vcpu's, until the rehearsal has measured it."""

SUSPENDING = 0.005
"""Seconds for which a guest that was asked to suspend goes on dirtying pages."""

WINDOW = 0.02
"""Seconds between dirty bitmaps, taken together, for which the guest's dirty rate is told: it may write in bursts."""


class Outlook:
    """The measurements of one save. ``nr_vcpus``: of the guest; ``clock``: seconds."""

    def __init__(self, nr_vcpus: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fetch, self._state = FETCH, STATE + STATE_VCPU * nr_vcpus
        self._page, self._rates = Recent(ENOUGH), Recent(WINDOW)
        self._pass = PASS  # what one costs that sends nothing
        self._since = clock()  # when Xen began to count
        self._counted: Optional[int] = None  # by the last look since then
        self._counted_at = 0.0
        self.slowed = 0.0
        """The share of its processor time that the guest lacks now, and gets back before it is suspended."""
        self.page_seconds: Optional[float] = None
        self.dirty_rate: Optional[float] = None
        self.bandwidth: Optional[float] = None

    # -- what is measured

    def begin(self) -> None:
        """Log-dirty mode has been switched on: from now on the guest's writes are counted."""
        self._since = self._clock()

    def passed(self, done: PassReport) -> None:
        """A pass is over."""
        busy = done.seconds - done.seconds_held
        if done.iteration > 0:
            self._pass = min(self._pass, busy)
        if done.iteration == 0 and done.pages:
            self.page_seconds = max(busy / done.pages, DIRTY_PAGE)
        elif done.pages >= SCATTERED:
            self._page.add(done.pages, max(busy - self._pass, 0.0))
            self.page_seconds = self._page.mean()
        if done.seconds > 0 and done.bytes:
            self.bandwidth = done.bytes / done.seconds

    def fetched(self, dirty: int, began: float) -> None:
        """The dirty bitmap, fetched since ``began`` by this clock, had ``dirty`` pfns."""
        self._fetch = self._clock() - began
        self._rate(dirty, began)
        if began > self._since:
            self._rates.add(began - self._since, dirty)
        self._since, self._counted = began, None

    def looked(self, dirty: int) -> None:
        """So many pfns are dirty now."""
        self._counted, self._counted_at = dirty, self._clock()
        self._rate(dirty, self._counted_at)

    def rehearsed(self, began: float) -> None:
        """The guest's state has been asked for once, beginning at ``began`` by this clock."""
        self._state = self._clock() - began

    def _rate(self, dirty: int, at: float) -> None:
        if at > self._since:
            self.dirty_rate = self._rates.mean(at - self._since, dirty)

    # -- what is made of it

    @property
    def pause_seconds(self) -> float:
        """The pause if nothing were dirty, but for what the guest dirties while it suspends."""
        rate = (self.dirty_rate or 0.0) / (1.0 - self.slowed)
        return self._fetch + self._pass + self._state + (self.page_seconds or 0.0) * rate * SUSPENDING

    def dirty_now(self, nr_pfns: int) -> int:
        """How many pfns are dirty by now: counted, or else as many as the last rate makes."""
        counted, at = (0, self._since) if self._counted is None else (self._counted, self._counted_at)
        return min(nr_pfns, counted + round((self.dirty_rate or 0.0) * (self._clock() - at)))

    def pause(self, dirty: int) -> Optional[float]:
        """For how many seconds the guest would be paused with so many pfns dirty; None if that is not known."""
        return pause_of(self.pause_seconds, self.page_seconds, dirty)
