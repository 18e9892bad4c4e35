"""How a save goes about it: when it stops copying and suspends the guest, how a changing p2m is followed, who maps."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Callable, Optional


class Decision(enum.Enum):
    """What a policy answers (libxc's XGS_POLICY_*).

    STOP_AND_COPY to a known dirty count: these pages are sent while the guest still runs, then it is
    suspended, so that only what it writes meanwhile is left for the pause.
    """

    CONTINUE = "continue"
    STOP_AND_COPY = "stop-and-copy"
    ABORT = "abort"


@dataclass(frozen=True)
class PrecopyStats:
    """What a policy is told. It is asked twice after each live pass: at once, and with the dirty count.

    ``iteration``: passes completed; ``dirty_count``: pfns the next pass would have to send, or None
    while that is not known (asking Xen for it also clears it, so it must then be sent);
    ``nr_pfns``: of the guest; ``pages_sent``, ``bytes_sent`` and ``seconds``: since the save began;
    ``last_bytes`` and ``last_seconds``: of the pass just done; ``p2m_restless``: the guest changes its p2m's
    structure more often than the limits allow (:class:`P2mLimits`), and the save cannot go on like this:
    STOP_AND_COPY suspends the guest at once, with all that is dirty left to send, anything else ends the save.
    """

    iteration: int
    dirty_count: Optional[int]
    nr_pfns: int
    pages_sent: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    last_bytes: int = 0
    last_seconds: float = 0.0
    p2m_restless: bool = False

    @property
    def bytes_per_second(self) -> Optional[float]:
        """The last pass's rate, or None if it was too short to tell."""
        return self.last_bytes / self.last_seconds if self.last_seconds > 0 else None


Policy = Callable[[PrecopyStats], Decision]


@dataclass(frozen=True)
class SimplePolicy:
    """Stops below ``target_dirty`` pages, after ``max_iterations`` live passes, or when the p2m never holds still.

    The defaults are libxenguest's (simple_precopy_policy: 5 passes, 50 pages).
    """

    max_iterations: int = 5
    target_dirty: int = 50

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise ValueError("max_iterations must be at least 1")
        if self.target_dirty < 0:
            raise ValueError("target_dirty must not be negative")

    def __call__(self, stats: PrecopyStats) -> Decision:
        few = stats.dirty_count is not None and stats.dirty_count < self.target_dirty
        stop = few or stats.iteration >= self.max_iterations or stats.p2m_restless
        return Decision.STOP_AND_COPY if stop else Decision.CONTINUE


P2M_CHANGES = ("follow", "abort")
"""What a save does if the guest changes its p2m meanwhile: send what has become of it, or give up."""

DEFAULT_P2M_CHANGES = "follow"


DEFAULT_MAP_AHEAD: Optional[bool] = None
"""Whether a second thread maps the next pages: by measurement."""


def map_ahead_here(wanted: Optional[bool]) -> Optional[bool]:
    """The same, but False instead of None where this process has one processor, and so nothing to win."""
    if wanted is None and len(os.sched_getaffinity(0)) < 2:
        return False
    return wanted


@dataclass(frozen=True)
class P2mLimits:
    """How long a guest that keeps changing its p2m's structure is followed while it runs.

    ``per_pass``, ``in_all``: changes followed in one pass and in the whole save; beyond, the policy is asked with
    ``p2m_restless``. ``settle_seconds``: how long one change may take (an odd p2m_generation) before the save ends.
    """

    per_pass: int = 1000
    in_all: int = 10000
    settle_seconds: float = 1.0

    def __post_init__(self) -> None:
        if min(self.per_pass, self.in_all) < 0 or not self.settle_seconds >= 0:
            raise ValueError("the limits of following a p2m must not be negative")
