"""Asking the policy: what it is told, and what is made of its answer."""

from __future__ import annotations

import errno

from pyxcsr.errors import Cancelled, HypervisorError, UsageError
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.transfer.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.policy import Policy
    from pyxcsr.report import SaveReport
    from pyxcsr.transfer.outlook import Outlook
    from pyxcsr.transfer.throttling import Throttling

    Count = Callable[[], int]
    """Asks Xen how many pfns are dirty. Raises HypervisorError."""


LONGEST_REST = 1.0


class Deciding:
    """One save's policy. ``count``: see :data:`Count`; if it fails once it is not called again: that is a warning."""

    def __init__(
        self,
        policy: Policy,
        report: SaveReport,
        outlook: Outlook,
        count: Count,
        throttling: Optional[Throttling] = None,
    ) -> None:
        self._policy, self._report, self._outlook, self._count = policy, report, outlook, count
        self._throttling = throttling
        self._target = Target(policy)
        self._can_look = True
        self._bandwidth_changed = False
        report.policy = name_of(policy)

    def ask(
        self, dirty: Optional[int], *, nr_pfns: int, bytes_sent: int, seconds: float, restless: bool = False
    ) -> Decision:
        """The policy's answer. ``dirty``: see :class:`PrecopyStats`. Raises Cancelled if it is ABORT."""
        last = self._report.passes[-1]
        if self._throttling is not None:
            self._outlook.slowed = self._throttling.taken
        if dirty is None:  # else it was told when it was asked before
            self._bandwidth_changed, self._outlook.bandwidth_changed = self._outlook.bandwidth_changed, False
        stats = PrecopyStats(
            iteration=len(self._report.passes),
            dirty_count=dirty,
            nr_pfns=nr_pfns,
            pages_sent=self._report.pages,
            bytes_sent=bytes_sent,
            seconds=seconds,
            last_bytes=last.bytes,
            last_seconds=last.seconds,
            p2m_restless=restless,
            last_pages=last.pages,
            dirty_rate=self._outlook.dirty_rate,
            pause_seconds=self._outlook.pause_seconds,
            page_seconds=self._outlook.page_seconds,
            costs=self._outlook.costs,
            send_seconds=self._outlook.send_seconds,
            look=Looking(self._look) if self._can_look else None,
            throttle=self._throttling.step if self._throttling is not None and self._throttling.wanted else None,
            suspending=self._outlook.suspending,
            bandwidth_changed=self._bandwidth_changed,
        )
        decision = self._policy(stats)
        if not isinstance(decision, Decision):
            raise UsageError(
                f"the policy returned {decision!r}, which is no pyxcsr.Decision; the guest goes on",
                domid=self._report.domid,
            )
        reason = self._reason()
        if decision is Decision.ABORT:
            raise self._aborted(stats, reason)
        if decision is Decision.STOP_AND_COPY:
            self._report.stopped = reason
            self._target.decided(dirty if self._can_look else None)  # who would rather look means what is left
        return decision

    @property
    def rest(self) -> float:
        """For how many seconds the policy has nothing to do before the next pass."""
        rest = getattr(self._policy, "rest", 0.0)
        return min(float(rest), LONGEST_REST) if isinstance(rest, (int, float)) else 0.0

    def change(self, policy: Policy) -> None:
        """Another policy is asked from now on."""
        self._policy = self._target.policy = policy
        self._report.policy = name_of(policy)

    def suspends(self, left: int) -> None:
        """The guest is about to be asked to suspend, with so many pages of a pass under way still to be sent."""
        self._target.settle(left)

    def finish(self) -> None:
        """The last pass of a live save has been made: puts into the report whether the target was reached."""
        self._target.tell(self._report)

    def look(self) -> None:
        """How many pages are dirty by now, for what is predicted last; only where Xen's own count of them will do."""
        if self._can_look and self._outlook.has_fetched:
            try:
                self._outlook.looked(self._count())
            except HypervisorError:  # then the rate tells it; the last bitmap asks the same, and says what is wrong
                self._can_look = False

    def _look(self) -> Optional[int]:
        try:
            dirty = self._count()
        except HypervisorError as problem:
            self._can_look = False
            self._report.warnings.append(f"the policy was not told how many pages are dirty: {problem}")
            return None
        self._outlook.looked(dirty)
        return dirty

    def _reason(self) -> str:
        reason = getattr(self._policy, "reason", "")
        return reason if isinstance(reason, str) else ""

    def _aborted(self, stats: PrecopyStats, reason: str) -> Cancelled:
        domid, dirty = self._report.domid, stats.dirty_count
        limit = "abort_if_busy" if reason.startswith("abort_if_busy") else None
        facts = {"limit": limit, "errno": errno.EBUSY} if limit else {}
        left = f"with {'an unknown number of' if dirty is None else dirty} pages dirty"
        return Cancelled(
            f"the policy ended the save of domain {domid} after {stats.iteration} passes, {reason or left}; the guest "
            "runs on",
            domid=domid,
            by="policy",
            **facts,
        )


class Looking:
    """A look that is made once for one question, however often the policy asks for what it tells."""

    __slots__ = ("_count", "_done", "_look")

    def __init__(self, look: Callable[[], Optional[int]]) -> None:
        self._look, self._done = look, False
        self._count: Optional[int] = None

    def __call__(self) -> Optional[int]:
        if not self._done:
            self._count, self._done = self._look(), True
        return self._count


def name_of(policy: Policy) -> str:
    """What a policy is called: by itself, or by the name of its function or class."""
    name = getattr(policy, "name", None) or getattr(policy, "__name__", None)
    return name if isinstance(name, str) else type(policy).__name__
