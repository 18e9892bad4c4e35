"""What a live save has measured so far, and what it makes of it: for how long the guest would be paused.

The pause is the last dirty bitmap, a pass over the dirty pages, and the state of the guest with the end of the stream.
Passes over dirty pages tell what such a pass costs (costs.py), fetched bitmaps and looks at them how fast the guest
dirties pages, and the bitmaps and the rehearsals (SaveHandle.rehearse_end, SaveOps.rehearse) what the rest costs.
"""

from __future__ import annotations

import time

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.policy import pause_of
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.transfer.costs import HANDFUL, Costs
from pyxcsr.transfer.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.report import PassReport

FETCH = 0.0001
"""Seconds for a dirty bitmap, until one was fetched."""

STATE = 0.0004
STATE_VCPU = 0.00005
"""Seconds for the state of a guest, and for each vcpu's, until the rehearsal has measured it."""

FETCHES = 3
"""The shortest of so many counts, of bitmaps fetched last, and of what passes took besides their batches: what else has
delayed one does not delay the next one."""

SUSPENDING = 0.005
"""Seconds for which a guest that was asked to suspend goes on dirtying pages."""

LATELY = 2 * SUSPENDING
"""Seconds of its processor time of which its rate tells what it dirties in that time. It writes to some pages again and
again: so it dirties more for each second of a short time than of a long one."""

BOUND = 0.2
"""The part of a pass for which it has waited for the output, from which on the output tells how long pages take."""

OWN = 3
"""Pages that a guest writes to suspend itself, at least: its start_info, or its driver's; the ring to xenstore; a
stack."""

SHORT = 0.001
"""Seconds for a dirty bitmap, up to which it is read in a rehearsal although it was fetched before."""

MORE = 1.1
"""A bandwidth limit that is changed by more than this factor, set or lifted, voids what was decided by the old one.
One that is changed a little again and again must not keep a save from ever deciding."""

ABSORBED = 1024
"""Pages of a pass that an output takes at once, perhaps, however slow it is. Of the passes sent last, so many pages are
what tells for how long the output lets us wait."""

WINDOW = 0.05
"""Seconds between dirty bitmaps, taken together, for which the guest's dirty rate is told: it may write in bursts."""


class Outlook:
    """The measurements of one save. ``nr_vcpus``: of the guest; ``clock``: seconds."""

    def __init__(self, nr_vcpus: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.room: Optional[int] = None
        """How many bytes the output holds before its reader has taken them, as a pipe does; None: not known."""
        self.held: Callable[[], float] = lambda: 0.0
        """Tells for how many seconds the bandwidth limit lets a page wait in the pause; 0: it does not hold there."""
        self._fetches: list[float] = []
        self._steps: list[float] = []  # what passes took besides their batches
        self._write: Optional[float] = None  # seconds for a few bytes
        self._rest = STATE + STATE_VCPU * nr_vcpus
        self._at_once, self._has_bitmap = True, False  # what is in self._rest
        self._costs, self._sending = Costs(), Costs()  # paused; while the guest runs, if no limit holds
        self._rates, self._own = Recent(WINDOW), Recent(LATELY)  # by seconds; by processor time
        self._limit: Optional[int] = None
        self._judged_by: Optional[int] = None  # the limit of which the policy knows
        self.bandwidth_changed = False
        """Whether the bandwidth limit has been changed. To be set to False when the policy has been told."""
        self._output = 0.0  # seconds in which a slow output takes a page
        self._waits = Recent(ABSORBED)  # seconds of waiting for the output, by pages
        self._runs: Optional[int] = None  # of the pfns that are marked for the pass to come
        self._knows_costs = False
        self._since = clock()  # when Xen began to count
        self._counted: Optional[int] = None  # by the last look since then
        self._counted_at = 0.0
        self.slowed = 0.0
        """The share of its processor time that the guest lacks now, and gets back before it is suspended."""
        self.dirty_rate: Optional[float] = None
        self._lately: Optional[float] = None  # the same, lately, and in a second of the guest's processor time
        self.bandwidth: Optional[float] = None

    # -- what is measured

    def begin(self) -> None:
        """Log-dirty mode has been switched on: from now on the guest's writes are counted."""
        self._since, self.bandwidth_changed = self._clock(), False

    def limited(self, bandwidth: Optional[int]) -> None:
        """So many bytes a second may be sent from now on while the guest runs. To be called now and then."""
        was, self._limit = self._judged_by, bandwidth
        if was != bandwidth and (was is None or bandwidth is None or not 1 / MORE <= bandwidth / was <= MORE):
            self._judged_by, self.bandwidth_changed = bandwidth, True

    def passed(self, done: PassReport, busy: float, unmapping: float, waited: float) -> None:
        """A pass is over. Of its seconds a suspended guest would have waited for the ``busy`` ones, without those for
        which the bandwidth limit held it; not for those of ``unmapping``. ``waited``: for the output, of the busy ones.
        """
        self._steps = [*self._steps, done.seconds - busy - unmapping][-FETCHES:]
        busy -= done.seconds_held  # neither the pause nor a pass under another limit is held as long
        sending = busy + unmapping
        if waited > BOUND * busy:
            self._output = busy / max(done.pages, 1)
        elif done.pages > ABSORBED:
            self._output = 0.0
        if done.pages > ABSORBED or (waited > 0 and done.pages > 0):  # else it may have had room for all of them
            self._waits.add(done.pages, waited)
        if done.iteration > 0 and done.dirty > 0:  # the last pass is never empty: a guest that suspends writes pages
            runs = done.pages if self._runs is None else min(self._runs, done.pages)
            self._costs.add(done.pages, runs, busy - waited)
            self._sending.add(done.pages, runs, sending)
            self._knows_costs |= done.pages > 0
        elif done.pages > 0:
            self._costs.whole(done.pages, busy - waited)
            self._sending.whole(done.pages, sending)
            self._knows_costs = True
        if done.seconds > 0 and done.bytes:
            self.bandwidth = done.bytes / done.seconds

    def marked(self, runs: int) -> None:
        """What the pass to come has to send are so many runs of pfns in a row."""
        self._runs = runs

    @property
    def has_fetched(self) -> bool:
        """Whether it is known how long a dirty bitmap takes."""
        return bool(self._fetches)

    @property
    def reads_bitmap(self) -> bool:
        """Whether a rehearsal is to read the dirty bitmap, too: the few that were fetched may have been delayed."""
        return not self._fetches or (len(self._fetches) < FETCHES and min(self._fetches) <= SHORT)

    def fetched(self, dirty: int, began: float, took: float) -> None:
        """The dirty bitmap, asked for at ``began`` by this clock, took so long, and with it ``dirty`` pfns are marked.
        """
        self._fetches = [*self._fetches, took][-FETCHES:]
        self._rate(dirty, began)
        if began > self._since:
            self._rates.add(began - self._since, dirty)
            self._own.add(self._own_time(began), dirty)
        self._since, self._counted = began, None

    def looked(self, dirty: int) -> None:
        """So many pfns are dirty now."""
        self._counted, self._counted_at = dirty, self._clock()
        self._rate(dirty, self._counted_at)

    def rehearsed(self, took: float, *, at_once: bool, with_bitmap: bool = False) -> None:
        """What the end does besides the pages took so long while the guest ran.

        ``at_once``: it will be one call, and this is that call's time; else the guest's state alone. ``with_bitmap``:
        the dirty bitmap was read as well.
        """
        self._rest, self._at_once, self._has_bitmap = took, at_once, with_bitmap

    def pages_to_try(self, nr_pfns: int) -> int:
        """How many pages the last pass will have. 0: more than a handful, of which a trial tells nothing, or hardly
        any, as of an idle guest."""
        pages = self.dirty_now(nr_pfns) + OWN + self.suspending()
        return round(pages) if OWN + 1 <= pages <= HANDFUL else 0

    def tried(self, pages: int, seconds: float) -> None:
        """So many pages, none beside another, were mapped and read in that time, as a pass does that sends them."""
        if pages > 0:
            self._costs.tried(pages, seconds + (self._write or 0.0))

    def wrote(self, seconds: float) -> None:
        """A few bytes were written to the output in that time. What counts is the first time in a save: whoever reads
        it has slept for a while then, as while the guest suspends."""
        if self._write is None:
            self._write = seconds

    def _rate(self, dirty: int, at: float) -> None:
        if at > self._since:
            self.dirty_rate = self._rates.mean(at - self._since, dirty)
            self._lately = self._own.mean(self._own_time(at), dirty)

    def _own_time(self, at: float) -> float:
        """Seconds of processor time that the guest has had since Xen began to count."""
        return (at - self._since) * (1.0 - self.slowed)

    # -- what is made of it

    @property
    def page_seconds(self) -> Optional[float]:
        """What each dirty page adds to the pause, if as many are dirty as the last rate makes; None if not known."""
        return self.costs(self._expected())[1]

    @property
    def send_seconds(self) -> Optional[float]:
        """The same for a pass while the guest runs, under the bandwidth limit that there is now."""
        if not self._knows_costs:
            return None
        return max(self._sending.page(self._expected()), PAGE_BYTES / self._limit if self._limit else 0.0)

    @property
    def pause_seconds(self) -> float:
        """The pause if nothing were dirty, but for what the guest dirties while it suspends."""
        return self.costs(self._expected())[0]

    def costs(self, dirty: float) -> tuple[float, Optional[float]]:
        """``pause_seconds`` and ``page_seconds``, if so many pfns are dirty."""
        suspending = OWN + self.suspending()
        pages = dirty + suspending
        page = self._page(pages) if self._knows_costs else None
        return self._fixed(pages) + (page or 0.0) * suspending, page

    def _fixed(self, pages: float) -> float:
        steps = 0.0 if self._at_once else min(self._steps, default=0.0)
        fetch = 0.0 if self._has_bitmap else min(self._fetches, default=FETCH)
        return fetch + self._costs.fixed(pages) + self._rest + steps

    def suspending(self) -> float:
        """How many pfns the guest dirties while it suspends, besides those that it writes to for that. What was taken
        of its processor time it has back by then."""
        return (self._lately or 0.0) * SUSPENDING

    def _expected(self) -> float:
        counted, at = (0, self._since) if self._counted is None else (self._counted, self._counted_at)
        return counted + (self.dirty_rate or 0.0) * (self._clock() - at)

    def dirty_now(self, nr_pfns: int) -> int:
        """How many pfns are dirty by now: counted, or else as many as the last rate makes."""
        return min(nr_pfns, round(self._expected()))

    def pause(self, dirty: int) -> Optional[float]:
        """For how many seconds the guest would be paused with so many pfns dirty; None if that is not known."""
        return pause_of(*self.costs(dirty), dirty)

    def _page(self, pages: float) -> float:
        """Seconds for each of so many pages: by what they cost us, or by that and by how long the output lets us wait.

        A slow output that lags behind goes on taking what it was given while the guest suspends, and has room then: for
        as much as it takes in that time, and for no more than it holds.
        """
        room = ABSORBED if self.room is None else self.room / PAGE_SIZE
        if self._output:
            room = min(room, SUSPENDING / self._output)
        costs = self._costs.page(pages)
        lasts = costs + (self._waits.mean() or 0.0)
        return max(costs, lasts * (1.0 - room / pages) if pages > room else 0.0, self.held())
