"""What a live save would come to, by the curve of distinct pages: passes, bytes, time, and the pause."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Optional

from pyxcsr.limits.limits import Limits
from pyxcsr.measure.curve import Curve
from pyxcsr.policies.adaptive import BUSY, FEW, MARGIN, MAX_ITERATIONS, NEARLY, REST
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.transfer.costs import FIXED
from pyxcsr.transfer.outlook import STATE, STATE_VCPU, SUSPENDING, WINDOW

WORTH = 0.9
"""A further pass is made if it leaves less than this share of the dirty pages."""

Why = Literal["short enough", "no further gain", "passes used up", "timeout", "too busy"]
Ends = Literal["saved", "aborted"]


@dataclass(frozen=True)
class Prediction:
    """A live save as it would probably be. ``bandwidth``: bytes a second; ``max_downtime``: in seconds, or None.

    ``passes``: while the guest runs; ``seconds``: of the whole save; ``pause``: seconds for which the guest is paused,
    ``dirty``: pages that are sent in them; ``within``: whether the pause keeps the limit, None if there is none;
    ``target_reached``: likewise, whether ``dirty`` is less than ``target_dirty``; ``why``: why no further pass is made;
    ``ends``: "aborted" if a limit ends the save, and the guest runs on: then ``pages``, ``bytes`` and ``seconds`` are
    those until that, ``pause`` and ``dirty`` what the pause would have come to, and nothing is kept or reached.
    """

    bandwidth: float
    max_downtime: Optional[float]
    passes: int
    pages: int
    bytes: int
    seconds: float
    dirty: int
    pause: float
    within: Optional[bool]
    why: Why
    ends: Ends = "saved"
    target_reached: Optional[bool] = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Guest:
    """What a prediction needs of a guest. ``fetch``: seconds that one dirty bitmap takes."""

    def __init__(self, curve: Curve, nr_pages: int, nr_vcpus: int, fetch: float) -> None:
        self.curve, self.nr_pages, self.fetch = curve, nr_pages, fetch
        self.state = FIXED + STATE + STATE_VCPU * nr_vcpus


def predict(guest: Guest, bandwidth: float, limits: Optional[Limits] = None) -> Prediction:
    """Goes through the passes of a save to an output that takes ``bandwidth`` bytes a second.

    Passes are made much as the policy "adaptive" makes them: until ``max_downtime`` and ``target_dirty`` of the
    ``limits`` are kept, the pause with something to spare, for as long as passes may be made; without these until a
    further one would leave hardly less. The guest is supposed to go on as it did while it was measured, the output to
    be the only thing that is slow, and nothing to be won by ``throttle``.
    """
    return _Passes(guest, bandwidth, Limits() if limits is None else limits).run()


class _Passes:
    """The passes of one save. ``_last``: pages of the last one; ``_sent``, ``_seconds``: of all until its end."""

    def __init__(self, guest: Guest, bandwidth: float, limits: Limits) -> None:
        self._guest, self._bandwidth, self._limits = guest, bandwidth, limits
        slower = bandwidth if limits.bandwidth is None else min(bandwidth, limits.bandwidth)
        self._page = PAGE_BYTES / slower
        self._page_paused = self._page if limits.bandwidth_while_paused else PAGE_BYTES / bandwidth
        self._asked = limits.max_downtime is not None or limits.target_dirty is not None
        self._passes, self._last = 1, float(guest.nr_pages)
        self._sent, self._seconds = self._last, self._last * self._page

    def run(self) -> Prediction:
        while True:
            if self._limits.timeout is not None and self._seconds > self._limits.timeout:
                return self._timed_out(self._limits.timeout)
            why = self._why()
            if why is not None:
                return self._ended(why)
            if self._is_at_rest():
                self._skip()
            else:
                self._pass()

    # -- passes

    def _after(self, pages: float) -> float:
        """What a pass over so many pages leaves dirty."""
        return self._guest.curve.pages(self._guest.fetch + pages * self._page)

    def _pass(self) -> None:
        self._last = self._after(self._last)
        self._passes, self._sent = self._passes + 1, self._sent + self._last
        self._seconds += self._guest.fetch + self._last * self._page

    def _is_at_rest(self) -> bool:
        """Whether there is nothing but a timeout, or the number of passes, that ends these: so many may be made until
        then that they are not gone through one by one."""
        return self._passes >= MAX_ITERATIONS

    def _skip(self) -> None:
        """All passes until the timeout, or as many as are allowed, at once: as long as the last one."""
        pages = self._after(self._last)
        each = max(REST, self._guest.fetch + pages * self._page)
        most = [self._most() - self._passes]
        if self._limits.timeout is not None:
            most.append(math.floor(max(0.0, self._limits.timeout - self._seconds) / each) + 1)
        passes = int(min(most))
        self._last = pages
        self._passes, self._sent = self._passes + passes, self._sent + passes * pages
        self._seconds += passes * each

    # -- the end

    def _dirty(self) -> float:
        """Pages that are sent in the pause if it begins now."""
        return self._guest.curve.pages(self._guest.fetch + self._last * self._page + SUSPENDING)

    def _pause(self, dirty: float) -> float:
        return self._guest.fetch + self._guest.state + dirty * self._page_paused

    def _is_met(self) -> bool:
        """Whether all that was asked for of the pause is kept."""
        limits, dirty = self._limits, self._dirty()
        if limits.target_dirty is not None:
            beyond = self._guest.curve.pages(SUSPENDING) >= NEARLY * limits.target_dirty  # no pass can reach it
            if not (self._after(self._last) if beyond else dirty) < limits.target_dirty:
                return False
        return limits.max_downtime is None or self._pause(dirty) * MARGIN <= limits.max_downtime

    def _most(self) -> float:
        """Live passes at most, as the policy has it."""
        if self._limits.max_iterations is not None:
            return self._limits.max_iterations
        return math.inf if self._asked and self._limits.timeout is not None else MAX_ITERATIONS

    def _why(self) -> Optional[Why]:
        """Why no further pass is made, or None."""
        dirty = self._after(self._last)
        if self._asked and self._is_met():
            return "short enough"
        busy = self._limits.abort_if_busy and dirty >= FEW
        if self._asked and busy and self._is_faster(self._last):
            return "too busy"
        if self._passes >= self._most():
            return "passes used up"
        if not self._asked and (dirty < 1 or self._after(dirty) > WORTH * dirty):
            return "too busy" if busy and self._is_faster(dirty) else "no further gain"
        return None

    def _is_faster(self, pages: float) -> bool:
        """Whether the guest dirties about as many pages as can be sent, during a pass over so many."""
        seconds = max(WINDOW, pages * self._page)
        return self._guest.curve.pages(seconds) * self._page >= BUSY * seconds

    def _ended(self, why: Why) -> Prediction:
        missed = self._limits.abort_if_busy and self._asked and why != "short enough"
        return self._prediction(self._dirty(), why, "aborted" if missed or why == "too busy" else "saved")

    def _timed_out(self, timeout: float) -> Prediction:
        """The time is over in the middle of the last pass: what is left of that is dirty, too."""
        left = min(self._last, (self._seconds - timeout) / self._page)
        done = self._last - left
        dirty = self._guest.curve.pages(self._guest.fetch + done * self._page + SUSPENDING)
        self._sent, self._seconds = self._sent - left, timeout
        ends: Ends = "saved" if self._limits.on_timeout == "suspend" else "aborted"
        return self._prediction(min(float(self._guest.nr_pages), left + dirty), "timeout", ends)

    def _prediction(self, dirty: float, why: Why, ends: Ends) -> Prediction:
        pause, sent, seconds = self._pause(dirty), self._sent, self._seconds
        if ends == "saved":
            sent, seconds = sent + dirty, seconds + SUSPENDING + pause
        limit, target = self._limits.max_downtime, self._limits.target_dirty
        within = None if limit is None or ends == "aborted" else pause <= limit
        reached = None if target is None or ends == "aborted" else dirty < max(target, 1)
        return Prediction(
            self._bandwidth, limit, self._passes, round(sent), round(sent * PAGE_BYTES), seconds, round(dirty), pause,
            within, why, ends, reached,
        )  # fmt: skip
