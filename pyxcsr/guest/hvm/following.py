"""Following an HVM guest's physmap while it runs: gfns that get a page, and gfns that lose theirs.

Up to Xen 4.21 neither is in a dirty bitmap (docs/hvm.md). What Xen tells is how many pages the domain has, which is
asked often because that is cheap, and for 1024 gfns at a time whether they have a page, which is asked when the
number moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Optional, final

from pyxcsr.guest.hvm.limits import check_nr_gfns
from pyxcsr.hypervisor.interface import Hypervisor, SaveHandle
from pyxcsr.report import SaveReport

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
        self._pages = 0
        self._moved = self._grew = self._shrank = False  # since the last look
        self._rest_until = 0.0
        self._marked = 0

    def tracked(self) -> None:
        self._pages = self._hv.domain_info(self._domid).tot_pages

    def begin_pass(self) -> None:
        """Nothing: there is no limit for a pass."""

    def look(self) -> None:
        self._note_pages(self._hv.domain_info(self._domid).tot_pages)
        if self._moved and time.monotonic() >= self._rest_until:
            self._compare()

    def _note_pages(self, pages: int) -> None:
        if pages == self._pages:
            return
        self._report.moves += 1
        self._moved = True
        self._grew |= pages > self._pages
        self._shrank |= pages < self._pages
        self._pages = pages
        if self._grew and self._shrank and not self._report.may_have_missed:
            self._report.may_have_missed = True
            self._warnings.append(
                f"domain {self._domid} gave pages back and got others while it was saved: a page that went and came "
                "back unseen would be missing; docs/hvm.md says when"
            )

    def fetched(self, final: bool) -> None:
        info = self._hv.domain_info(self._domid)
        self._note_pages(info.tot_pages)
        self._save.grow(check_nr_gfns(info, self._hv.nr_gpfns(self._domid)))
        if self._moved:
            self._compare()

    def _compare(self) -> None:
        """Looks at all gfns. What differs from what was sent is sent again."""
        began = time.monotonic()
        self._moved = self._grew = self._shrank = False
        found = self._save.look_at_physmap(self._poll)
        took = time.monotonic() - began
        self._rest_until = began + took * (1 + REST)
        self._marked += found.appeared + found.vanished
        report = self._report
        report.looks += 1
        report.appeared += found.appeared
        report.vanished += found.vanished
        report.seconds_looking += took

    def sweep(self, final: bool) -> int:
        marked, self._marked = self._marked, 0
        return marked
