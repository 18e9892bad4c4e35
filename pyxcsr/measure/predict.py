"""What a live save would come to, by the curve of distinct pages: passes, bytes, time, and the pause."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Optional

from pyxcsr.measure.curve import Curve
from pyxcsr.policies.adaptive import MARGIN
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.transfer.costs import FIXED
from pyxcsr.transfer.outlook import STATE, STATE_VCPU, SUSPENDING

WORTH = 0.9
"""A further pass is made if it leaves less than this share of the dirty pages."""

MAX_ITERATIONS = 30
Why = Literal["short enough", "no further gain", "passes used up"]


@dataclass(frozen=True)
class Prediction:
    """A live save as it would probably be. ``bandwidth``: bytes a second; ``max_downtime``: in seconds, or None.

    ``passes``: while the guest runs; ``seconds``: of the whole save; ``pause``: seconds for which the guest is paused,
    ``dirty``: pages that are sent in them; ``within``: whether the pause keeps the limit, None if there is none;
    ``why``: why no further pass is made.
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

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Guest:
    """What a prediction needs of a guest. ``fetch``: seconds that one dirty bitmap takes."""

    def __init__(self, curve: Curve, nr_pages: int, nr_vcpus: int, fetch: float) -> None:
        self.curve, self.nr_pages, self.fetch = curve, nr_pages, fetch
        self.state = FIXED + STATE + STATE_VCPU * nr_vcpus


def predict(
    guest: Guest, bandwidth: float, max_downtime: Optional[float] = None, max_iterations: int = MAX_ITERATIONS
) -> Prediction:
    """Goes through the passes of a save to an output that takes ``bandwidth`` bytes a second.

    Passes are made much as the policy "adaptive" makes them: until the pause is within ``max_downtime`` with something
    to spare, for as long as passes may be made; without it until a further one would leave hardly less. The guest is
    supposed to go on as it did while it was measured, and the output to be the only thing that is slow.
    """
    page = PAGE_BYTES / bandwidth

    def after(pages: float) -> float:
        return guest.curve.pages(guest.fetch + pages * page)

    sent, passes, last, why = float(guest.nr_pages), 1, float(guest.nr_pages), None
    seconds = sent * page
    while True:
        dirty = guest.curve.pages(guest.fetch + last * page + SUSPENDING)
        pause = guest.fetch + guest.state + dirty * page
        why = _why(after(last), after(after(last)), pause, max_downtime, passes, max_iterations)
        if why is not None:
            break
        last = after(last)
        passes, sent, seconds = passes + 1, sent + last, seconds + guest.fetch + last * page
    within = None if max_downtime is None else pause <= max_downtime
    total = seconds + SUSPENDING + pause
    return Prediction(
        bandwidth, max_downtime, passes, round(sent + dirty), round((sent + dirty) * PAGE_BYTES), total, round(dirty),
        pause, within, why,
    )  # fmt: skip


def _why(
    dirty: float, then: float, pause: float, max_downtime: Optional[float], passes: int, max_iterations: int
) -> Optional[Why]:
    if max_downtime is not None and pause * MARGIN <= max_downtime:
        return "short enough"
    if passes >= max_iterations:
        return "passes used up"
    if max_downtime is None and (dirty < 1 or then > WORTH * dirty):
        return "no further gain"
    return None
