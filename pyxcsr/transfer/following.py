"""A save's side of a p2m that changes: when to look, what to send again, and when enough is enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Optional

from pyxcsr.errors import P2mChanged
from pyxcsr.guest.ops import SaveOps
from pyxcsr.hypervisor.interface import SaveHandle, SweepResult
from pyxcsr.policy import P2mLimits
from pyxcsr.report import P2mReport
from pyxcsr.stream.records import Record


class Following:
    """Looks whether the p2m has changed, tells the receiver, and finds what must be sent again.

    ``restless`` says why, once the guest has changed its p2m more often than the limits allow: it is not followed any
    more then, until it is suspended.
    """

    def __init__(
        self,
        ops: SaveOps,
        save: SaveHandle,
        write: Callable[[Iterable[Record]], None],
        limits: P2mLimits,
        report: P2mReport,
    ) -> None:
        self._ops, self._save, self._write = ops, save, write
        self._limits, self._report = limits, report
        self._began = time.monotonic()
        self._at_pass = 0
        self.restless: Optional[str] = None
        save.follow()

    def begin_pass(self) -> None:
        """A pass begins: its own count of changes, too."""
        self._at_pass = self._count()

    def look(self) -> None:
        """Follows a change of the p2m of a running guest, unless there were too many."""
        if self.restless:
            return
        try:
            self._take(self._ops.check_iteration())
        except P2mChanged:  # it did not hold still long enough to be read: what is mapped serves until the next look
            self._report.overtaken += 1
        if self._count() - self._at_pass > self._limits.per_pass:
            self._give_up(f"more than {self._limits.per_pass} times in one pass")
        elif self._count() > self._limits.in_all:
            self._give_up(f"more than {self._limits.in_all} times")

    def _count(self) -> int:
        return self._report.follows + self._report.overtaken

    def _give_up(self, why: str) -> None:
        count, seconds = self._count(), time.monotonic() - self._began
        self._report.restless = True
        self.restless = (
            f"the guest keeps changing the structure of its p2m: {count} changes were noticed in {seconds:.1f} s "
            f"({count / max(seconds, 1e-3):.1f} a second), {why}"
        )

    def tracked(self) -> None:
        """Log-dirty mode is on from now: what was written before that nobody knows."""
        self._ops.note_written(lambda mfns: True)

    def fetched(self) -> None:
        """The dirty bitmap has come."""
        self._ops.note_written(self._save.written)

    def settle(self) -> None:
        """The guest is suspended: the p2m once more, whatever was announced or missed."""
        self._take(self._ops.settle())

    def _take(self, records: Iterable[Record]) -> None:
        self._write(records)
        self._save.grow(self._ops.nr_pfns)

    def sweep(self, whole: bool) -> int:
        """Marks what must be sent again, after the dirty bitmap was fetched; returns how many pfns that adds."""
        began = time.monotonic()
        found = self._save.sweep(whole)
        self._report.seconds_sweeping += time.monotonic() - began
        self._note(found)
        return found.marked

    def _note(self, found: SweepResult) -> None:
        report = self._report
        report.sweeps += 1
        report.appeared += found.appeared
        report.vanished += found.vanished
        report.moved += found.moved
        report.returned += found.returned
        report.tables += found.tables
        report.resent += found.marked
