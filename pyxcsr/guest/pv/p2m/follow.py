"""A p2m that may change while it is used: looked at again and again, and mapped anew where it has moved.

A guest announces that it changes the structure of a list: p2m_generation is counted up before and after, and so is odd
in between (arch-x86/xen.h). The guest may set max_pfn and the list's address a moment later, so they are compared, too.
A guest that announces nothing still has to write the list's page tables, and a dirty bitmap then names these. A tree is
not announced: it is walked whenever a bitmap has come. What the p2m's entries say is not looked at here: see
csrc/save/follow.c.
"""

from __future__ import annotations

from pyxcsr.errors import P2mChanged, P2mError
from pyxcsr.guest.pv.p2m.attempts import Attempts
from pyxcsr.guest.pv.p2m.frame_list import problem_of_top
from pyxcsr.guest.pv.p2m.generation import SETTLE_SECONDS, check_same, read_even
from pyxcsr.guest.pv.p2m.map import check_repeats, find_leaves, map_leaves, pfn_limit
from pyxcsr.guest.pv.p2m.pagetable import Walk
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Optional

    from pyxcsr.guest.pv.p2m.pagetable import Leaves
    from pyxcsr.guest.pv.p2m.shared_info import P2mHead, SharedInfo
    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, P2mHandle


class FollowedP2m:
    """The p2m of one guest. ``settle_seconds``: how long a change may take. ``cancel``: may raise Cancelled.

    ``handle`` is the same object as long as this one is in use; it maps the p2m as it was at the last look, and
    ``generation`` and ``leaf_pfns`` are of that look.
    """

    def __init__(
        self,
        hv: Hypervisor,
        domid: int,
        shared: SharedInfo,
        cancel: Callable[[], None],
        settle_seconds: Optional[float] = None,
    ) -> None:
        self._hv, self._domid, self._shared, self._cancel = hv, domid, shared, cancel
        self._settle = settle_seconds
        self._head: Optional[P2mHead] = None
        self._leaves: Optional[Leaves] = None
        self._handle: Optional[P2mHandle] = None
        self._walk: Optional[Walk] = None
        self._is_as_said: Callable[[], bool] = lambda: False  # whether shared_info says what it said at the last look
        self._stale = True  # what is mapped may not be what a walk would find now
        self._agreed = False  # the handle has last been asked for the pfns that leaf_pfns has
        self.announced = False
        """Whether shared_info told of the change that the last look looked for."""
        self.generation = 0
        self.leaf_pfns: Sequence[int] = ()

    @property
    def handle(self) -> P2mHandle:
        """The mapped p2m."""
        if self._handle is None:
            raise P2mError("the p2m has not been mapped", field="p2m", value=None)
        return self._handle

    def look(self) -> bool:
        """Maps the p2m anew if it is elsewhere or of another size. Returns whether anything has changed.

        A generation that has moved on counts as a change, even if nothing else is different. Raises P2mError if the
        guest's fields or tables are wrong, or if one change is never over; P2mChanged if changes keep coming.
        """
        self.announced = not self._is_as_said()
        if not (self.announced or self._stale):
            return False
        return self._take() or self.announced

    def look_last(self) -> bool:
        """The same for a suspended guest, with the pfns of the p2m's pages looked up again in any case."""
        if self.look():
            return True
        if self.handle.leaves_stay():
            return False
        self.leaf_pfns = self.handle.leaf_pfns()
        return True

    def note_written(self, written: Callable[[Sequence[int]], bool]) -> None:
        """A dirty bitmap has come. ``written``: whether it names one of these frames.

        If it names a page table of the list, the next look walks to the p2m again. A tree is always walked again.
        """
        if not self._stale:
            is_list = self._head is not None and self._head.is_list
            self._stale = not is_list or self._walk is None or written(self._walk.read)

    def place(self) -> Optional[tuple[list[tuple[int, int, int]], Sequence[int]]]:
        """What must be unchanged for the next look to find nothing new, provided that the p2m's pages stay where they
        are: words in shared_info, and frames of page tables that are not written. None if it must walk in any case."""
        if self._stale or self._head is None or self._walk is None or not self._head.is_list:
            return None
        return self._shared.words(self.generation, self._head), self._walk.read

    def check_same(self) -> None:
        """Raises P2mChanged if p2m_generation is not what it was at the last look."""
        check_same(self._shared, self.generation)

    def _take(self) -> bool:
        """Walks until nothing has changed during a walk. Returns whether it has found something else than before."""
        self._stale = True  # until a walk is complete: one that is given up must be made again
        settle = SETTLE_SECONDS if self._settle is None else self._settle
        attempts = Attempts(settle, self._handle is None)
        while True:
            info = self._hv.domain_info(self._domid)
            generation = read_even(self._shared, not info.suspended, self._cancel, settle)
            head = self._shared.head()
            try:
                return self._take_once(info, head, generation)
            except P2mError as error:
                attempts.failed(error, (generation, head))
                if attempts.lasts or self._is_no_changes(error, info, head, generation):
                    raise
                if attempts.over:
                    raise self._keeps_changing(error, attempts.count) from error
            self._cancel()
            attempts.wait()

    def _is_no_changes(self, error: P2mError, info: DomainInfo, head: P2mHead, generation: int) -> bool:
        """Whether an error cannot come of a change during the walk: nothing has changed, and that would have shown.

        Nothing shows that a running guest changes its tree; but how many pfns shared_info claims is no part of it.
        A top that is not there yet is waited for: a guest that was just restored sets it once it goes on.
        """
        if isinstance(error, P2mChanged) or self._shared.generation() != generation or self._shared.head() != head:
            return False
        if head.is_list or info.suspended:
            return True
        problem = problem_of_top(self._shared.geometry, head.frame_list_list, head.nr_pfns)
        return problem is not None and problem.facts["field"] == "max_pfn"

    def _keeps_changing(self, last: P2mError, attempts: int) -> P2mChanged:
        now = self._shared.generation()
        return P2mChanged(
            f"the guest changes the structure of its p2m all the time: it was not possible to read it in {attempts} "
            f"attempts; the last one found: {last}",
            field="p2m_generation",
            value=now,
            before=self.generation,
            after=now,
        )

    def _take_once(self, info: DomainInfo, head: P2mHead, generation: int) -> bool:
        geometry = self._shared.geometry
        if self._walk is None:
            self._walk = Walk(self._hv, self._domid, geometry, pfn_limit(info), self._cancel)
        if self._leaves is not None:
            self._walk.keep = max(self._walk.keep, self._leaves.nr_pfns)
        leaves = find_leaves(self._hv, info, geometry, head, self._walk)
        moved = leaves != self._leaves
        if moved:
            check_repeats(self._hv, info, geometry, leaves)
        handle = map_leaves(self._hv, self._domid, geometry, leaves) if moved else self.handle
        try:
            pfns = self._pfns(handle, moved)
            check_same(self._shared, generation)
            if self._shared.head() != head:
                raise P2mChanged("shared_info has changed", field="max_pfn", before=generation, after=generation)
        except BaseException:
            if moved:
                handle.close()
            raise
        if moved:
            self._use(handle)
        elsewhere = moved or pfns != self.leaf_pfns
        self._head, self._leaves, self.generation, self.leaf_pfns = head, leaves, generation, pfns
        self._stale, self._agreed = False, True
        self._is_as_said = self._shared.frames.comparing(self._shared.words(generation, head))
        return elsewhere

    def _pfns(self, handle: P2mHandle, moved: bool) -> Sequence[int]:
        """Of the p2m's pages. If they stay, the object that is there: it may have megabytes, and others hold it, too.

        An attempt that was given up may have asked for others since.
        """
        if self._agreed and not moved and handle.leaves_stay():
            return self.leaf_pfns
        self._agreed = False
        return handle.leaf_pfns()

    def _use(self, handle: P2mHandle) -> None:
        if self._handle is None:
            self._handle = handle
            return
        self._handle.swap(handle)
        handle.close()

    def close(self) -> None:
        """Unmaps the p2m; harmless if it is not mapped."""
        if self._handle is not None:
            self._handle.close()
