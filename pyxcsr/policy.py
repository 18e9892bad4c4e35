"""Decisions of a save: when to stop copying and suspend the guest, what to do about a changing p2m, who maps pages."""

from __future__ import annotations

import os

from pyxcsr.arguments import check_number
from pyxcsr.plain import TYPE_CHECKING, dataclass, field, late
from pyxcsr.plain_enum import Enum

if TYPE_CHECKING:
    from typing import Callable, Literal, Optional

    Costs = Callable[[int], tuple[float, Optional[float]]]
    Suspending = Callable[[], float]


class Decision(Enum):
    """What a policy answers (libxc's XGS_POLICY_*).

    A policy is asked twice after each live pass: see :class:`PrecopyStats`. If it answers STOP_AND_COPY while
    ``dirty_count`` is None, the guest is suspended at once. If it does so when the count is known, one more live pass
    sends those pages, and only then is the guest suspended: what it writes during that pass is left for the last one.
    """

    CONTINUE = "continue"
    STOP_AND_COPY = "stop-and-copy"
    ABORT = "abort"


def pause_of(pause_seconds: float, page_seconds: Optional[float], dirty: Optional[int]) -> Optional[float]:
    """Seconds for which a guest is paused with ``dirty`` pfns dirty (see :class:`PrecopyStats`), or None."""
    if page_seconds is None or dirty is None:
        return None
    return pause_seconds + page_seconds * dirty


@dataclass(frozen=True)
class PrecopyStats:
    """What a policy is told. It is asked twice after each live pass: before and after the dirty bitmap is fetched.

    ``iteration``: how many passes are complete; ``dirty_count``: how many pfns the next pass has to send, or None as
    long as the bitmap has not been fetched (fetching it clears Xen's, so that pass must then be made);
    ``nr_pfns``: how many pfns the guest has; ``pages_sent``, ``bytes_sent`` and ``seconds``: since the save began;
    ``last_bytes``, ``last_pages`` and ``last_seconds``: of the pass just made; ``dirty_rate``: how many pfns the guest
    dirties in a second, as last measured, or None; ``pause_seconds``: how long the pause would be if nothing were
    dirty, ``page_seconds``: how much longer each dirty page makes it, as measured in this save, None at first;
    ``send_seconds``: how much longer each dirty page makes a pass while the guest runs, where the bandwidth limit holds
    and pages are unmapped at once, None at first;
    ``look``: asks Xen how many pfns are dirty now, while ``dirty_count`` is None. It fetches nothing, so that no pass
    must follow, but the guest stands still for a moment; it returns None, or is None, where that cannot be
    told. ``dirty_now`` and the predictions call it. ``costs``: what ``pause_seconds`` and ``page_seconds`` are with so
    many pfns dirty (a slow output counts only for more than it takes at once): the predictions go by that; None: they
    are as they stand. ``throttle``: takes one step more of its processor time from the
    guest and returns True, or False if no more can be taken; None where that is not wanted. ``suspending``: how many
    pfns the guest dirties while it suspends, with all of its processor time, as last measured; None: not known.
    ``bandwidth_changed``: the bandwidth limit has become quite another since the policy was asked after the pass
    before, so that the passes made so far tell little of the next one. ``p2m_restless``: the guest
    changes the structure of its p2m more often than :class:`P2mLimits` allow, so that it cannot be saved while it runs.
    Then STOP_AND_COPY suspends it at once, with all that is dirty left for the last pass, and any other answer ends the
    save.
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
    last_pages: int = 0
    dirty_rate: Optional[float] = None
    pause_seconds: float = 0.0
    page_seconds: Optional[float] = None
    send_seconds: Optional[float] = None
    look: Optional[Callable[[], Optional[int]]] = field(default=None, compare=False, repr=False)
    throttle: Optional[Callable[[], bool]] = field(default=None, compare=False, repr=False)
    costs: Optional[Costs] = field(default=None, compare=False, repr=False)
    suspending: Optional[Suspending] = field(default=None, compare=False, repr=False)
    bandwidth_changed: bool = False

    @property
    def dirty_now(self) -> Optional[int]:
        """How many pfns are dirty at this moment; None if that is not known.

        Once the dirty bitmap has been fetched these are the ones that the next pass sends.
        """
        if self.dirty_count is not None:
            return self.dirty_count
        return self.look() if self.look is not None else None

    @property
    def dirtied_suspending(self) -> float:
        """How many pfns the guest dirties while it suspends; 0 if that is not known."""
        return 0.0 if self.suspending is None else self.suspending()

    @property
    def predicted_dirty(self) -> Optional[int]:
        """How many pfns would be left for the pause if the guest were suspended now: those that are dirty, and those
        that it dirties while it suspends. None if that is not known."""
        dirty = self.dirty_now
        return None if dirty is None else dirty + round(self.dirtied_suspending)

    @property
    def costs_now(self) -> tuple[float, Optional[float]]:
        """``pause_seconds`` and ``page_seconds`` for as many pfns as are dirty now."""
        dirty = self.dirty_now
        return (self.pause_seconds, self.page_seconds) if dirty is None or self.costs is None else self.costs(dirty)

    @property
    def predicted_pause(self) -> Optional[float]:
        """Seconds for which the guest would be paused if it were suspended now; None if that is not known."""
        return pause_of(*self.costs_now, self.dirty_now)

    @property
    def predicted_gain(self) -> Optional[float]:
        """By how many seconds a further pass shortens that, if the guest goes on as it did in the pass just made."""
        dirty, (_, page_seconds) = self.dirty_now, self.costs_now
        if dirty is None or page_seconds is None:
            return None
        again = min(1.0, dirty / self.last_pages) if self.last_pages else float(dirty > 0)
        return page_seconds * dirty * (1.0 - again)

    @property
    def dirtied_for_sent(self) -> Optional[float]:
        """How many pages the guest dirties for each one that can be sent in the same time; None if that is not known.

        What a pass takes whatever it sends is not counted: the shorter the passes are, the more of their time that is,
        and a guest that dirties as many pages in such a pass as it sent is far from being as fast as the output.
        """
        if self.dirty_rate is None or self.send_seconds is None:
            return None
        return self.dirty_rate * self.send_seconds

    @property
    def bytes_per_second(self) -> Optional[float]:
        """The rate of the pass just made, or None if it was too short to tell."""
        return self.last_bytes / self.last_seconds if self.last_seconds > 0 else None


if TYPE_CHECKING:
    Policy = Callable[[PrecopyStats], Decision]
    """What says when to stop copying.

    A policy may have a number ``target_dirty``: that many dirty pages are more than it wants to be left for the pause.
    Then the report says whether that was reached (:class:`pyxcsr.SaveReport`): by what was left, or, if the policy
    answered STOP_AND_COPY when ``dirty_count`` was known, by that count. It may have a text ``reason``, why it
    gave its last answer: that is in the report, and in the error if it answered ABORT. It may have a number ``rest``:
    so many seconds, one at most, pass before the next dirty bitmap is fetched.
    """

    P2mChanges = Literal["follow", "abort"]
else:
    __getattr__ = late(
        __name__,
        Policy=lambda typing: typing.Callable[[PrecopyStats], Decision],
        P2mChanges=lambda typing: typing.Literal["follow", "abort"],
    )


@dataclass(frozen=True)
class SimplePolicy:
    """Stops below ``target_dirty`` pages, after ``max_iterations`` live passes, or if the guest's p2m is restless.

    The defaults are libxenguest's (simple_precopy_policy: 5 passes, 50 pages). Raises UsageError for other numbers.
    """

    max_iterations: int = 5
    target_dirty: int = 50

    name = "libxc"

    def __post_init__(self) -> None:
        check_number("max_iterations", self.max_iterations, 1)
        check_number("target_dirty", self.target_dirty, 0)

    def __call__(self, stats: PrecopyStats) -> Decision:
        few = stats.dirty_count is not None and stats.dirty_count < self.target_dirty
        stop = few or stats.iteration >= self.max_iterations or stats.p2m_restless
        return Decision.STOP_AND_COPY if stop else Decision.CONTINUE


P2M_CHANGES: tuple[P2mChanges, ...] = ("follow", "abort")
"""What a save does if the guest changes its p2m meanwhile: bring the stream into line with it, or end."""

DEFAULT_P2M_CHANGES: P2mChanges = "follow"


DEFAULT_MAP_AHEAD: Optional[bool] = None
"""Whether a second thread maps the next pages. None: where measurements say that it is worth it."""


def map_ahead_here(wanted: Optional[bool]) -> Optional[bool]:
    """``wanted``, but False instead of None if this process may use only one processor: nothing is to be won."""
    if wanted is None and len(os.sched_getaffinity(0)) < 2:
        return False
    return wanted


@dataclass(frozen=True)
class P2mLimits:
    """How far a guest that keeps changing the structure of its p2m is followed while it runs.

    ``per_pass``, ``in_all``: how many changes are followed in one pass, and in the whole save. If there are more, the
    policy is asked with ``p2m_restless``. ``settle_seconds``: how long p2m_generation may stay odd, which it is during
    a change, or a tree be unreadable, before the save ends. Raises UsageError for negative ones.
    """

    per_pass: int = 1000
    in_all: int = 10000
    settle_seconds: float = 1.0

    def __post_init__(self) -> None:
        check_number("per_pass", self.per_pass, 0)
        check_number("in_all", self.in_all, 0)
        check_number("settle_seconds", self.settle_seconds, 0, (int, float))
