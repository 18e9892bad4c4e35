"""Params, context, suspension and a restored kernel of HVM and PVH guests."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from support.same import check_same

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe

(CALLBACK_IRQ, STORE_PFN, STORE_EVTCHN, PAE_ENABLED, IOREQ_PFN, BUFIOREQ_PFN, VIRIDIAN, TIMER_MODE, IDENT_PT) = (
    0, 1, 2, 4, 5, 6, 9, 10, 12)
(ACPI_S_STATE, VM86_TSS, CONSOLE_PFN, CONSOLE_EVTCHN, ACPI_IOPORTS, TRIPLE_FAULT, IOREQ_SERVER_PFN) = (
    14, 15, 17, 18, 19, 31, 32)
(NR_IOREQ_SERVER_PAGES, GENERATION_ID, ALTP2M, FIP_WIDTH, VM86_TSS_SIZED, MCA_CAP, NR_PARAMS) = (
    33, 34, 35, 36, 37, 38, 39)
CARRIED = (STORE_PFN, IOREQ_PFN, BUFIOREQ_PFN, 27, 28, 29, VM86_TSS_SIZED, CONSOLE_PFN, ACPI_IOPORTS, VIRIDIAN,
           IDENT_PT, GENERATION_ID, IOREQ_SERVER_PFN, NR_IOREQ_SERVER_PAGES, FIP_WIDTH, MCA_CAP)
END, HEADER, CPU, PIC, IOAPIC, LAPIC, XSAVE, VIRIDIAN_VCPU, TSC_ADJUST, MSR = 0, 1, 2, 3, 4, 5, 16, 17, 19, 20
SPECIALS = 0xFEFF8


def rings(guest: StubDomain) -> list[int]:
    """Where they are."""
    return [guest.param(index) for index in (BUFIOREQ_PFN, STORE_PFN, IOREQ_PFN, CONSOLE_PFN)]


# -- params


@pytest.mark.parametrize("kind", ["pvh", "hvm"])
def test_params_of_a_guest(probe: Probe, kind: str) -> None:
    guest = probe.hvm(kind)
    told = {index: probe.param(guest.domid, index) for index in range(NR_PARAMS)}
    assert told[CALLBACK_IRQ] >> 56 == 2
    assert [told[x] for x in (STORE_PFN, CONSOLE_PFN, IOREQ_PFN, BUFIOREQ_PFN)] == [
        0xFEFFC, 0xFEFFF, 0xFEFFD, 0xFEFFB]
    assert told[IDENT_PT] == 0xFEFFE << 12 and told[STORE_EVTCHN] == 1 and told[FIP_WIDTH] == 8
    assert told[PAE_ENABLED] == told[13] == told[24] == -errno.EINVAL, "deprecated"
    assert told[IOREQ_SERVER_PFN] == (0xFEFF0 if kind == "hvm" else 0)
    assert bool(told[VM86_TSS_SIZED]) == bool(told[ACPI_IOPORTS]) == (kind == "hvm")
    assert probe.param(guest.domid, NR_PARAMS) == -errno.EINVAL
    assert guest.param(STORE_PFN) == 0xFEFFC


def test_who_has_params(probe: Probe) -> None:
    assert probe.param(probe.guest().domid, STORE_PFN) == -errno.EINVAL
    assert probe.param(99, STORE_PFN) == -errno.ESRCH
    assert probe.set_param(probe.guest().domid, STORE_PFN, 1) == errno.EINVAL


SET = [
    (STORE_PFN, 5, 0), (STORE_PFN, 6, 0), (PAE_ENABLED, 1, errno.EINVAL), (ALTP2M, 1, errno.EEXIST),
    (NR_PARAMS, 0, errno.EINVAL), (IOREQ_PFN, 9, 0), (IOREQ_PFN, 9, 0), (IOREQ_PFN, 10, errno.EEXIST),
    (VIRIDIAN, 2, errno.EINVAL), (VIRIDIAN, 1 << 20 | 1, errno.EINVAL), (VIRIDIAN, 5, 0), (VIRIDIAN, 1, errno.EEXIST),
    (TIMER_MODE, 4, errno.EINVAL), (TIMER_MODE, 3, 0), (ACPI_S_STATE, 2, errno.EINVAL), (ACPI_S_STATE, 3, 0),
    (TRIPLE_FAULT, 7, errno.EINVAL), (NR_IOREQ_SERVER_PAGES, 0, errno.EINVAL),
    (NR_IOREQ_SERVER_PAGES, 65, errno.EINVAL),
    (NR_IOREQ_SERVER_PAGES, 8, 0), (FIP_WIDTH, 5, errno.EINVAL), (FIP_WIDTH, 4, 0), (MCA_CAP, 2, errno.EINVAL),
    (VM86_TSS, 1 << 32, errno.EINVAL), (VM86_TSS, 0x9000, 0), (VM86_TSS_SIZED, 103 << 32, errno.EINVAL),
    (VM86_TSS_SIZED, 200 << 32 | 0x9000, 0), (ACPI_IOPORTS, 2, errno.EINVAL), (ACPI_IOPORTS, 1, 0),
]


def test_rules_of_setting(probe: Probe) -> None:
    domid = probe.stub.create_empty("4M", kind="hvm")
    assert [probe.set_param(domid, index, value) for index, value, _ in SET] == [result for *_, result in SET]
    assert [probe.param(domid, x) for x in (STORE_PFN, IOREQ_PFN, VIRIDIAN, ACPI_S_STATE, FIP_WIDTH)] == [6, 9, 5, 3, 4]
    assert probe.param(domid, VM86_TSS_SIZED) == 200 << 32 | 0x9000 and probe.param(domid, VM86_TSS) == 0x9000
    assert probe.set_param(probe.stub.create_empty("4M", kind="pvh"), ACPI_IOPORTS, 1) == errno.ENODEV


# -- the context


def entries(context: bytes) -> list[tuple[int, int, bytes]]:
    """(type, instance, data) of each entry, up to the end's."""
    found, at = [], 0
    while True:
        code, instance, length = struct.unpack_from("<HHI", context, at)
        found.append((code, instance, context[at + 8:at + 8 + length]))
        at += 8 + length
        if code == END:
            assert at == len(context)
            return found


def packed(parts: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(struct.pack("<HHI", code, instance, len(data)) + data for code, instance, data in parts)


def test_context_of_a_guest(probe: Probe) -> None:
    found = entries(probe.context(probe.hvm(vcpus=3, offline_vcpus=(1,), viridian=True).domid))
    codes = [code for code, *_ in found]
    assert struct.unpack_from("<II", found[0][2]) == (0x54381286, 1) and found[0][:2] == (HEADER, 0)
    assert codes[1:] == [*sorted(codes[1:-1]), END]
    assert [i for code, i, _ in found if code == CPU] == [0, 2], "a vcpu that is down has no registers there"
    assert [i for code, i, _ in found if code == LAPIC] == [0, 1, 2]
    assert [i for code, i, _ in found if code == PIC] == [0, 1]
    assert {len(data) for code, _, data in found if code == CPU} == {1032}
    assert {IOAPIC, XSAVE, VIRIDIAN_VCPU, TSC_ADJUST, MSR} < set(codes)
    plain = {code for code, *_ in entries(probe.context(probe.hvm("pvh", xsave=0, msrs=0).domid))}
    assert not {PIC, IOAPIC, XSAVE, VIRIDIAN_VCPU, MSR} & plain and LAPIC in plain


def test_sizes_of_the_context(probe: Probe) -> None:
    guest, null = probe.hvm(), probe.ffi.NULL
    enough = probe.lib.xc_domain_hvm_getcontext(probe.xch, guest.domid, null, 0)
    buffer = probe.ffi.new("uint8_t[]", enough)
    assert probe.lib.xc_domain_hvm_getcontext(probe.xch, guest.domid, buffer, enough - 1) == -1
    assert probe.errno == errno.ENOSPC
    assert 0 < probe.lib.xc_domain_hvm_getcontext(probe.xch, guest.domid, buffer, enough) < enough
    assert probe.lib.xc_domain_hvm_getcontext(probe.xch, probe.guest().domid, null, 0) == -1
    assert probe.errno == errno.EINVAL
    assert probe.lib.xc_domain_hvm_getcontext(probe.xch, 99, null, 0) == -1
    assert probe.errno == errno.ESRCH


def test_registers_change_in_the_context(probe: Probe) -> None:
    guest = probe.hvm("pvh", writer="calls")
    before = entries(probe.context(guest.domid))
    guest.tick()
    after = entries(probe.context(guest.domid))
    assert {code for (code, _, old), (_, _, new) in zip(before, after) if old != new} == {CPU}
    out = probe.ffi.new("vcpu_guest_context_any_t *")
    with probe.stub.hook(None):
        assert probe.lib.xc_vcpu_getcontext(probe.xch, guest.domid, 0, out) == 0
    registers = probe.ffi.cast("vcpu_guest_context_t *", out).user_regs
    assert registers.rip > struct.unpack_from("<Q", before[1][2], 512 + 16 * 8)[0]


def test_a_context_is_taken(probe: Probe) -> None:
    old = probe.hvm(vcpus=2, offline_vcpus=(1,), viridian=True)
    context = probe.context(old.domid)
    new = probe.stub.create_empty("8M", vcpus=2, kind="hvm")
    assert probe.info(new).nr_online_vcpus == 0
    assert probe.set_context(new, context) == 0
    assert probe.info(new).nr_online_vcpus == 1
    assert entries(probe.context(new))[1:] == entries(context)[1:]


def spoiled(context: bytes) -> list[tuple[str, bytes, int]]:
    parts = entries(context)
    where = {code: i for i, (code, *_) in reversed(list(enumerate(parts)))}

    def having(which: int, **changes: Any) -> bytes:
        changed = list(parts)
        old = changed[where[which]]
        changed[where[which]] = (
            changes.get("code", old[0]), changes.get("instance", old[1]), changes.get("data", old[2])
        )
        return packed(changed)

    def cpu(offset: int, value: int) -> bytes:
        data = bytearray(parts[where[CPU]][2])
        struct.pack_into("<Q", data, offset, value)
        return having(CPU, data=bytes(data))

    cr0, cr3, efer = 512 + 18 * 8, 512 + 20 * 8, 512 + 28 * 8 + 18 * 4 + 10 * 8 + 8 * 4 + 9 * 8
    return [
        ("nothing", b"", errno.ENODATA),
        ("no end", context[:-8], errno.ENODATA),
        ("cut short", context[:500], errno.ENODATA),
        ("no header", packed(parts[1:]), errno.ENODATA),
        ("another magic", having(HEADER, data=b"\0" * 24), errno.EINVAL),
        ("an unknown type", having(LAPIC, code=21), errno.EINVAL),
        ("a type far away", having(LAPIC, code=0xFFFF), errno.EINVAL),
        ("a second header", packed([parts[0], *parts]), errno.EINVAL),
        ("no such vcpu", having(LAPIC, instance=2), errno.EINVAL),
        ("no such PIC", having(PIC, instance=2), errno.ENODEV),
        ("another length", having(LAPIC, data=b"\0" * 23), errno.EINVAL),
        ("cr0 with paging unprotected", cpu(cr0, 0x80000010), errno.EINVAL),
        ("cr0 too large", cpu(cr0, 1 << 32 | 0x11), errno.EINVAL),
        ("cr3 too large", cpu(cr3, 1 << 60), errno.EINVAL),
        ("efer with unknown bits", cpu(efer, 1 << 20), errno.EINVAL),
        ("MSRs of another number", having(MSR, data=struct.pack("<QQQ", 7, 0, 0)), errno.EOPNOTSUPP),
        ("XSAVE too short", having(XSAVE, data=b"\0" * 100), errno.EINVAL),
    ]


@pytest.mark.parametrize("which", range(17))
def test_a_context_is_refused(probe: Probe, which: int) -> None:
    """And nothing of it is taken."""
    context = probe.context(probe.hvm(vcpus=2).domid)
    new = probe.stub.create_empty("8M", vcpus=2, kind="hvm")
    what, wrong, error = spoiled(context)[which]
    assert len(spoiled(context)) == 17
    assert probe.set_context(new, wrong) == error, what
    assert probe.info(new).nr_online_vcpus == 0 and len(entries(probe.context(new))) == 2


def test_pvh_has_no_emulated_devices(probe: Probe) -> None:
    context = probe.context(probe.hvm().domid)
    assert probe.set_context(probe.stub.create_empty("8M", kind="pvh"), context) == errno.ENODEV


# -- suspension


def suspend_node(guest: StubDomain) -> str:
    return f"/local/domain/{guest.domid}/control/shutdown"


def ask(probe: Probe, guest: StubDomain) -> None:
    probe.stub.store_write(suspend_node(guest), "suspend")
    guest.tick(20)


@pytest.mark.parametrize("kind", ["pvh", "hvm"])
def test_a_pv_driver_answers(probe: Probe, kind: str) -> None:
    guest = probe.hvm(kind)
    assert probe.stub.store_read(f"/local/domain/{guest.domid}/control/feature-suspend") == "1"
    ask(probe, guest)
    assert guest.suspended and probe.stub.store_read(suspend_node(guest)) == ""


def test_without_one_nobody_answers(probe: Probe) -> None:
    guest = probe.hvm(pv_drivers=False)
    assert probe.param(guest.domid, CALLBACK_IRQ) == 0
    assert probe.stub.store_read(f"/local/domain/{guest.domid}/control/feature-suspend") is None
    ask(probe, guest)
    assert guest.running and probe.stub.store_read(suspend_node(guest)) == "suspend"
    assert probe.lib.xc_domain_shutdown(probe.xch, guest.domid, 2) == 0
    assert guest.suspended
    assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 1) == 0
    assert guest.running


def test_a_sleeper_does_nothing(probe: Probe) -> None:
    guest = probe.hvm(acpi_s_state=3, writer="calls")
    assert probe.param(guest.domid, ACPI_S_STATE) == 3
    ask(probe, guest)
    assert guest.running and guest.state().writes == 0
    assert probe.set_param(guest.domid, ACPI_S_STATE, 0) == 0
    guest.tick()
    assert guest.state().writes > 0


def rax(probe: Probe, guest: StubDomain) -> int:
    return int(struct.unpack_from("<Q", entries(probe.context(guest.domid))[1][2], 512)[0])


@pytest.mark.parametrize("fast", [0, 1])
def test_resume(probe: Probe, fast: int) -> None:
    guest = probe.hvm("pvh")
    guest.shut_down(2)
    assert rax(probe, guest) == 0
    values: list[int] = []

    def look(name: str, count: int) -> None:
        if name == "xc_domain_hvm_getcontext":
            return
        values.append(count)

    assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == 0
    with probe.stub.hook(look):
        assert probe.lib.xc_domain_resume(probe.xch, guest.domid, fast) == 0
    assert values and rax(probe, guest) == fast
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0
    assert guest.running


# -- a restored kernel


class Rebuilt:
    """Each step of a restore by itself, so that a test can leave one out or do it wrong."""

    def __init__(self, probe: Probe, old: StubDomain) -> None:
        self.probe, self.old = probe, old
        self.kind = "hvm" if old.state().device_model else "pvh"
        self.vcpus = probe.info(old.domid).max_vcpu_id + 1
        self.domid = probe.stub.create_empty("9M", self.vcpus, kind=self.kind)
        self.new = probe.stub.guest(self.domid)

    def memory(self, leave_out: tuple[int, ...] = ()) -> None:
        gfns = [gfn for gfn in self.old.pfns_with_memory() if gfn not in leave_out]
        assert self.probe.populate(self.domid, gfns)[0] == 0
        address, err = self.probe.map(self.domid, gfns, prot=3)
        assert not any(err)
        window = self.probe.ffi.buffer(address, len(gfns) * PAGE_SIZE)
        for i, page in enumerate(self.old.expected_pages(gfns)):
            window[i * PAGE_SIZE:(i + 1) * PAGE_SIZE] = page
        self.probe.unmap(address, len(gfns))

    def rings(self) -> None:
        for gfn in rings(self.old):
            self.probe.write(self.domid, gfn, bytes(PAGE_SIZE))

    def params(self) -> None:
        for index in CARRIED:
            value = self.probe.param(self.old.domid, index)
            if value:
                assert self.probe.set_param(self.domid, index, value) == 0
        assert self.probe.set_param(self.domid, STORE_EVTCHN, 5) == 0

    def context(self) -> None:
        assert self.probe.set_context(self.domid, self.probe.context(self.old.domid)) == 0

    def all(self) -> StubDomain:
        self.memory()
        self.rings()
        self.params()
        self.context()
        return self.new


GUESTS: list[dict[str, Any]] = [
    {"kind": "pvh", "vcpus": 2, "holes": 0.1, "balloon": 3}, {"kind": "pvh", "holes": 0.1},
    {"kind": "hvm", "vram": "1M", "pod": "0"},
    {"kind": "hvm", "pv_drivers": False, "viridian": True}, {"kind": "pvh", "compact": True},
    {"kind": "hvm", "compact": True, "vram": "1M"},
]


@pytest.mark.parametrize("values", GUESTS)
def test_a_restored_kernel_runs_on(probe: Probe, values: dict[str, Any]) -> None:
    old = probe.hvm(writer="calls", **values)
    old.tick(30)
    if values.get("pv_drivers", True):
        ask(probe, old)
        assert old.suspended
    else:
        assert probe.lib.xc_domain_shutdown(probe.xch, old.domid, 2) == 0
    new = Rebuilt(probe, old).all()
    assert not new.running and new.pfns_with_memory() == old.pfns_with_memory()
    assert probe.lib.xc_domain_resume(probe.xch, old.domid, 1) == 0
    new.adopt()
    assert new.running and new.state().booted
    assert new.param(CALLBACK_IRQ) >> 56 == (2 if values.get("pv_drivers", True) else 0)
    old.tick(5)
    new.tick(5)
    assert new.state().writes == 5 * 8
    alone = {*rings(old), new.state().kernel_pfn}
    if not values.get("balloon"):
        same = [x for x in new.pfns_with_memory() if x not in alone]
        check_same(old.expected_pages(same), new.expected_pages(same), "the guests, which both go on,")


def test_it_can_be_rebuilt_again(probe: Probe) -> None:
    guest = probe.hvm("pvh", writer="calls")
    for _ in range(3):
        ask(probe, guest)
        assert guest.suspended
        old, guest = guest, Rebuilt(probe, guest).all()
        guest.adopt()
        old.destroy()


WRONG = {
    "no memory of the kernel's": lambda r: (r.memory((r.old.state().kernel_pfn,)), r.rings(), r.params(), r.context()),
    "a page less": lambda r: (r.memory((3,)), r.rings(), r.params(), r.context()),
    "rings as they were": lambda r: (r.memory(), r.params(), r.context()),
    "no params": lambda r: (r.memory(), r.rings(), r.context()),
    "another identity map": lambda r: (r.all(), r.probe.write(r.domid, SPECIALS + 6, b"x")),
    "another page of the kernel's": lambda r: (r.all(), r.probe.write(r.domid, r.old.state().kernel_pfn, b"x", 200)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_kernel_that_finds_something_wrong_crashes(probe: Probe, what: str) -> None:
    old = probe.hvm("pvh")
    ask(probe, old)
    rebuilt = Rebuilt(probe, old)
    WRONG[what](rebuilt)
    with pytest.raises(StubError, match="kernel crashed"):
        rebuilt.new.adopt()
    assert rebuilt.new.state().shutdown_reason == 3


def test_a_pv_driver_that_was_not_asked_is_lost(probe: Probe) -> None:
    old = probe.hvm()
    assert probe.lib.xc_domain_shutdown(probe.xch, old.domid, 2) == 0
    new = Rebuilt(probe, old).all()
    with pytest.raises(StubError, match="PV drivers were not asked"):
        new.adopt()


def test_nothing_starts_without_registers(probe: Probe) -> None:
    old = probe.hvm("pvh")
    ask(probe, old)
    rebuilt = Rebuilt(probe, old)
    rebuilt.memory()
    with pytest.raises(StubError, match="no context"):
        rebuilt.new.adopt()


# -- what else there is


def test_grants_and_tsc(probe: Probe) -> None:
    domid = probe.stub.create_empty("1M", kind="hvm")
    assert probe.lib.xc_dom_gnttab_seed(probe.xch, domid, False, 1, 2, 0, 0) == -1
    assert probe.errno == errno.EINVAL
    assert probe.lib.xc_dom_gnttab_seed(probe.xch, domid, True, 0xFEFFF, 0xFEFFC, 0, 0) == 0
    seed = probe.stub.guest(domid).grant_seed
    assert seed and (seed.console_gfn, seed.store_gfn) == (0xFEFFF, 0xFEFFC)
    assert probe.lib.xc_domain_set_tsc_info(probe.xch, domid, 0, 7, 2000000, 3) == 0


def test_the_store_has_its_device_model(probe: Probe) -> None:
    guest, xs = probe.hvm(), probe.lib.xs_open(0)
    number = probe.ffi.new("unsigned int *")
    names = probe.lib.xs_directory(xs, 0, b"/local/domain/0/device-model", number)
    assert [probe.ffi.string(names[i]) for i in range(number[0])] == [str(guest.domid).encode()]
    probe.lib.free(names)
    names = probe.lib.xs_directory(xs, 0, f"/local/domain/{guest.domid}".encode(), number)
    assert {probe.ffi.string(names[i]) for i in range(number[0])} == {b"name", b"domid", b"memory", b"control"}
    probe.lib.free(names)
    assert probe.lib.xs_directory(xs, 0, b"/no/such", number) == probe.ffi.NULL
    assert probe.errno == errno.ENOENT
    probe.lib.xs_close(xs)
    guest.destroy()
    assert probe.stub.store_read(f"/local/domain/0/device-model/{guest.domid}/state") is None
