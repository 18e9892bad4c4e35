"""A stub guest from the inside: what hostile code in it can write, each write remembered so that it can be undone."""

from __future__ import annotations

import threading
from typing import Any, Callable

from support.ordinary import ordinary_pages
from support.widths import width_of

FRAME = 0x000FFFFFFFFFF000
ENTRY = 0x67  # present, writable, user, accessed, dirty
NONE = (1 << 64) - 1


class Inside:
    """One guest of the stub ``hv``, and its lies. ``other`` is a second domain, which it has no right to."""

    def __init__(self, hv: Any, domid: int, other: int) -> None:
        self.hv, self.domid = hv, domid
        self.guest, self.other = hv.stub.guest(domid), hv.stub.guest(other)
        self._undo: list[Callable[[], None]] = []
        self.memory: dict[str, int] = {}  # what an act that runs more than once wants to remember
        self.changed: set[int] = set()  # gfns that it gave back, or got

    # -- writes

    def shared(self, field: str, value: int) -> None:
        """A field of shared_info."""
        old = self.guest.shared_info(field)
        self._undo.append(lambda: self.guest.poke_shared_info(field, old))
        self.guest.poke_shared_info(field, value)

    def vcpu(self, field: str, value: int, vcpu: int = 0) -> None:
        """A field of a vcpu's context."""
        old = self.guest.vcpu(vcpu, field)
        self._undo.append(lambda: self.guest.poke_vcpu(vcpu, field, old))
        self.guest.poke_vcpu(vcpu, field, value)

    def word(self, pfn: int, index: int, value: int) -> None:
        """A word of any page: an entry of a table, an entry of the p2m."""
        old = self.guest.corrupt_pte(pfn, index, value)
        self._undo.append(lambda: void(self.guest.corrupt_pte(pfn, index, old)))

    def p2m(self, pfn: int, value: int) -> None:
        """The p2m's entry for a pfn."""
        old = self.guest.corrupt_p2m(pfn, value)
        self._undo.append(lambda: void(self.guest.corrupt_p2m(pfn, old)))

    def m2p(self, mfn: int, pfn: int) -> None:
        """The m2p's entry for a frame of its own, which Xen lets it set to anything (MMU_MACHPHYS_UPDATE)."""
        _, old, _ = self.hv.stub.frame(mfn)
        self._undo.append(lambda: self.hv.stub.set_m2p(mfn, NONE if old is None else old))
        self.hv.stub.set_m2p(mfn, pfn)

    def kind(self, pfn: int, kind: Any) -> None:
        """A page's type in Xen's tables, as when the guest makes a page table of it."""
        (old,) = self.guest.types([pfn])
        self._undo.append(lambda: self.guest.set_type(pfn, old))
        self.guest.set_type(pfn, kind)

    def behave(self) -> None:
        """Takes every write back, the last first."""
        while self._undo:
            self._undo.pop()()

    # -- places

    def claims(self) -> int:
        """How many pfns it says that it has."""
        return int(self.guest.shared_info("max_pfn"))

    def slots(self) -> dict[int, tuple[int, int]]:
        """Level -> (pfn of the table, index) on the way from p2m_cr3 to the p2m list's first page."""
        vaddr, found, width = self.guest.shared_info("p2m_vaddr"), {}, width_of(self.hv, self.domid)
        mfn = width.cr3_frame(self.guest.shared_info("p2m_cr3"))
        for level in range(width.levels, 0, -1):
            pfn, index = self.pfn_of(mfn), vaddr >> (12 + 9 * (level - 1)) & 511
            found[level] = (pfn, index)
            mfn = (self.read(pfn, index) & FRAME) >> 12
        return found

    def read(self, pfn: int, index: int) -> int:
        """A word of a page."""
        return int.from_bytes(self.guest.read_page(pfn)[8 * index : 8 * index + 8], "little")

    def pfn_of(self, mfn: int) -> int:
        """The guest's own pfn of a frame."""
        owner, pfn, _ = self.hv.stub.frame(mfn)
        assert owner == self.domid and pfn is not None
        return int(pfn)

    def data(self, nth: int = 40) -> int:
        """The pfn of an ordinary page that neither kernel nor p2m uses."""
        pfns = ordinary_pages(self.guest)
        return pfns[len(pfns) // 2 + nth]

    def table(self, name: str, nth: int = 0) -> int:
        """The pfn of the nth page table of a type: ``"L1TAB"``, ``"L4TAB_PINNED"``."""
        from pyxcsr.frames import PageType

        return int(self.guest.pfns_of_type(PageType[name])[nth])

    # -- several at once

    def at_root(self, value: int) -> None:
        """The entry in the root table on that way."""
        self.at_level(max(self.slots()), value)

    def at_level(self, level: int, value: int) -> None:
        """The entry of one level on the way to the p2m list's first page."""
        self.word(*self.slots()[level], value)

    def entry_to(self, pfn: int) -> int:
        """A present entry to one of its own pages."""
        return int(self.guest.mfn(pfn)) << 12 | ENTRY


class HvmInside(Inside):
    """The same of a PVH or HVM guest. Its memory is Xen's to lay out, at its request."""

    def param(self, index: int, value: int) -> None:
        """A parameter, as far as the guest, or a toolstack that it has misled, can set it."""
        old = self.guest.param(index)
        self._undo.append(lambda: self.guest.poke_param(index, old))
        self.guest.poke_param(index, value)

    def out(self, *gfns: int) -> None:
        """Gives pages back."""
        for gfn in gfns:
            self.guest.balloon_out(gfn)
            self.changed.add(gfn)

    def get(self, *gfns: int) -> None:
        """Gets pages, where it wants them."""
        for gfn in gfns:
            self.guest.balloon_in(gfn)
            self.changed.add(gfn)

    def never_populated(self) -> None:
        """Of its gfns that are populated on demand it gives none back, until it behaves."""
        have = set(self.guest.pfns_with_memory())
        gfns = [x for x in range(0x100, self.guest.nr_pfns) if x not in have][: self.guest.state().pod_entries]
        self._undo.append(lambda: self.guest.balloon_out(gfns))

    def store(self, path: str, value: str) -> None:
        """A node of its own in xenstore."""
        path = f"/local/domain/{self.domid}/{path}"
        old = self.hv.stub.store_read(path) or ""
        self._undo.append(lambda: self.hv.stub.store_write(path, old))
        self.hv.stub.store_write(path, value)

    def claims(self) -> int:
        return int(self.guest.nr_pfns)

    def data(self, nth: int = 40) -> int:
        return self.ordinary()[nth]

    def ordinary(self) -> list[int]:
        """Gfns of ordinary pages, ascending: its kernel's page is not among them, nor are special ones."""
        kernel = self.guest.state().kernel_pfn
        return [x for x in self.guest.pfns_with_memory() if 0x100 <= x < 0x300 and x != kernel]


class Restless:
    """A thread of the guest's that repeats ``act`` as fast as it can, until it is stopped."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._stop, self._act = threading.Event(), act
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._act()

    def stop(self) -> None:
        """Waits for its end; again is harmless."""
        self._stop.set()
        self._thread.join()


def void(_: object) -> None:
    """Takes a result that nobody wants."""
