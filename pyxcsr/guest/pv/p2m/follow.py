"""A p2m that may change while it is used: looked at again and again, and mapped anew where it has moved.

A list's structure is announced: p2m_generation counts, and is odd meanwhile (arch-x86/xen.h); max_pfn and where the
list is may follow a moment later, so they are compared too. A list's page tables are memory that log-dirty mode
watches: a guest that says nothing gives itself away by writing them. A tree is walked whenever a bitmap has come.
What the p2m *says* is not looked at here: see csrc/follow.c.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Optional

from pyxcsr.errors import P2mChanged, P2mError
from pyxcsr.guest.pv.p2m.generation import check_same, read_even
from pyxcsr.guest.pv.p2m.map import ATTEMPTS, check_repeats, find_leaves, map_leaves, pfn_limit
from pyxcsr.guest.pv.p2m.pagetable import Leaves, Walk
from pyxcsr.guest.pv.p2m.shared_info import P2mHead, SharedInfo
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, P2mHandle


class FollowedP2m:
    """The p2m of one guest. ``settle_seconds``: how long the guest may take over one change; ``cancel`` may raise.

    ``handle`` stays the same for as long as this is in use, and leads to the p2m as it was when last looked at;
    ``generation`` and ``leaf_pfns`` are of then.
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
        self._stale = True  # not walked to the end since the tables, or what leads to them, changed
        self.announced = False
        """Whether the guest had said so itself when a look last found something to do."""
        self.generation = 0
        self.leaf_pfns: Sequence[int] = ()

    @property
    def handle(self) -> P2mHandle:
        """The mapped p2m."""
        if self._handle is None:
            raise P2mError("the p2m has not been mapped", field="p2m", value=None)
        return self._handle

    def look(self) -> bool:
        """Maps the p2m if it is not where it was, or of another size. Returns whether anything had to be done.

        A generation that moved although nothing else did counts. Raises P2mError if the guest's fields or tables are
        wrong, or a change is never over; P2mChanged if it never holds still.
        """
        self.announced = self._shared.generation() != self.generation or self._shared.head() != self._head
        if not (self.announced or self._stale):
            return False
        return self._take() or self.announced

    def settle(self) -> bool:
        """The same of a suspended guest, whose p2m's pages are looked up once more in any case."""
        if self.look():
            return True
        if self.handle.leaves_stay():
            return False
        self.leaf_pfns = self.handle.leaf_pfns()
        return True

    def note_written(self, written: Callable[[Sequence[int]], bool]) -> None:
        """``written`` says of frames whether the guest has written one: its tables are walked anew, then.

        A tree's lists are read anew in any case.
        """
        if not self._stale:
            is_list = self._head is not None and self._head.is_list
            self._stale = not is_list or self._walk is None or written(self._walk.read)

    def check_same(self) -> None:
        """Raises P2mChanged if the guest says that something has changed."""
        check_same(self._shared, self.generation)

    def _take(self) -> bool:
        """Walks until the guest held still meanwhile. Returns whether something else was found than before."""
        self._stale = True  # a walk that is given up has not read all: it is owed, whatever the guest says by then
        last: Optional[P2mError] = None
        until = time.monotonic() + (self._settle or 0.0) if self._handle is None else 0.0
        attempts = 0
        while attempts < ATTEMPTS or time.monotonic() < until:
            attempts += 1
            info = self._hv.domain_info(self._domid)
            generation = read_even(self._shared, not info.suspended, self._cancel, self._settle)
            head = self._shared.head()
            try:
                return self._take_once(info, head, generation)
            except P2mError as error:
                still = self._shared.generation() == generation and self._shared.head() == head
                if still and (head.is_list or info.suspended) and not isinstance(error, P2mChanged):
                    raise  # nothing moved: the tables really are wrong
                last = error
            self._cancel()
        assert last is not None  # ATTEMPTS > 0
        raise P2mChanged(
            f"the guest changes the structure of its p2m all the time: it was not possible to read it in {attempts} "
            f"attempts; the last one found: {last}",
            field="p2m_generation",
            value=self._shared.generation(),
            before=self.generation,
            after=self._shared.generation(),
        ) from last

    def _take_once(self, info: DomainInfo, head: P2mHead, generation: int) -> bool:
        if self._walk is None:
            self._walk = Walk(self._hv, self._domid, pfn_limit(info))
        if self._leaves is not None:
            self._walk.keep = max(self._walk.keep, self._leaves.nr_pfns)
        leaves = find_leaves(self._hv, info, head, self._walk)
        moved = leaves != self._leaves
        if moved:
            check_repeats(info, leaves)
        handle = map_leaves(self._hv, self._domid, leaves) if moved else self.handle
        try:
            pfns = handle.leaf_pfns()
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
        self._stale = False
        return elsewhere

    def _use(self, handle: P2mHandle) -> None:
        if self._handle is None:
            self._handle = handle
            return
        self._handle.swap(handle)
        handle.close()

    def close(self) -> None:
        """Unmaps it; harmless if there is nothing."""
        if self._handle is not None:
            self._handle.close()
