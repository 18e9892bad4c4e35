"""Following a PV guest's p2m while it runs: when to look, what to send again, and when to stop following."""

from __future__ import annotations

import time

from pyxcsr.errors import P2mChanged
from pyxcsr.plain import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Optional

    from pyxcsr.guest.ops import Write
    from pyxcsr.guest.pv.changes import FollowedChanges
    from pyxcsr.hypervisor.interface import SaveHandle, SweepResult
    from pyxcsr.policy import P2mLimits
    from pyxcsr.report import P2mReport
    from pyxcsr.stream.records import Record


@final
class P2mFollowing:
    """See :class:`pyxcsr.guest.ops.Following` for the contract of each method."""

    def __init__(
        self, changes: FollowedChanges, save: SaveHandle, write: Write, limits: P2mLimits, report: P2mReport
    ) -> None:
        self._changes, self._save, self._write = changes, save, write
        self._limits, self._report = limits, report
        self._began = time.monotonic()
        self._at_pass = 0
        self.restless: Optional[str] = None
        self.moving = False
        save.follow()

    def tracked(self) -> None:
        self._changes.note_written(lambda mfns: True)
        self._changes.handle.check_leaves()

    def begin_pass(self) -> None:
        self._at_pass = self._count()

    def watch(self) -> None:
        """Nothing: a p2m's pages tell later, too, that they were written."""

    def returned(self, longest: float) -> None:
        """Nothing, for the same reason."""

    def suspended(self, at: Optional[float] = None) -> None:
        """Nothing, for the same reason."""

    def goes_on(self, at: Optional[float] = None) -> None:
        """Nothing, for the same reason."""

    def look(self, now: bool = False) -> None:
        if self.restless:
            return
        try:
            self._take(self._changes.check())
        except P2mChanged:  # it changed again and again while it was read: what is mapped is used until the next look
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

    def fetched(self, final: bool) -> None:
        self._changes.note_written(self._save.written)
        if final:  # once more, whatever the guest has announced or kept silent about
            self._take(self._changes.look_last())
        else:
            self.look()

    def _take(self, records: Iterable[Record]) -> None:
        self._write(records)
        self._save.grow(self._changes.nr_pfns)

    def sweep(self, final: bool) -> int:
        """While the guest runs the whole p2m is compared; once it is suspended, only pages that were written."""
        began = time.monotonic()
        found = self._save.sweep(final)
        self._report.seconds_sweeping += time.monotonic() - began
        self._note(found)
        return found.marked

    def ended(self, found: SweepResult) -> None:
        self._changes.looked_last()
        self._note(found)

    def _note(self, found: SweepResult) -> None:
        report = self._report
        report.sweeps += 1
        report.appeared += found.appeared
        report.vanished += found.vanished
        report.moved += found.moved
        report.returned += found.returned
        report.tables += found.tables
        report.resent += found.marked
