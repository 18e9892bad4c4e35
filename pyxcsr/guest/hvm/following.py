"""Following an HVM guest's physmap while it runs: gfns that get a page, and gfns that lose theirs.

Up to Xen 4.21 neither is in a dirty bitmap (docs/hvm.md). What Xen tells is how many pages the domain has, which is
asked often because that is cheap, and for 1024 gfns at a time whether they have a page, which is asked when the
number moved, or could not be asked for.
"""

from __future__ import annotations

import time

from pyxcsr.guest.hvm.limits import check_nr_gfns
from pyxcsr.guest.hvm.moves import Moves
from pyxcsr.plain import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.hypervisor.interface import Hypervisor, SaveHandle, SweepResult
    from pyxcsr.report import SaveReport

EXCHANGES_SHOWN = (4, 22)
"""The first Xen whose dirty bitmap has a gfn that gets a page."""

WATCH = 0.004
"""Seconds between two requests for the number of pages while the saver waits for something else."""

UNWATCHED = 0.1
"""Seconds: if the guest has run for longer without the number having been asked for, a look is due, whatever it is.
Within a pass it is asked for more often, unless this process has to wait for a processor."""

REST = 4
"""Within a pass, looks rest this many times as long as one takes: at most a fifth of the time goes into them."""


@final
class PhysmapFollowing:
    """See :class:`pyxcsr.guest.ops.Following` for the contract of each method."""

    restless: Optional[str] = None
    """Never: a look takes as long as it takes, and a guest cannot keep it from ending."""

    def __init__(
        self, hv: Hypervisor, domid: int, save: SaveHandle, poll: Callable[[], None], report: SaveReport
    ) -> None:
        self._hv, self._domid, self._save, self._poll = hv, domid, save, poll
        self._report, self._warnings = report.physmap, report.warnings
        self._rest_until = self._asked = self._costs = 0.0
        self._runs, self._watched = True, False
        self._moves = Moves(self._pages())

    def _pages(self) -> int:
        self._asked = time.monotonic()
        return self._save.watch_pages()

    def tracked(self) -> None:
        self._report.exchanges_shown = self._hv.xen_version() >= EXCHANGES_SHOWN
        self._moves.note(self._pages())

    def begin_pass(self) -> None:
        """Nothing: there is no limit for a pass."""

    @property
    def moving(self) -> bool:
        return self.settled is None

    def watch(self) -> None:
        self._watched = True
        if time.monotonic() >= self._asked + WATCH:
            self._note()

    def look(self, now: bool = False) -> None:
        self._watched = False
        self._note()
        if self._moves.look_due and (now or time.monotonic() >= self._rest_until):
            self._compare()

    def returned(self, longest: float) -> None:
        self._unwatched(longest, time.monotonic())

    def suspended(self, at: Optional[float] = None) -> None:
        # a look now would be one that the guest waits for. Where somebody has watched, if perhaps not all the time, it
        # is made only for a guest whose memory is known to grow and shrink
        self._unwatched(UNWATCHED, time.monotonic() if at is None else at, self._moves.count > 0 or not self._watched)
        self._runs = False

    def goes_on(self, at: Optional[float] = None) -> None:
        self._asked, self._runs = time.monotonic() if at is None else at, True

    def _unwatched(self, longest: float, until: float, look: bool = True) -> None:
        """A look is due, unless the guest has run unwatched for so short a time that a look takes as long."""
        seconds = until - self._asked
        if self._runs and seconds > longest:
            self._report.unwatched = max(self._report.unwatched, seconds)
            if look and seconds > self._costs:
                self._moves.unwatched()

    def _note(self) -> None:
        self.returned(UNWATCHED)
        self._moves.note(self._pages())

    def fetched(self, final: bool) -> None:
        self.returned(UNWATCHED)
        self._asked = time.monotonic()
        info = self._hv.domain_info(self._domid)
        self._moves.bitmap_fetched(info.tot_pages)
        self._save.grow(check_nr_gfns(info, self._hv.nr_gpfns(self._domid)))

    @property
    def settled(self) -> Optional[int]:
        """See Moves.settled."""
        return self._moves.settled

    def ended(self, found: SweepResult) -> None:
        self._moves.bitmap_fetched(self._moves.pages)
        self.sweep(True)

    def sweep(self, final: bool) -> int:
        """Looks once more, and marks all that has data if pages may have gone and come back unseen."""
        marked = self._compare() if self._moves.look_due else 0
        if self._moves.all_again():
            marked += self._save.mark_data()
            self._report.sent_again += 1
            if final:
                self._warn(
                    f"domain {self._domid} gave pages back and got others until it was suspended, so all its pages "
                    "were sent once more while it stood still; docs/hvm.md says why"
                )
        self._report.moves = self._moves.count
        if final and self._moves.both_ways:
            self._report.may_have_missed = True
            self._warn(
                f"domain {self._domid} gave pages back and got others while it was saved. What was noticed was sent "
                "again; docs/hvm.md says what Xen gives no way to notice"
            )
        elif final and self._moves.moved_unwatched:
            self._report.may_have_missed = True
            self._warn(
                f"domain {self._domid} gave pages back, or got some, while or just before nobody could ask how many it "
                f"has, for up to {self._report.unwatched:.2f} s. What differed afterwards was sent again; docs/hvm.md "
                "says what that does not show"
            )
        return marked

    def _warn(self, text: str) -> None:
        if text not in self._warnings:  # a checkpointed save comes here again and again
            self._warnings.append(text)

    def _compare(self) -> int:
        """Looks at all gfns. What differs from what was sent is sent again; returns how many are marked for that."""
        began = time.monotonic()
        self._moves.look_begins()
        found = self._save.look_at_physmap(self._between)
        self._moves.look_ends(self._pages(), found.appeared, found.vanished)
        took = time.monotonic() - began
        self._rest_until, self._costs = began + took * (1 + REST), took
        report = self._report
        report.looks += 1
        report.appeared += found.appeared
        report.vanished += found.vanished
        report.seconds_looking += took
        return found.appeared + found.vanished

    def _between(self) -> None:
        self._poll()
        self._note()
