"""One guest of the stub hypervisor, from the inside and from the machine's own tables."""

from __future__ import annotations

import errno as errno_module

from pyxcsr.errors import UsageError, XcsrError
from pyxcsr.frames import PAGE_SIZE, Mfn, PageType
from pyxcsr.hypervisor.stub.panel import NO_PFN, Panel
from pyxcsr.hypervisor.stub.text import SUSPENDS
from pyxcsr.plain import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Callable, Optional, Union

    from pyxcsr.frames import Pfn


@dataclass(frozen=True)
class StubState:
    """A guest's state; see stub_domain_state in csrc/stub/panel/stub_api.h. None stands for no pfn, no reason.

    Where the stub's own kernel does not run (``booted``), the pfns of what belongs to it are 2^64 - 1.
    """

    nr_pfns: int
    tot_pages: int
    max_pages: int
    ticks: int
    writes: int
    pt_updates: int
    dirty: int
    start_info_pfn: Pfn
    store_pfn: Pfn
    console_pfn: Pfn
    kernel_pfn: Pfn
    shared_info_mfn: Mfn
    kernel_root_pfn: Pfn
    user_root_pfn: Pfn
    nr_leaves: int
    missing_leaf_pfn: Optional[Pfn]
    shutdown_reason: Optional[int]
    shutdown: bool
    paused: bool
    dying: bool
    logdirty: bool
    running: bool
    booted: bool
    width: int
    hvm: bool
    device_model: bool
    devmodel_logdirty: bool
    devmodel_stopped: bool
    devmodel_writes: int
    pod_entries: int
    pod_cache: int
    sched_weight: int
    sched_cap: int
    bitmaps: int
    final_bitmaps: int


def _condition(state: StubState) -> str:
    if state.dying:
        return "dying"
    if state.shutdown:
        return "suspended" if state.shutdown_reason == 2 else f"shut down (reason {state.shutdown_reason})"
    return "paused" if state.paused else "running"


@dataclass(frozen=True)
class StubTsc:
    """A TSC as a domain was given it: Xen's mode, elapsed nanoseconds, kHz, incarnation."""

    mode: int
    nsec: int
    khz: int
    incarnation: int


@dataclass(frozen=True)
class GrantSeed:
    """The grants that a toolstack made: frames (None: no entry) and the domains that may map them."""

    console_gfn: Optional[int]
    store_gfn: Optional[int]
    console_domid: int
    store_domid: int


class StubDomain(Panel):
    """One guest of the stub, from the inside and from the machine's own tables. Raises StubError."""

    def __init__(self, ffi: Any, lib: Any, domid: int) -> None:
        super().__init__(ffi, lib)
        self.domid = domid

    def __repr__(self) -> str:
        if self._inherited:
            return f"<{type(self).__name__} {self.domid} of another process>"
        try:
            state = self.state()
        except XcsrError:
            return f"<{type(self).__name__} {self.domid}: there is no such guest any more>"
        kind = ("hvm" if state.device_model else "pvh") if state.hvm else f"pv{8 * state.width}"
        return f"<{type(self).__name__} {self.domid}: {kind}, {_condition(state)}, {state.tot_pages} pages>"

    def _check(self, rc: int, **facts: Any) -> int:
        return super()._check(rc, domid=self.domid, **facts)

    # -- state

    def state(self) -> StubState:
        """All of the state at once."""
        raw = self._ffi.new("stub_domain_state *")
        self._check(self._lib.stub_state(self.domid, raw))
        values = {name: getattr(raw, name) for name, _ in self._ffi.typeof("stub_domain_state").fields}
        if values["missing_leaf_pfn"] == NO_PFN:
            values["missing_leaf_pfn"] = None
        if not values["shutdown"]:
            values["shutdown_reason"] = None
        return StubState(**values)

    @property
    def running(self) -> bool:
        """Neither shut down nor paused nor dying."""
        return self.state().running

    @property
    def suspended(self) -> bool:
        """Shut down with the reason suspend."""
        return self.state().shutdown_reason == 2

    @property
    def nr_pfns(self) -> int:
        """How many pfns the p2m covers."""
        return self.state().nr_pfns

    # -- the truth about its memory

    @property
    def tsc(self) -> Optional[StubTsc]:
        """The TSC that xc_domain_set_tsc_info gave it, None if it was not called."""
        raw = self._ffi.new("stub_tsc *")
        if not self._given(self._lib.stub_get_tsc(self.domid, raw)):
            return None
        return StubTsc(int(raw.mode), int(raw.nsec), int(raw.khz), int(raw.incarnation))

    @property
    def cpu_policy_given(self) -> Optional[tuple[int, int]]:
        """How many CPUID leaves and MSRs xc_set_domain_cpu_policy last gave it, None if it was not called."""
        leaves, msrs = self._ffi.new("uint32_t *"), self._ffi.new("uint32_t *")
        if not self._given(self._lib.stub_get_policy(self.domid, leaves, msrs)):
            return None
        return int(leaves[0]), int(msrs[0])

    @property
    def grant_seed(self) -> Optional[GrantSeed]:
        """What xc_dom_gnttab_seed put into its grant table, None if it was not called."""
        raw = self._ffi.new("stub_grant_seed *")
        if not self._given(self._lib.stub_get_grant_seed(self.domid, raw)):
            return None
        frames = [None if gfn == NO_PFN else int(gfn) for gfn in (raw.console_gfn, raw.store_gfn)]
        return GrantSeed(frames[0], frames[1], int(raw.console_domid), int(raw.store_domid))

    def _given(self, rc: int) -> bool:
        return rc != -errno_module.ENOENT and self._check(rc) == 0

    def mfn(self, pfn: int) -> Mfn:
        """The frame of a pfn. StubError (ENOENT) if it has no memory."""
        out = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_mfn(self.domid, pfn, out), pfn=pfn)
        return Mfn(int(out[0]))

    def _pfn_list(self, function: Callable[..., int], *arguments: int) -> list[Pfn]:
        room = self._check(function(self.domid, *arguments, self._ffi.NULL, 0))
        out = self._ffi.new("uint64_t[]", max(room, 1))
        count = self._check(function(self.domid, *arguments, out, room))
        return sorted(self._ffi.unpack(out, min(count, room))) if room else []

    def pfns_with_memory(self) -> list[Pfn]:
        """All pfns that have memory, ascending."""
        return self._pfn_list(self._lib.stub_pfns)

    def pfns_of_type(self, kind: PageType) -> list[Pfn]:
        """All pfns of that type, ascending: ``pfns_of_type(PageType.L1TAB_PINNED)``."""
        return self._pfn_list(self._lib.stub_pfns_of_type, int(kind) << 28)

    def leaf_pfns(self) -> list[Pfn]:
        """The pfn of each page of the p2m list, in its order; shared pages repeat."""
        count = self.state().nr_leaves
        out = self._ffi.new("uint64_t[]", max(count, 1))
        self._check(self._lib.stub_leaf_pfns(self.domid, out, count))
        return list(self._ffi.unpack(out, count))

    def read_page(self, pfn: int) -> bytes:
        """The page as it is in the machine's memory."""
        page = self._ffi.new("uint64_t[]", PAGE_SIZE // 8)
        self._check(self._lib.stub_read_page(self.domid, pfn, page), pfn=pfn)
        return bytes(self._ffi.buffer(page))

    def expected_page(self, pfn: int) -> bytes:
        """The page as a correct save has it: page tables with pfns for mfns, Xen's slots zero.

        Made from the stub's own tables of owners, not from the guest's p2m or the m2p. StubError: EAGAIN if a
        table's entry refers to a frame that is not the guest's, E2BIG for a superpage, ENOENT without memory.
        """
        return self.expected_pages([pfn])[0]

    def expected_pages(self, pfns: Sequence[int]) -> list[bytes]:
        """:meth:`expected_page` for many at once."""
        pages, _ = self._expected(pfns)
        view = self._ffi.buffer(pages)
        return [view[i * PAGE_SIZE:(i + 1) * PAGE_SIZE] for i in range(len(pfns))]

    def types(self, pfns: Sequence[int]) -> list[PageType]:
        """The types of pages, as Xen reports them."""
        return [PageType(self._frame(self.mfn(pfn))[2]) for pfn in pfns]

    def _expected(self, pfns: Sequence[int]) -> tuple[Any, Any]:
        pages = self._ffi.new("uint64_t[]", max(1, len(pfns)) * PAGE_SIZE // 8)
        types = self._ffi.new("uint32_t[]", max(1, len(pfns)))
        given = self._ffi.new("uint64_t[]", list(pfns))
        self._check(self._lib.stub_expected_pages(self.domid, given, len(pfns), pages, types))
        return pages, types

    def read_shared_info(self) -> bytes:
        """The whole shared_info page as it is now."""
        page = self._ffi.new("uint64_t[]", PAGE_SIZE // 8)
        self._check(self._lib.stub_read_shared_info(self.domid, page))
        return bytes(self._ffi.buffer(page))

    # -- what the guest does

    def adopt(self) -> None:
        """Unpauses a restored guest and sees that its kernel runs; harmless once it does.

        Raises StubError (EINVAL) if the kernel crashed at its start, and says what it found wrong.
        """
        self._check(self._lib.stub_adopt(self.domid))

    def write_page(self, pfn: int, data: bytes, offset: int = 0) -> None:
        """Writes into a page and marks it dirty."""
        source = self._ffi.from_buffer(data)
        self._check(self._lib.stub_write_page(self.domid, pfn, offset, source, len(data)), pfn=pfn)

    def tick(self, times: int = 1) -> None:
        """Lets the guest run as it does at the entry of a library call."""
        self._check(self._lib.stub_tick(self.domid, times))

    def bump_generation(self, by: int = 1) -> None:
        """Adds to p2m_generation."""
        self._check(self._lib.stub_bump_generation(self.domid, by))

    def set_generation(self, value: int) -> None:
        """Sets p2m_generation."""
        self.poke_shared_info("p2m_generation", value)

    def move_p2m(self, vaddr: int, new_root: bool = False) -> None:
        """Maps the p2m list at another address, if asked in a new root table (p2m_cr3); generation + 2."""
        self._check(self._lib.stub_move_p2m(self.domid, vaddr, new_root), vaddr=vaddr)

    def replace_leaf(self, index: int) -> None:
        """Puts another page with the same content in the place of a p2m page; generation + 2.

        A guest that has a tree only (``tree=only``) has no generation to count.
        """
        self._check(self._lib.stub_replace_leaf(self.domid, index), index=index)

    def balloon_out(self, pfns: Union[int, Sequence[int]]) -> None:
        """Gives the memory of pfns back. EBUSY for pages that the guest's kernel uses.

        Of HVM and PVH also an entry that is populated on demand.
        """
        for pfn in [pfns] if isinstance(pfns, int) else pfns:
            self._check(self._lib.stub_balloon_out(self.domid, pfn), pfn=pfn)

    def balloon_in(self, pfns: Union[int, Sequence[int]], mfn: Optional[int] = None) -> None:
        """Gets memory for pfns; where the p2m page was shared it is replaced (generation + 2).

        As on Xen the p2m's page is dirty then, the page that came is not. ``mfn``: that frame, which must be free
        (EBUSY), as the one that the pfn had before; None: any.
        """
        for pfn in [pfns] if isinstance(pfns, int) else pfns:
            self._check(self._lib.stub_balloon_in(self.domid, pfn, NO_PFN if mfn is None else mfn), pfn=pfn)

    def move_page(self, pfn: int, to: int) -> None:
        """Gives a data page's frame another pfn, one without memory; entries that map it go on mapping it.

        Raises StubError (EBUSY) for pages that the guest's kernel uses, EINVAL if ``to`` has memory.
        """
        self._check(self._lib.stub_move_page(self.domid, pfn, to), pfn=pfn, to=to)

    def move_tree(self) -> None:
        """Puts the p2m tree, its lists and their list, into other pages. EINVAL if it has none."""
        self._check(self._lib.stub_move_tree(self.domid))

    def resize_p2m(self, nr_pfns: int) -> None:
        """Lets the p2m cover so many pfns from now on, more or fewer; generation + 2, then max_pfn.

        Raises StubError (EBUSY) if a pfn beyond the new end has memory.
        """
        self._check(self._lib.stub_resize_p2m(self.domid, nr_pfns), nr_pfns=nr_pfns)

    def set_honest(self, honest: bool) -> None:
        """False: it changes the structure of its p2m from now on, and leaves p2m_generation as it is."""
        self._check(self._lib.stub_set_honest(self.domid, honest))

    def set_writes(self, writes: int, pt_updates: int = 0) -> None:
        """How much it writes from now on, a tick or a turn of its thread."""
        self._check(self._lib.stub_set_writes(self.domid, writes, pt_updates))

    def set_suspend(self, kind: str, ack_polls: int = 2, suspend_polls: int = 3) -> None:
        """How it answers control/shutdown from now on."""
        if kind not in SUSPENDS:
            raise UsageError(f"suspend: {kind!r} is none of {', '.join(SUSPENDS)}")
        index = SUSPENDS.index(kind)
        self._check(self._lib.stub_set_suspend(self.domid, index, ack_polls, suspend_polls))

    def shut_down(self, reason: int = 2) -> None:
        """Shuts it down at once: 0 poweroff, 1 reboot, 2 suspend (as it would itself), 3 crash."""
        self._check(self._lib.stub_shut_down(self.domid, reason))

    def destroy(self) -> None:
        """Destroys it, as another tool would."""
        self._check(self._lib.stub_destroy(self.domid))

    # -- HVM and PVH

    def param(self, index: int) -> int:
        """An HVM param by its number, as Xen would tell it. Raises StubError (EINVAL)."""
        out = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_get_param(self.domid, index, out), index=index)
        return int(out[0])

    def poke_param(self, index: int, value: int) -> None:
        """Gives an HVM param any value, by nobody's rules."""
        self._check(self._lib.stub_set_param(self.domid, index, value), index=index)

    def devmodel_logdirty(self, on: bool) -> None:
        """What QEMU does when it is told so: whether it tells Xen of what it writes. StubError (ENOENT) without one."""
        self._check(self._lib.stub_devmodel_logdirty(self.domid, on))

    def devmodel_run(self, on: bool) -> None:
        """QEMU's stop and cont: a device model that is stopped writes nothing."""
        self._check(self._lib.stub_devmodel_run(self.domid, on))

    def devmodel_tick(self, times: int = 1) -> None:
        """Lets the device model write as it does at the entry of a library call."""
        self._check(self._lib.stub_devmodel_tick(self.domid, times))

    # -- what a broken or hostile guest has

    def corrupt_pte(self, table_pfn: int, index: int, value: int) -> int:
        """Writes any value into an entry of a table (or any word of a page); returns what was there."""
        old = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_write_pte(self.domid, table_pfn, index, value, old), pfn=table_pfn)
        return int(old[0])

    def corrupt_p2m(self, pfn: int, value: int) -> int:
        """Writes any value into the p2m's entry for a pfn; returns what was there."""
        old = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_write_p2m(self.domid, pfn, value, old), pfn=pfn)
        return int(old[0])

    def set_type(self, pfn: int, kind: PageType) -> None:
        """Gives a page another type in Xen's tables, whatever is in it; marks it dirty, as Xen does.

        A PV guest's can be BROKEN, too: the hardware has lost it.
        """
        self._check(self._lib.stub_set_type(self.domid, pfn, int(kind) << 28), pfn=pfn)

    def shared_info(self, field: str) -> int:
        """A field of shared_info: max_pfn, p2m_cr3, p2m_vaddr, p2m_generation and others (docs/stub.md)."""
        out = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_get_shared_info(self.domid, field.encode(), out), field=field)
        return int(out[0])

    def poke_shared_info(self, field: str, value: int) -> None:
        """Sets a field of shared_info to any value."""
        self._check(self._lib.stub_set_shared_info(self.domid, field.encode(), value), field=field)

    def vcpu(self, vcpu: int, field: str) -> int:
        """A field of a vcpu: rax, rdx, rip, cr1, cr3, gdt_ents, gdt_frame0 and others (docs/stub.md)."""
        out = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_get_vcpu(self.domid, vcpu, field.encode(), out), field=field)
        return int(out[0])

    def poke_vcpu(self, vcpu: int, field: str, value: int) -> None:
        """Sets a field of a vcpu to any value."""
        self._check(self._lib.stub_set_vcpu(self.domid, vcpu, field.encode(), value), field=field)

    def poke_domain(self, field: str, value: int) -> None:
        """Sets what Xen says of the domain: max_pages, tot_pages, dying, hvm, width; of HVM assigned_devices, too."""
        self._check(self._lib.stub_set_domain(self.domid, field.encode(), value), field=field)
