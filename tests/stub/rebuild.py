"""A restorer of the tests' own: builds a suspended guest again, through the libraries' functions alone."""

from __future__ import annotations

import struct
from typing import Any

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.stub.domain import StubDomain

from .conftest import Probe

FRAME = ((1 << 40) - 1) << 12
INVALID = (1 << 64) - 1
MAX_PFN, FRAME_LIST_LIST, EVTCHN_MASK = 3088, 3096, 2560


class Rebuild:
    """Each step of a restore by itself, so that a test can leave one out or do it wrong.

    What comes from the old guest is what a correct stream holds: pages with pfns in their tables, types, contexts.
    """

    def __init__(self, probe: Probe, old: StubDomain, reverse: bool = False) -> None:
        assert old.suspended
        self.probe, self.old, self.nr_pfns = probe, old, old.shared_info("max_pfn")
        self.pfns = old.pfns_with_memory()
        self.kinds = dict(zip(self.pfns, old.types(self.pfns)))
        self.leaves = old.leaf_pfns()
        info = probe.info(old.domid)
        self.vcpus = info.max_vcpu_id + 1
        self.domid = probe.stub.create_empty(len(self.pfns) * PAGE_SIZE, self.vcpus)
        self.new = probe.stub.guest(self.domid)
        order = self.pfns[::-1] if reverse else self.pfns
        rc, mfns = probe.populate(self.domid, order)
        assert rc == 0
        self.mfns = dict(zip(order, mfns))

    def all(self) -> StubDomain:
        self.memory()
        self.p2m()
        self.start_info()
        self.shared_info()
        self.contexts()
        self.pins()
        return self.new

    def memory(self) -> None:
        """All pages; in those that are tables mfns for pfns."""
        address, err = self.probe.map(self.domid, [self.mfns[pfn] for pfn in self.pfns], prot=3)
        assert not any(err)
        window = self.probe.ffi.buffer(address, len(self.pfns) * PAGE_SIZE)
        for i, page in enumerate(self.old.expected_pages(self.pfns)):
            level = self.kinds[self.pfns[i]].level
            window[i * PAGE_SIZE:(i + 1) * PAGE_SIZE] = self._localised(page) if level else page
        self.probe.unmap(address, len(self.pfns))

    def _localised(self, page: bytes) -> bytes:
        entries = struct.unpack("<512Q", page)
        return struct.pack("<512Q", *(self._entry(x) if x & 1 else x for x in entries))

    def _entry(self, entry: int) -> int:
        return (entry & ~FRAME) | self.mfns[(entry & FRAME) >> 12] << 12

    def p2m(self) -> None:
        for i, leaf in enumerate(self.leaves):
            entries = [self.mfns.get(pfn, INVALID) for pfn in range(512 * i, 512 * (i + 1))]
            self.probe.write(self.domid, self.mfns[leaf], struct.pack("<512Q", *entries))

    def start_info(self) -> None:
        """As a toolstack writes it (xen/include/public/xen.h): nr_pages to the console's event channel."""
        state = self.old.state()
        fields = (self.nr_pfns, self.probe.info(self.domid).shared_info_frame << 12, 0, 0)
        rings = (self.mfns[state.store_pfn], 5, 0, self.mfns[state.console_pfn], 6)
        data = struct.pack("<QQII", *fields) + struct.pack("<QIIQI", *rings)
        self.probe.write(self.domid, self.mfns[state.start_info_pfn], data, 32)

    def shared_info(self) -> None:
        page = bytearray(self.old.read_shared_info())
        page[FRAME_LIST_LIST:FRAME_LIST_LIST + 8] = bytes(8)
        page[EVTCHN_MASK:EVTCHN_MASK + 512] = b"\xff" * 512
        self.probe.write(self.domid, self.probe.info(self.domid).shared_info_frame, bytes(page))

    def context(self, vcpu: int) -> tuple[Any, Any]:
        """(the union, its native member) with this domain's frames."""
        any_ = self.probe.ffi.new("vcpu_guest_context_any_t *")
        assert self.probe.lib.xc_vcpu_getcontext(self.probe.xch, self.old.domid, vcpu, any_) == 0
        c = self.probe.ffi.cast("vcpu_guest_context_t *", any_)
        for i in range(-(-c.gdt_ents // 512)):
            c.gdt_frames[i] = self._moved(c.gdt_frames[i])
        for root in (1, 3):
            if c.ctrlreg[root]:
                c.ctrlreg[root] = self._moved(c.ctrlreg[root] >> 12) << 12
        if vcpu == 0:
            c.user_regs.rdx = self._moved(c.user_regs.rdx)
        return any_, c

    def _moved(self, mfn: int) -> int:
        owner, pfn, _ = self.probe.stub.frame(mfn)
        assert owner == self.old.domid and pfn is not None
        return self.mfns[pfn]

    def set_context(self, vcpu: int, context: Any) -> None:
        assert self.probe.lib.xc_vcpu_setcontext(self.probe.xch, self.domid, vcpu, context) == 0

    def contexts(self) -> None:
        for vcpu in range(self.vcpus):
            if self.old.vcpu(vcpu, "online"):
                self.set_context(vcpu, self.context(vcpu)[0])

    def pins(self) -> None:
        pinned = [(kind.level - 1, self.mfns[pfn]) for pfn, kind in self.kinds.items() if kind > 8]
        assert self.probe.mmuext(self.domid, *pinned) == 0
