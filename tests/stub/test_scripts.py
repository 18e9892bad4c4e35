"""Scripted failures of every function, the hook, and what a guest can be made to do."""

from __future__ import annotations

import errno
from typing import Any, Callable

import pytest

from pyxcsr.frames import INVALID_MFN, PageType
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe

pytestmark = pytest.mark.toolchain

NOTHING_RETURNED = {
    "xc_cpu_policy_destroy", "xc__hypercall_buffer_free", "xc__hypercall_buffer_free_pages", "xs_close",
}

CREDIT = 5


class Calls:
    """One right call of each function. True: it worked."""

    def __init__(self, probe: Probe, guest: StubDomain) -> None:
        self.probe, self.guest = probe, guest
        self.new, self.lib = probe.ffi.new, probe.lib
        self.xs = probe.lib.xs_open(0)
        self.policy = probe.lib.xc_cpu_policy_init()
        self.buffer = self.new("xc_hypercall_buffer_t *")
        self.hvm = probe.hvm(mem="4M")
        self.credit = probe.guest(mem="4M")
        self.credit.poke_domain("scheduler", CREDIT)
        self.node = f"/local/domain/{guest.domid}/name".encode()
        assert probe.lib.xc__hypercall_buffer_alloc_pages(probe.xch, self.buffer, 1)

    def close(self) -> None:
        self.lib.xc__hypercall_buffer_free_pages(self.probe.xch, self.buffer, 1)
        self.lib.xc_cpu_policy_destroy(self.policy)
        self.lib.xs_close(self.xs)

    def __call__(self, name: str) -> bool:
        special = getattr(self, name, None)
        return bool(special() if special else self.plain(name) >= 0)

    def plain(self, name: str) -> int:
        """The functions that get a handle, mostly a domid, and simple arguments; they return an int."""
        domid, out32, null = self.guest.domid, self.new("uint32_t *"), self.probe.ffi.NULL
        arguments: dict[str, tuple[Any, ...]] = {
            "xc_version": (0, null),
            "xc_domain_getinfolist": (domid, 1, self.new("xc_domaininfo_t *")),
            "xc_domain_get_guest_width": (domid, self.new("unsigned int *")),
            "xc_domain_nr_gpfns": (domid, self.new("xen_pfn_t *")),
            "xc_domain_get_tsc_info": (domid, *(self.new(f"uint{x}_t *") for x in (32, 64, 32, 32))),
            "xc_maximum_ram_page": (self.new("unsigned long *"),),
            "xc_machphys_mfn_list": (1, self.new("xen_pfn_t *")),
            "xc_get_pfn_type_batch": (domid, 1, self.new("xen_pfn_t[]", [self.guest.mfn(0)])),
            "xc_vcpu_getinfo": (domid, 0, self.new("xc_vcpuinfo_t *")),
            "xc_vcpu_getcontext": (domid, 0, self.new("vcpu_guest_context_any_t *")),
            "xc_cpu_policy_get_size": (self.new("uint32_t *"), self.new("uint32_t *")),
            "xc_cpu_policy_get_domain": (domid, self.policy),
            "xc_cpu_policy_serialise": (self.policy, null, out32, null, out32),
            "xc_sched_id": (self.new("int *"),),
            "xc_sched_credit_domain_get": (self.credit.domid, self.new("struct xen_domctl_sched_credit *")),
            "xc_sched_credit_domain_set": (self.credit.domid, self.new("struct xen_domctl_sched_credit *")),
            "xc_sched_credit2_domain_get": (domid, self.new("struct xen_domctl_sched_credit2 *")),
            "xc_sched_credit2_domain_set": (domid, self.new("struct xen_domctl_sched_credit2 *")),
            "xc_domain_shutdown": (domid, 2),
            "xc_domain_pause": (domid,),
            "xc_domain_set_tsc_info": (domid, 0, 1, 2, 3),
            "xc_dom_gnttab_seed": (domid, False, 1, 2, 0, 0),
            "xc_domain_maximum_gpfn": (domid, self.new("xen_pfn_t *")),
            "xc_hvm_param_get": (self.hvm.domid, 1, self.new("uint64_t *")),
            "xc_hvm_param_set": (self.hvm.domid, 2, 7),
            "xc_domain_hvm_getcontext": (self.hvm.domid, null, 0),
            "xc_domain_get_pod_target": (self.hvm.domid, null, null, null),
            "xc_domain_set_pod_target": (self.hvm.domid, 0, null, null, null),
        }
        return int(getattr(self.lib, name)(self.probe.xch, *arguments[name]))

    def xc_domctl(self) -> bool:
        size, mask = self.new("uint64_t *"), self.new("uint64_t *")
        null = self.probe.ffi.NULL
        return bool(self.lib.probe_domctl(self.probe.xch, 43, self.guest.domid, 0, null, size, mask) == 0)

    def xc_memory_op(self) -> bool:
        return self.probe.compat_m2p(1) != []

    def xc_shadow_control(self) -> bool:
        null = self.probe.ffi.NULL
        return bool(self.lib.xc_shadow_control(self.probe.xch, self.guest.domid, 0, null, 0) == 0)

    def xc_logdirty_control(self) -> bool:
        stats = self.new("xc_shadow_op_stats_t *")
        if not self.guest.state().logdirty:
            self.lib.xc_shadow_control(self.probe.xch, self.guest.domid, 2, self.probe.ffi.NULL, 0)
        call = self.lib.xc_logdirty_control
        return bool(call(self.probe.xch, self.guest.domid, 11, self.buffer, 64, 0, stats) == 64)

    def xc_domain_unpause(self) -> bool:
        self.lib.xc_domain_pause(self.probe.xch, self.guest.domid)
        return bool(self.lib.xc_domain_unpause(self.probe.xch, self.guest.domid) == 0)

    def xc_domain_resume(self) -> bool:
        self.guest.shut_down(2)
        return bool(self.lib.xc_domain_resume(self.probe.xch, self.guest.domid, 1) == 0)

    def xc_domain_destroy(self) -> bool:
        return bool(self.lib.xc_domain_destroy(self.probe.xch, self.probe.guest(mem="4M").domid) == 0)

    def xc_interface_open(self) -> bool:
        opened = self.lib.probe_open()
        return bool(opened) and bool(self.lib.xc_interface_close(opened) == 0)

    def xc_interface_close(self) -> bool:
        return bool(self.lib.xc_interface_close(self.lib.probe_open()) == 0)

    def xc_cpu_policy_init(self) -> bool:
        made = self.lib.xc_cpu_policy_init()
        self.lib.xc_cpu_policy_destroy(made)
        return bool(made)

    def _buffer(self, pages: bool) -> bool:
        buffer = self.new("xc_hypercall_buffer_t *")
        suffix = "_pages" if pages else ""
        made = getattr(self.lib, "xc__hypercall_buffer_alloc" + suffix)(self.probe.xch, buffer, 1)
        if made:
            free = getattr(self.lib, "xc__hypercall_buffer_free" + suffix)
            free(self.probe.xch, buffer, *([1] if pages else []))
        return bool(made)

    def xc__hypercall_buffer_alloc(self) -> bool:
        return self._buffer(False)

    def xc__hypercall_buffer_alloc_pages(self) -> bool:
        return self._buffer(True)

    def xenforeignmemory_open(self) -> bool:
        opened = self.lib.xenforeignmemory_open(self.probe.ffi.NULL, 0)
        return bool(opened) and bool(self.lib.xenforeignmemory_close(opened) == 0)

    def xenforeignmemory_close(self) -> bool:
        opened = self.lib.xenforeignmemory_open(self.probe.ffi.NULL, 0)
        return bool(self.lib.xenforeignmemory_close(opened) == 0)

    def xenforeignmemory_map(self) -> bool:
        address, err = self.probe.map(self.guest.domid, [self.guest.mfn(0)])
        if address:
            self.probe.unmap(address, 1)
        return bool(address) and err == [0]

    def xenforeignmemory_unmap(self) -> bool:
        address, _ = self.probe.map(self.guest.domid, [self.guest.mfn(0)])
        if self.lib.xenforeignmemory_unmap(self.probe.fmem, address, 1) == 0:
            return True
        kept = self.probe.errno
        assert self.probe.stub.leaks()["mappings"] == 1
        self.probe.unmap(address, 1)
        self.probe.ffi.errno = kept
        return False

    def xc_domain_populate_physmap_exact(self) -> bool:
        domid = self.probe.stub.create_empty("4M")
        try:
            return self.probe.populate(domid, [0])[0] == 0
        finally:
            kept = self.probe.errno
            self.probe.stub.destroy(domid)
            self.probe.ffi.errno = kept

    def xc_domain_decrease_reservation_exact(self) -> bool:
        domid = self.probe.stub.create_empty("4M")
        try:
            _, mfns = self.probe.populate(domid, [0])
            return self.probe.decrease(domid, mfns) == 0
        finally:
            kept = self.probe.errno
            self.probe.stub.destroy(domid)
            self.probe.ffi.errno = kept

    def xc_domain_populate_physmap(self) -> bool:
        gfns = self.new("xen_pfn_t[]", [0xF1000])
        done = self.lib.xc_domain_populate_physmap(self.probe.xch, self.hvm.domid, 1, 0, 1 << 16, gfns)
        return bool(done == 1)

    def xc_domain_decrease_reservation(self) -> bool:
        gfns = self.new("xen_pfn_t[]", [0])
        return bool(self.lib.xc_domain_decrease_reservation(self.probe.xch, self.hvm.domid, 1, 0, gfns) >= 0)

    def xc_domain_hvm_setcontext(self) -> bool:
        context = self.new("uint8_t[]", self.probe.context(self.hvm.domid))
        call = self.lib.xc_domain_hvm_setcontext
        return bool(call(self.probe.xch, self.hvm.domid, context, len(context)) == 0)

    def xs_directory(self) -> bool:
        names = self.lib.xs_directory(self.xs, 0, b"/local/domain", self.new("unsigned int *"))
        self.lib.free(names)
        return bool(names)

    def xc_mmuext_op(self) -> bool:
        return self.probe.mmuext(self.guest.domid) == 0

    def xc_vcpu_setcontext(self) -> bool:
        context = self.new("vcpu_guest_context_any_t *")
        assert self.lib.xc_vcpu_getcontext(self.probe.xch, self.guest.domid, 0, context) == 0
        return bool(self.lib.xc_vcpu_setcontext(self.probe.xch, self.guest.domid, 0, context) == 0)

    def xc_set_domain_cpu_policy(self) -> bool:
        domid, null = self.probe.stub.create_empty("4M"), self.probe.ffi.NULL
        try:
            call = self.lib.xc_set_domain_cpu_policy
            return bool(call(self.probe.xch, domid, 0, null, 0, null, null, null, null) == 0)
        finally:
            kept = self.probe.errno
            self.probe.stub.destroy(domid)
            self.probe.ffi.errno = kept

    def xs_open(self) -> bool:
        opened = self.lib.xs_open(0)
        self.lib.xs_close(opened)
        return bool(opened)

    def xs_read(self) -> bool:
        value = self.lib.xs_read(self.xs, 0, self.node, self.probe.ffi.NULL)
        self.lib.free(value)
        return bool(value)

    def xs_write(self) -> bool:
        return bool(self.lib.xs_write(self.xs, 0, self.node, b"x", 1))

    def xs_transaction_start(self) -> bool:
        t = self.lib.xs_transaction_start(self.xs)
        return bool(t) and bool(self.lib.xs_transaction_end(self.xs, t, True))

    def xs_transaction_end(self) -> bool:
        return bool(self.lib.xs_transaction_end(self.xs, self.lib.xs_transaction_start(self.xs), True))

    def xs_resume_domain(self) -> bool:
        return bool(self.lib.xs_resume_domain(self.xs, self.guest.domid))


def test_every_function_can_fail(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    calls = Calls(probe, guest)
    names = probe.stub.functions()
    assert len(names) == len(set(names)) == 63
    before = probe.stub.usage()
    for name in names:
        if name in NOTHING_RETURNED:
            with pytest.raises(StubError, match="cannot fail"):
                probe.stub.fail(name)
            continue
        assert calls(name), name
        probe.stub.fail(name, nth=2, errno=errno.EL2HLT)
        assert calls(name), name
        worked = calls(name)
        assert (worked, probe.errno) == (False, errno.EL2HLT), name
        assert calls(name), name
        probe.stub.clear_failures()
    probe.lib.xc_shadow_control(probe.xch, guest.domid, 0, probe.ffi.NULL, 0)
    after = probe.stub.usage()
    assert {**after, "paused_domains": 0} == {**before, "paused_domains": 0}
    calls.close()


def test_a_rule_for_every_call(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    probe.stub.fail("xc_domain_get_guest_width", nth=0, errno=errno.EPERM)
    width = probe.ffi.new("unsigned int *")
    for _ in range(3):
        assert probe.lib.xc_domain_get_guest_width(probe.xch, guest.domid, width) == -1
        assert probe.errno == errno.EPERM
    probe.stub.clear_failures()
    assert probe.lib.xc_domain_get_guest_width(probe.xch, guest.domid, width) == 0


def test_wrong_rules(probe: Probe) -> None:
    for arguments in (
        {"function": "xc_domain_fly"},
        {"function": "xc_domain_pause", "errno": 0},
        {"function": "xc_domain_pause", "page": 3},
    ):
        with pytest.raises(StubError):
            probe.stub.fail(**arguments)


def test_a_page_of_a_mapping_fails(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    mfns = [guest.mfn(pfn) for pfn in range(4)]
    probe.stub.fail("xenforeignmemory_map", nth=2, errno=errno.ENOENT, page=2)
    for expected in ([0] * 4, [0, 0, -errno.ENOENT, 0], [0] * 4):
        address, err = probe.map(guest.domid, mfns)
        assert err == expected
        probe.unmap(address, 4)
    probe.stub.fail("xenforeignmemory_map", errno=errno.ENOENT, page=0)
    assert probe.map(guest.domid, mfns, per_page=False)[0] == probe.ffi.NULL
    assert probe.errno == errno.ENOENT


def test_counts(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    probe.stub.clear_calls()
    assert probe.stub.calls() == {}
    probe.info(guest.domid)
    probe.info(guest.domid)
    probe.lib.xc_domain_pause(probe.xch, 99)
    assert probe.stub.calls() == {"xc_domain_getinfolist": 2, "xc_domain_pause": 1}
    probe.stub.reset()
    assert probe.stub.calls() == {}


# -- the hook


def test_hook_sees_each_call(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    probe.stub.clear_calls()
    seen: list[tuple[str, int]] = []
    with probe.stub.hook(lambda name, count: seen.append((name, count))):
        probe.info(guest.domid)
        probe.lib.xc_domain_pause(probe.xch, 99)
        probe.info(guest.domid)
    probe.info(guest.domid)
    assert seen == [("xc_domain_getinfolist", 1), ("xc_domain_pause", 1), ("xc_domain_getinfolist", 2)]


def test_hook_may_change_the_guest(probe: Probe) -> None:
    guest = probe.guest(mem="4M")

    def hook(name: str, count: int) -> None:
        if name == "xc_domain_getinfolist" and count == 2:
            guest.replace_leaf(0)
            guest.balloon_out(guest.pfns_of_type(PageType.NOTAB)[5])
            probe.info(guest.domid)  # neither counted nor a reason to call the hook again

    probe.stub.clear_calls()
    with probe.stub.hook(hook):
        assert probe.info(guest.domid).tot_pages == 1024
        assert probe.info(guest.domid).tot_pages == 1023
    assert guest.shared_info("p2m_generation") == 2
    assert probe.stub.calls() == {"xc_domain_getinfolist": 2}


def test_hook_fails_a_call(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    with probe.stub.hook(lambda name, count: errno.ENOMEM):
        assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == -1
        assert probe.errno == errno.ENOMEM
    assert guest.running


def test_exception_in_the_hook(probe: Probe) -> None:
    guest = probe.guest(mem="4M")

    def hook(name: str, count: int) -> None:
        raise KeyError(name)

    def use() -> None:
        with probe.stub.hook(hook):
            assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == -1
            assert probe.errno == errno.EIO
            raise OSError("what the failed call led to")

    with pytest.raises(KeyError, match="xc_domain_pause") as caught:
        use()
    assert isinstance(caught.value.__context__, OSError)
    assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == 0
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0


# -- what a guest does


def p2m_entry(guest: StubDomain, pfn: int) -> int:
    page = guest.read_page(guest.leaf_pfns()[pfn // 512])
    return int.from_bytes(page[pfn % 512 * 8 : pfn % 512 * 8 + 8], "little")


def counts_up(page: bytes) -> bool:
    """A data page that was not written to: each word is one more than that before it."""
    words = memoryview(page).cast("Q")
    return all(words[i] == words[0] + i for i in range(1, 512))


def test_ballooning(probe: Probe) -> None:
    guest = probe.guest(mem="4M", tree="both")
    pfn = next(pfn for pfn in guest.pfns_of_type(PageType.NOTAB)[100:] if counts_up(guest.read_page(pfn)))
    mfn = guest.mfn(pfn)
    guest.balloon_out(pfn)
    assert p2m_entry(guest, pfn) == INVALID_MFN
    assert probe.stub.frame(mfn) == (0x7FF4, None, 0xF)
    assert probe.info(guest.domid).tot_pages == 1023
    with pytest.raises(StubError, match="no memory"):
        guest.read_page(pfn)
    guest.balloon_in(pfn)
    assert p2m_entry(guest, pfn) == guest.mfn(pfn)
    assert probe.stub.frame(guest.mfn(pfn))[:2] == (guest.domid, pfn)
    assert guest.shared_info("p2m_generation") == 0  # contents changed, not the structure
    for wrong, says in ((pfn, "memory already"), (1 << 30, "beyond")):
        with pytest.raises(StubError, match=says):
            guest.balloon_in(wrong)
    with pytest.raises(StubError, match="in use by the guest's kernel"):
        guest.balloon_out(guest.state().kernel_root_pfn)


def test_balloon_limit(probe: Probe) -> None:
    guest = probe.guest(mem="4M", spare_p2m="4M", max_mem="4100K")
    guest.balloon_in(1030)
    with pytest.raises(StubError, match="as many pages as it may"):
        guest.balloon_in(1031)


def test_growing_into_the_shared_part(probe: Probe) -> None:
    guest = probe.guest(mem="4M", spare_p2m="4G", max_mem="8M")
    pfn = 1024 + 600000
    assert guest.leaf_pfns()[pfn // 512] == guest.state().missing_leaf_pfn
    guest.balloon_in(pfn)
    assert guest.shared_info("p2m_generation") == 2
    assert guest.leaf_pfns().count(guest.leaf_pfns()[pfn // 512]) == 1
    assert p2m_entry(guest, pfn) == guest.mfn(pfn)
    assert p2m_entry(guest, pfn + 1) == INVALID_MFN
    walk(probe, guest)


def walk(probe: Probe, guest: StubDomain) -> None:
    """The page tables still lead to every p2m page."""
    from .test_layout import Machine

    machine = Machine(probe, guest)
    cr3, vaddr = guest.shared_info("p2m_cr3"), guest.shared_info("p2m_vaddr")
    for index, leaf in enumerate(guest.leaf_pfns()):
        assert machine.translate(cr3, vaddr + index * 4096) == guest.mfn(leaf)


def test_replacing_and_moving_the_p2m(probe: Probe) -> None:
    guest = probe.guest(mem="8M", tree="both")
    before = guest.leaf_pfns()
    contents = guest.read_page(before[1])
    guest.replace_leaf(1)
    assert guest.leaf_pfns()[1] != before[1]
    assert guest.read_page(guest.leaf_pfns()[1]) == contents
    assert guest.shared_info("p2m_generation") == 2
    walk(probe, guest)
    root = guest.shared_info("p2m_cr3")
    guest.move_p2m(0xFFFFD12345678000)
    assert guest.shared_info("p2m_vaddr") == 0xFFFFD12345678000
    assert (guest.shared_info("p2m_generation"), guest.shared_info("p2m_cr3")) == (4, root)
    walk(probe, guest)
    guest.move_p2m(0xFFFFD00000000000, new_root=True)
    assert guest.shared_info("p2m_cr3") != root
    assert guest.shared_info("p2m_generation") == 6
    walk(probe, guest)
    guest.bump_generation()
    assert guest.shared_info("p2m_generation") == 7
    guest.set_generation(100)
    assert guest.shared_info("p2m_generation") == 100
    with pytest.raises(StubError, match="the p2m has 4 pages"):
        guest.replace_leaf(99)
    with pytest.raises(StubError, match="cannot be at"):
        guest.move_p2m(0xFFFF800000000000)


def test_raw_values(probe: Probe) -> None:
    guest = probe.guest(mem="4M", vcpus=2)
    table = guest.pfns_of_type(PageType.L1TAB)[0]
    old = guest.corrupt_pte(table, 7, 0xDEADBEEF001)
    assert guest.corrupt_pte(table, 7, old) == 0xDEADBEEF001
    was = guest.corrupt_p2m(9, 5)
    assert (was, p2m_entry(guest, 9)) == (guest.mfn(9), 5)
    assert guest.mfn(9) == was  # the truth is not touched
    guest.poke_shared_info("p2m_cr3", 0x800)
    assert guest.shared_info("p2m_cr3") == 0x800
    guest.poke_vcpu(1, "gdt_ents", 1 << 40)
    assert guest.vcpu(1, "gdt_ents") == 1 << 40
    guest.poke_vcpu(1, "online", 0)
    assert probe.info(guest.domid).nr_online_vcpus == 1
    guest.poke_domain("max_pages", 7)
    guest.poke_domain("tot_pages", 5)
    guest.poke_domain("hvm", 1)
    info = probe.info(guest.domid)
    assert (info.max_pages, info.tot_pages, info.flags & 2) == (7, 5, 2)
    guest.set_type(3, PageType.L3TAB)
    assert guest.types([3]) == [PageType.L3TAB]
    guest.set_type(3, PageType.NOTAB)
    probe.stub.set_m2p(was, 8)
    assert probe.stub.frame(was)[1] == 9


WRONG: list[Callable[[StubDomain], Any]] = [
    lambda guest: guest.shared_info("p2m_level"),
    lambda guest: guest.vcpu(1, "rax"),
    lambda guest: guest.vcpu(0, "eax"),
    lambda guest: guest.poke_vcpu(0, "xsave_size", 1 << 20),
    lambda guest: guest.poke_domain("length", 4),
    lambda guest: guest.write_page(0, b"xx", 4095),
    lambda guest: guest.corrupt_pte(0, 512, 0),
    lambda guest: guest.corrupt_p2m(1 << 40, 0),
    lambda guest: guest.set_type(0, PageType.XTAB),
    lambda guest: guest.mfn(1 << 50),
    lambda guest: guest.expected_pages([0, 1 << 50]),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_the_control_panel_checks_what_it_is_told(probe: Probe, number: int) -> None:
    guest = probe.guest(mem="4M")
    with pytest.raises(StubError):
        WRONG[number](guest)


def test_leaks_are_told_apart(probe: Probe) -> None:
    assert probe.stub.leaks() == {}
    assert probe.stub.leaks(handles=True) == {"xc_handles": 1, "fmem_handles": 1}
    guest = probe.guest(mem="4M")
    assert probe.lib.xc_shadow_control(probe.xch, guest.domid, 2, probe.ffi.NULL, 0) == 0
    assert probe.stub.leaks() == {"logdirty_domains": 1}
    assert probe.lib.xc_shadow_control(probe.xch, guest.domid, 0, probe.ffi.NULL, 0) == 0
