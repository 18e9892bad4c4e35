"""A policy that goes by what was measured in this save, and predicts the pause.

It decides before a dirty bitmap is fetched, when nothing has to be done yet: Xen is asked how many pages are dirty by
then, so that it is known for how long the guest would be paused if it were suspended now. A further pass sends just
these pages, and while it does, the guest dirties pages again: as many as now in relation to how long the two passes
take, if it goes on as it did. (A guest that writes the same pages over and over dirties more of them than that in a
short pass. Then the next look shows it.) That is what a further pass can win, and it is made if that is worth it.

Once passes win nothing any more, the guest dirties more pages during one pass and fewer during another. Two passes in
turn that win nothing are most likely when it has just dirtied more than usual. So it is not suspended then, but after
one of the next passes, as soon as no more pages are dirty than usual.

No dataclass here: the save helper loads this while a guest's user waits.
"""

from __future__ import annotations

from pyxcsr.limits.limits import Limits
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.policy import Decision
from pyxcsr.units import format_seconds

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.policy import PrecopyStats

MAX_ITERATIONS = 30
"""Live passes, unless a limit says otherwise: max_iterations; or a timeout, while something is not reached yet."""

LIBXC_PASSES = 5
"""So many libxenguest makes of any guest: up to there a smaller gain is taken, so as never to pause a guest longer."""

GAIN_EARLY = 0.04
GAIN_LATE = 0.05
GAIN_WHEN_MET = 0.5
"""The part of the pause that a pass must win: in the first passes, later, once all that was asked for is reached."""

GAIN_AGAIN = 0.4
"""The same once passes have won nothing: less than that is won by chance, too."""

LEAST_GAIN = 0.0001
"""Seconds. What is less cannot be told from chance."""

FUTILE = 2
"""Passes that win nothing before the guest is suspended: one alone may have met a short burst of writes."""

FUTILE_AT_MOST = 5
"""And so many, while more pages are dirty than usual."""

USUAL = 5
"""Looks whose median counts as usual."""

ALL_MEMORY = 0.9
"""A guest that has rewritten so much of its memory in a pass over all of it does so in the next one, too."""

BUSY = 0.9
"""Pages dirtied for each page that can be sent, from which on a guest counts as faster than its output."""

THROTTLED = 0.5
"""Pages dirtied for each page sent, from which on time is taken from a guest, if that is wanted: as in QEMU."""

BEARABLE = 0.3
"""Seconds of a predicted pause for which no time is taken, if nobody has said how long it may be: as in QEMU. But time
is taken if the save would end otherwise, because the guest is busy."""

REST = 0.1
"""Seconds between passes that win nothing, once :data:`MAX_ITERATIONS` were made: while a timeout is waited for."""

FEW = 50
"""Dirty pages below which no guest is busy."""

EXPECTED = "the limits were expected to be kept"

NEARLY = 0.9
"""Pages dirtied while the guest suspends, for each page of ``target_dirty``, from which on no pass can reach that."""

BEYOND = "few enough pages were left, but the guest dirties about as many as target_dirty while it suspends"

TOO_FAST = "the guest dirties pages as fast as they can be sent"

RESTLESS = "the guest changed its p2m more often than the limits allow"

NOT_KNOWN = "it is not known whether the limits can be kept"

MARGIN = 1.3
"""By how much a predicted pause must stay below the limit: predictions are wrong at times."""


class AdaptivePolicy:
    """Goes on while a further pass shortens the pause worth its while, or until the limits are kept; see the module.

    It goes by ``max_downtime``, ``target_dirty``, ``max_iterations`` and ``abort_if_busy`` of ``limits``, as they are
    when it is asked, and with ``throttle`` slows the guest down before it gives up. ``reason`` tells why it gave its
    last answer, and ``rest`` for how many seconds there is nothing to be done before the next pass. An object serves
    one save at a time.
    """

    __slots__ = ("_futile", "_looks", "limits", "reason", "rest")

    name = "adaptive"

    def __init__(self, limits: Optional[Limits] = None) -> None:
        self.limits = Limits() if limits is None else limits
        self.reason, self.rest = "", 0.0
        self._futile = 0
        self._looks: list[int] = []

    @property
    def target_dirty(self) -> Optional[int]:
        """Of the limits."""
        return self.limits.target_dirty

    def __call__(self, stats: PrecopyStats) -> Decision:
        self.rest = 0.0
        if stats.iteration <= 1 and stats.dirty_count is None:
            self._futile, self._looks = 0, []
        if stats.p2m_restless:
            return self._restless(stats)
        if stats.dirty_count is not None and stats.look is not None:  # what the pass to come leaves will be looked at
            return self._say(Decision.CONTINUE, "")
        last = stats.iteration >= self._most()
        if stats.dirty_now is None or stats.predicted_pause is None:
            return self._at_the_end(stats, None, last) if last else self._say(Decision.CONTINUE, "")
        self._looks = [*self._looks[1 - USUAL :], stats.dirty_now]
        met = self._met(stats)
        if stats.bandwidth_changed:
            self._futile, self._looks = 0, []
            if not (last or met):
                return self._say(Decision.CONTINUE, "")
        if not last and (self._throttles(stats, met) or self._pays(stats, met)):
            return self._say(Decision.CONTINUE, "")
        if not last and met is False and not self._ends_busy(stats):
            self.rest = REST if stats.iteration >= MAX_ITERATIONS else 0.0
            return self._say(Decision.CONTINUE, "")
        return self._at_the_end(stats, met, last)

    # -- what there is to know

    def _most(self) -> float:
        """Live passes at most."""
        limits = self.limits
        if limits.max_iterations is not None:
            return limits.max_iterations
        return float("inf") if self._is_asked and limits.timeout is not None else MAX_ITERATIONS

    @property
    def _is_asked(self) -> bool:
        """Whether anything was asked for of the pause."""
        return self.limits.max_downtime is not None or self.limits.target_dirty is not None

    def _met(self, stats: PrecopyStats) -> Optional[bool]:
        """Whether all that was asked for of the pause is reached, as is predicted; None if nothing was."""
        limits, met = self.limits, []
        pause, dirty = stats.predicted_pause, stats.predicted_dirty
        assert pause is not None and dirty is not None
        if limits.max_downtime is not None:
            met.append(pause * MARGIN <= limits.max_downtime)
        if limits.target_dirty is not None:
            if self._is_beyond(stats):
                dirty = stats.dirty_now or 0
            met.append(dirty < limits.target_dirty)
        return all(met) if met else None

    def _is_beyond(self, stats: PrecopyStats) -> bool:
        """Whether no pass can reach ``target_dirty``, as the guest dirties nearly that many while it suspends."""
        target = self.limits.target_dirty
        return target is not None and stats.dirtied_suspending >= NEARLY * target

    def _pays(self, stats: PrecopyStats, met: Optional[bool]) -> bool:
        """Whether a further pass wins enough."""
        gain, pause = stats.predicted_gain, stats.predicted_pause
        assert gain is not None and pause is not None
        share = GAIN_EARLY if stats.iteration < LIBXC_PASSES else GAIN_LATE
        if met:
            share = GAIN_WHEN_MET
        elif met is None and self._futile >= FUTILE:  # a limit is worth each pass that brings it nearer
            share = GAIN_AGAIN
        if gain <= LEAST_GAIN and _cheap(stats):
            return False
        if gain > LEAST_GAIN and gain >= share * pause:
            self._futile = 0
            return True
        if met:
            return False
        self._futile += FUTILE if _rewrites_all(stats) else 1
        if self._futile < FUTILE:
            return True
        return self._futile < FUTILE_AT_MOST and self._is_more_than_usual(stats, pause) and not self._is_busy(stats)

    def _is_more_than_usual(self, stats: PrecopyStats, pause: float) -> bool:
        """Whether so many pages are dirty that to wait for fewer is worth its while."""
        usual = sorted(self._looks)[(len(self._looks) - 1) // 2]
        longer = ((stats.dirty_now or 0) - usual) * (stats.costs_now[1] or 0.0)
        return longer > max(LEAST_GAIN, GAIN_LATE * pause)

    def _throttles(self, stats: PrecopyStats, met: Optional[bool]) -> bool:
        """Whether the guest has got less processor time just now, so that a further pass wins something."""
        dirty, pause = stats.dirty_now or 0, stats.predicted_pause or 0.0
        if met or stats.throttle is None:
            return False
        if met is None and pause <= BEARABLE and not self._ends_busy(stats):
            return False
        if dirty < FEW or dirty < THROTTLED * stats.last_pages or not stats.throttle():
            return False
        self._futile = 0
        return True

    def _ends_busy(self, stats: PrecopyStats) -> bool:
        return self.limits.abort_if_busy and self._is_busy(stats)

    def _is_busy(self, stats: PrecopyStats) -> bool:
        dirty, share = stats.dirty_now or 0, stats.dirtied_for_sent
        if share is None:
            share = 0.0 if stats.bandwidth_changed else dirty / max(stats.last_pages, 1)
        return dirty >= FEW and share >= BUSY

    # -- the answer

    def _say(self, decision: Decision, reason: str) -> Decision:
        self.reason = reason
        return decision

    def _restless(self, stats: PrecopyStats) -> Decision:
        """The guest cannot be saved while it runs, so that no further pass makes its pause shorter."""
        if self.limits.abort_if_busy and self._is_asked:
            if stats.dirty_now is None or stats.predicted_pause is None:
                return self._say(Decision.ABORT, f"abort_if_busy: {RESTLESS}, and {NOT_KNOWN}")
            if not self._met(stats):
                return self._say(Decision.ABORT, f"abort_if_busy: {RESTLESS}, and the limits are not kept")
        return self._say(Decision.STOP_AND_COPY, RESTLESS)

    def _at_the_end(self, stats: PrecopyStats, met: Optional[bool], last: bool) -> Decision:
        busy, limits = self._is_busy(stats), self.limits
        rates = _rates(stats)
        unknown = met is None and self._is_asked
        if limits.abort_if_busy and not met and (busy or unknown or met is False):
            what = TOO_FAST if busy else NOT_KNOWN if unknown else "the limits cannot be kept"
            return self._say(Decision.ABORT, f"abort_if_busy: {what}{rates}")
        if met:
            return self._say(Decision.STOP_AND_COPY, BEYOND if self._is_beyond(stats) else EXPECTED)
        if last:
            return self._say(Decision.STOP_AND_COPY, f"max_iterations: {stats.iteration} live passes were made{rates}")
        if busy:
            return self._say(Decision.STOP_AND_COPY, f"{TOO_FAST}{rates}")
        return self._say(Decision.STOP_AND_COPY, "a further pass would not have shortened the pause worth its while")


def _cheap(stats: PrecopyStats) -> bool:
    """Whether so little is dirty that no pass could win anything."""
    return (stats.dirty_now or 0) * (stats.costs_now[1] or 0.0) <= LEAST_GAIN


def _rewrites_all(stats: PrecopyStats) -> bool:
    return (stats.dirty_now or 0) >= ALL_MEMORY * stats.nr_pfns


def _rates(stats: PrecopyStats) -> str:
    if stats.dirty_now is None or stats.predicted_pause is None or stats.last_seconds <= 0:
        return ""
    dirtied, sent = stats.dirty_now / stats.last_seconds, stats.last_pages / stats.last_seconds
    if stats.dirty_rate is not None and stats.send_seconds:
        dirtied, sent = stats.dirty_rate, 1.0 / stats.send_seconds
    return (
        f" ({dirtied:.0f} a second, and {sent:.0f} can be sent; a pause of {format_seconds(stats.predicted_pause)} was "
        "expected)"
    )
