"""What a toolstack does to a domain it builds: memory, vcpus, TSC, CPU policy, grants, and what Xen refuses."""

from __future__ import annotations

import errno
import itertools
import struct
from typing import Any, Callable

import pytest

from pyxcsr.errors import UsageError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.stub.domain import GrantSeed, StubDomain, StubTsc
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe

pytestmark = pytest.mark.toolchain

PAUSED = 1 << 3
SET_SIZE, GET_SIZE, SET_EXT, GET_EXT, SET_XSAVE, GET_XSAVE, GET_MSRS, SET_MSRS = 35, 36, 42, 43, 62, 63, 72, 73
NO_SUBLEAF = 0xFFFFFFFF


def empty(probe: Probe, max_mem: str = "4M", vcpus: int = 1, name: str = "") -> StubDomain:
    return probe.stub.guest(probe.stub.create_empty(max_mem, vcpus, name))


def test_an_empty_domain(probe: Probe) -> None:
    guest = empty(probe, "8M", 4, "coming")
    info = probe.info(guest.domid)
    assert (info.domain, info.flags, info.tot_pages, info.max_pages) == (guest.domid, PAUSED, 0, 2048 + 256)
    assert (info.nr_online_vcpus, info.max_vcpu_id) == (0, 3)
    state = guest.state()
    assert state.paused and not state.running and not state.booted and guest.pfns_with_memory() == []
    assert probe.stub.store_read(f"/local/domain/{guest.domid}/name") == "coming"
    width, gpfns = probe.ffi.new("unsigned int *"), probe.ffi.new("xen_pfn_t *")
    assert probe.lib.xc_domain_get_guest_width(probe.xch, guest.domid, width) == 0
    assert probe.lib.xc_domain_nr_gpfns(probe.xch, guest.domid, gpfns) == 0
    assert (width[0], gpfns[0]) == (8, 1)
    context = probe.ffi.new("vcpu_guest_context_any_t *")
    for vcpu in range(4):
        assert probe.lib.xc_vcpu_getcontext(probe.xch, guest.domid, vcpu, context) == -1
        assert probe.errno == errno.ENODATA
    assert (guest.tsc, guest.cpu_policy_given, guest.grant_seed) == (None, None, None)
    probe.write(guest.domid, info.shared_info_frame, struct.pack("<Q", 77), 3088)
    assert guest.read_shared_info()[3088:3096] == struct.pack("<Q", 77)
    assert probe.lib.xc_domain_nr_gpfns(probe.xch, guest.domid, gpfns) == 0
    assert gpfns[0] == 77
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0  # no vcpu has a context: nothing runs
    assert not guest.state().booted and probe.info(guest.domid).flags == 0
    for call in (guest.leaf_pfns, lambda: guest.balloon_in(0), lambda: guest.corrupt_p2m(0, 0), guest.adopt):
        with pytest.raises(StubError):
            call()
    guest.tick(3)
    guest.shut_down(2)
    assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 1) == 0


@pytest.mark.parametrize("values", [("4097",), ("nine",), ("4M", 0), ("4M", 65), ("16T",)])
def test_what_no_domain_is(probe: Probe, values: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError):
        probe.stub.create_empty(*values)


def test_no_frame_is_lost(probe: Probe) -> None:
    keeps = probe.guest(mem="4M")  # with no domain at all the machine would begin anew
    free = probe.stub.free_frames
    for _ in range(20):
        guest = empty(probe)
        assert probe.stub.free_frames == free - 1
        rc, mfns = probe.populate(guest.domid, range(0, 2000, 2))
        assert rc == 0 and probe.stub.free_frames == free - 1001
        address, _ = probe.map(guest.domid, mfns[:3], prot=3)
        guest.destroy()
        assert probe.stub.free_frames == free - 1001  # dying: frames of it are mapped
        probe.unmap(address, 3)
        assert probe.stub.free_frames == free
        assert probe.stub.domains == [keeps.domid]


def test_populate(probe: Probe) -> None:
    guest, other = empty(probe), probe.guest(mem="4M")
    pfns = [9, 3, 700, 0]
    rc, mfns = probe.populate(guest.domid, pfns)
    assert rc == 0 and len(set(mfns)) == 4
    for pfn, mfn in zip(pfns, mfns):
        assert probe.stub.frame(mfn) == (guest.domid, pfn, 0)
        assert guest.mfn(pfn) == mfn
        assert guest.read_page(pfn) == struct.pack("<Q", 0xDEADFA1100000000 + mfn) * 512  # nobody scrubbed it
    assert probe.info(guest.domid).tot_pages == 4 and guest.pfns_with_memory() == sorted(pfns)
    assert probe.types(guest.domid, mfns) == [0] * 4
    assert probe.types(other.domid, mfns) == [0xF] * 4
    assert probe.map(other.domid, mfns, per_page=False)[0] == probe.ffi.NULL
    assert m2p(probe, mfns) == pfns


def m2p(probe: Probe, mfns: list[int]) -> list[int]:
    out = []
    chunks = probe.ffi.new("xen_pfn_t[]", probe.stub.max_page // (1 << 18))
    assert probe.lib.xc_machphys_mfn_list(probe.xch, len(chunks), chunks) == 0
    for mfn in mfns:
        page, word = chunks[mfn >> 18] + (mfn >> 9 & 511), mfn & 511
        address, err = probe.map(0x7FF2, [page])
        assert err == [0]
        out.append(struct.unpack_from("<Q", probe.ffi.buffer(address, PAGE_SIZE), word * 8)[0])
        probe.unmap(address, 1)
    return out


def test_populate_up_to_the_limit(probe: Probe) -> None:
    """Too few is EBUSY, as the library says, and what could be given was given."""
    guest = empty(probe, "4M")
    rc, extents = probe.populate(guest.domid, range(1300))
    assert (rc, probe.errno) == (-1, errno.EBUSY)
    assert probe.info(guest.domid).tot_pages == probe.info(guest.domid).max_pages == 1280
    assert extents[1279] == guest.mfn(1279) and extents[1280:] == list(range(1280, 1300))
    assert probe.populate(guest.domid, [5000])[0] == -1
    assert probe.populate(guest.domid, []) == (0, [])


def test_populate_a_full_machine(probe: Probe) -> None:
    probe.stub.reset(frames=8192)
    guest = empty(probe, "1G")
    assert probe.populate(guest.domid, range(8192))[0] == -1
    assert probe.errno == errno.EBUSY and probe.stub.free_frames == 0
    with pytest.raises(StubError) as caught:
        probe.stub.create_empty("4M")
    assert caught.value.errno == errno.ENOMEM
    guest.destroy()
    assert probe.stub.free_frames > 6600


def test_populate_what_cannot_be(probe: Probe) -> None:
    guest = empty(probe)
    assert probe.populate(guest.domid, [1])[0] == 0
    for pfns, error in (([5, 1], errno.EEXIST), ([2**40], errno.EBUSY), ([2**64 - 1], errno.EBUSY)):
        assert probe.populate(guest.domid, pfns)[0] == -1
        assert probe.errno == error
    assert guest.pfns_with_memory() == [1, 5]
    assert probe.populate(99, [1])[0] == -1
    assert probe.errno == errno.EBUSY  # Xen's answer is that it gave none
    assert probe.populate(guest.domid, [2**32 - 1])[0] == 0
    assert guest.read_page(2**32 - 1)[4:8] == b"\x11\xfa\xad\xde"


def test_populate_runs(probe: Probe) -> None:
    guest = empty(probe, "16M")
    assert probe.populate(guest.domid, [0], order=9)[0] == -1  # no free frames in a row on this machine
    assert probe.errno == errno.EBUSY
    probe.stub.reset(extent_order=9)
    guest = empty(probe, "16M")
    assert probe.populate(guest.domid, [4])[0] == 0
    free = probe.stub.free_frames
    rc, mfns = probe.populate(guest.domid, [512, 2048], order=9)
    assert rc == 0 and mfns[0] % 512 == mfns[1] % 512
    assert [guest.mfn(512 + i) for i in range(512)] == [mfns[0] + i for i in range(512)]
    assert [guest.mfn(2048 + i) for i in range(512)] == [mfns[1] + i for i in range(512)]
    assert probe.stub.free_frames == free - 1024
    assert probe.populate(guest.domid, [513], order=9)[0] == -1
    assert probe.populate(guest.domid, [4096], order=13)[0] == -1
    assert probe.populate(guest.domid, range(5000, 5300))[0] == 0  # what was set aside is handed out still
    assert probe.stub.free_frames == free - 1324


def test_a_grown_domain_keeps_what_it_has(probe: Probe) -> None:
    guest = empty(probe, "64M")
    pfns = [*range(0, 16384, 5), 10**6, 10**8]
    assert probe.lib.xc_shadow_control(probe.xch, guest.domid, 2, probe.ffi.NULL, 0) == 0
    for i in range(0, len(pfns), 1000):
        assert probe.populate(guest.domid, pfns[i:i + 1000])[0] == 0
    assert guest.pfns_with_memory() == pfns
    assert guest.state().dirty == len(pfns)
    assert all(probe.stub.frame(guest.mfn(pfn))[1] == pfn for pfn in pfns)


def test_writable_mappings_mark_dirty(probe: Probe) -> None:
    guest = empty(probe)
    _, mfns = probe.populate(guest.domid, range(3))
    assert probe.lib.xc_shadow_control(probe.xch, guest.domid, 2, probe.ffi.NULL, 0) == 0
    address, _ = probe.map(guest.domid, mfns, prot=1)
    probe.unmap(address, 3)
    assert guest.state().dirty == 0
    probe.write(guest.domid, mfns[1], b"here", 8)
    assert guest.state().dirty == 1 and guest.read_page(1)[8:12] == b"here"


# -- vcpus


class Vcpu:
    """An empty domain with an L4 table, a user's L4 table and three frames for a GDT, and a right context for it."""

    def __init__(self, probe: Probe) -> None:
        self.probe, self.lib, self.guest = probe, probe.lib, empty(probe, vcpus=2)
        rc, self.mfns = probe.populate(self.guest.domid, range(6))
        assert rc == 0
        for mfn in self.mfns:
            probe.write(self.guest.domid, mfn, bytes(PAGE_SIZE))
        self.any = probe.ffi.new("vcpu_guest_context_any_t *")
        self.c = probe.ffi.cast("vcpu_guest_context_t *", self.any)
        self.c.flags = 1 << 5 | 1 << 2
        self.c.user_regs.rip, self.c.user_regs.rsp = 0xFFFFFFFF81000000, 0xFFFF888000001000
        self.c.ctrlreg[3], self.c.ctrlreg[1] = self.mfns[0] << 12, self.mfns[1] << 12
        self.c.gdt_ents = 1040
        self.c.gdt_frames[0:3] = self.mfns[2:5]

    def set(self, vcpu: int = 0) -> int:
        rc = self.lib.xc_vcpu_setcontext(self.probe.xch, self.guest.domid, vcpu, self.any)
        return self.probe.errno if rc else 0

    def types(self) -> list[int]:
        return self.probe.types(self.guest.domid, self.mfns)


def test_setcontext(probe: Probe) -> None:
    v = Vcpu(probe)
    v.c.user_regs.rax, v.c.user_regs.rflags, v.c.fs_base = 0x1234, 0x3046, 0x7FFFFFFFF000
    assert v.set() == 0
    assert v.types() == [4, 4, 0, 0, 0, 0]
    info = probe.info(v.guest.domid)
    assert (info.nr_online_vcpus, info.flags) == (1, PAUSED)
    back = probe.ffi.new("vcpu_guest_context_any_t *")
    assert probe.lib.xc_vcpu_getcontext(probe.xch, v.guest.domid, 0, back) == 0
    v.c.user_regs.rflags = 0x246  # Xen has it without IOPL, with interrupts on
    assert bytes(probe.ffi.buffer(back)) == bytes(probe.ffi.buffer(v.any))
    for frame in range(2, 5):  # neither writable nor a table now
        assert probe.map(v.guest.domid, [v.mfns[frame]], prot=3, per_page=False)[0] == probe.ffi.NULL
        assert probe.mmuext(v.guest.domid, (0, v.mfns[frame])) == -1
    v.c.user_regs.rax = 1
    assert v.set() == 0 and v.guest.vcpu(0, "rax") == 1
    v.c.ctrlreg[3], v.c.ctrlreg[1] = v.c.ctrlreg[1], v.c.ctrlreg[3]
    assert v.set() == errno.EOPNOTSUPP
    v.c.gdt_ents, v.c.flags = 0, 1 << 2
    assert v.set(1) == 0
    assert probe.info(v.guest.domid).nr_online_vcpus == 1  # a context, but down
    assert v.set(2) == errno.EINVAL
    v.guest.domid += 50
    assert v.set() == errno.ESRCH


def bad_cr3(v: Vcpu) -> None:
    v.probe.write(v.guest.domid, v.mfns[0], struct.pack("<Q", v.mfns[5] << 12 | 0x81))


WRONG: dict[str, Callable[[Vcpu], Any]] = {
    "cr3 is domain 0's": lambda v: v.c.ctrlreg.__setitem__(3, 3 << 12),
    "cr3 is beyond the machine": lambda v: v.c.ctrlreg.__setitem__(3, 1 << 45),
    "cr3 is no L4 table": lambda v: v.probe.mmuext(v.guest.domid, (0, v.mfns[0])),
    "cr3 does not validate": bad_cr3,
    "cr1 is domain 0's": lambda v: v.c.ctrlreg.__setitem__(1, 3 << 12),
    "cr1 is part of the GDT": lambda v: v.c.ctrlreg.__setitem__(1, v.mfns[3] << 12),
    "a user's mode without cr1": lambda v: [v.c.ctrlreg.__setitem__(1, 0), setattr(v.c, "flags", 1 << 5)],
    "too many GDT entries": lambda v: setattr(v.c, "gdt_ents", 7169),
    "a GDT frame that is not its own": lambda v: v.c.gdt_frames.__setitem__(2, 3),
    "a GDT frame that is a table": lambda v: v.probe.mmuext(v.guest.domid, (0, v.mfns[4])),
    "a GDT frame that cr3's tables map writable": lambda v: chain(v, v.mfns[2]),
    "too many LDT entries": lambda v: setattr(v.c, "ldt_ents", 8193),
    "rip is no address": lambda v: setattr(v.c.user_regs, "rip", 1 << 47),
    "a trap's address is none": lambda v: setattr(v.c.trap_ctxt[255], "address", 1 << 63),
    "gs base is no address": lambda v: setattr(v.c, "gs_base_kernel", 0xFFFF << 44),
}


def chain(v: Vcpu, mfn: int) -> None:
    """Gives the L4 table an L3, an L2 and an L1 table that maps a frame writable."""
    rc, below = v.probe.populate(v.guest.domid, [6, 7, 8])
    assert rc == 0
    for table, target in zip([v.mfns[0], *below], [*below, mfn]):
        if table != v.mfns[0]:
            v.probe.write(v.guest.domid, table, bytes(PAGE_SIZE))
        v.probe.write(v.guest.domid, table, struct.pack("<Q", target << 12 | 3))


@pytest.mark.parametrize("what", WRONG)
def test_setcontext_refuses(probe: Probe, what: str) -> None:
    v = Vcpu(probe)
    WRONG[what](v)
    before = v.types()
    assert v.set() == (errno.EBUSY if "writable" in what else errno.EINVAL)
    assert v.types() == before and probe.info(v.guest.domid).nr_online_vcpus == 0
    for mfn, kind in zip(v.mfns, before):  # and nothing is held
        rc = probe.lib.xenforeignmemory_map(
            probe.fmem, v.guest.domid, 3, 1, probe.ffi.new("xen_pfn_t *", mfn), probe.ffi.NULL)
        assert (rc != probe.ffi.NULL) == (kind == 0)
        if rc != probe.ffi.NULL:
            probe.unmap(rc, 1)


def test_setcontext_of_a_writable_mapped_gdt(probe: Probe) -> None:
    v = Vcpu(probe)
    address, _ = probe.map(v.guest.domid, [v.mfns[3]], prot=3)
    assert v.set() == errno.EINVAL
    probe.unmap(address, 1)
    assert v.set() == 0


def domctl(probe: Probe, cmd: int, target: tuple[int, int], data: bytes, count: int = -1) -> tuple[int, int]:
    """(errno or 0, size on return)."""
    size, mask = probe.ffi.new("uint64_t *", len(data) if count < 0 else count), probe.ffi.new("uint64_t *")
    room = probe.ffi.new("char[]", max(len(data), 9000))
    probe.ffi.buffer(room)[0:len(data)] = data
    rc = probe.lib.probe_domctl(probe.xch, cmd, *target, room, size, mask)
    return probe.errno if rc else 0, size[0]


def read_back(probe: Probe, cmd: int, target: tuple[int, int], size: int, mask: int, nr_bytes: int) -> bytes:
    room = probe.ffi.new("char[]", 9000)
    sizes, masks = probe.ffi.new("uint64_t *", size), probe.ffi.new("uint64_t *", mask)
    assert probe.lib.probe_domctl(probe.xch, cmd, *target, room, sizes, masks) == 0
    return bytes(probe.ffi.buffer(room, nr_bytes))


def test_domctls_that_set(probe: Probe) -> None:
    at = (empty(probe, vcpus=2).domid, 1)
    ext = struct.pack("<II QQ HH BB xx QQQQ", 1, 64, 2**63 | 2**47 * 0xFFFF, 0x4000, 0xE033, 0xE02B, 1, 0, 7, 8, 9, 10)
    assert domctl(probe, SET_EXT, at, ext)[0] == 0
    assert read_back(probe, GET_EXT, at, 0, 0, 64) == ext
    assert domctl(probe, SET_EXT, at, ext[:16] + struct.pack("<Q", 1 << 50) + ext[24:])[0] == errno.EINVAL
    assert domctl(probe, SET_EXT, at, ext, 31)[0] == errno.EINVAL
    assert domctl(probe, SET_EXT, (at[0], 2), ext)[0] == errno.ESRCH
    state = bytes(i * 7 & 255 for i in range(840))
    assert domctl(probe, SET_XSAVE, at, state)[0] == 0
    assert read_back(probe, GET_XSAVE, at, 840, 7, 840) == state
    for size, error in ((15, errno.EINVAL), (8193, errno.EINVAL), (17, errno.EINVAL), (591, errno.EINVAL), (16, 0)):
        assert domctl(probe, SET_XSAVE, at, bytes(size))[0] == error
    assert read_back(probe, GET_XSAVE, at, 840, 7, 840) == state
    assert domctl(probe, SET_XSAVE, (at[0], 2), state)[0] == errno.ESRCH


def msrs(*entries: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<IIQ", *entry) for entry in entries)


def test_set_msrs(probe: Probe) -> None:
    at = (empty(probe).domid, 0)
    given = msrs((0x48, 0, 5), (0xC0000103, 0, 6))
    assert domctl(probe, SET_MSRS, at, given, 2)[0] == 0
    assert read_back(probe, GET_MSRS, at, 10, 0, 32) == given
    assert domctl(probe, SET_MSRS, at, msrs((0x48, 0, 9)), 1)[0] == 0
    assert read_back(probe, GET_MSRS, at, 10, 0, 16) == msrs((0x48, 0, 9))
    assert domctl(probe, SET_MSRS, at, msrs((0x48, 0, 1), (0x10, 0, 1)), 2) == (errno.EINVAL, 1)
    assert domctl(probe, SET_MSRS, at, msrs((0x48, 1, 1)), 1) == (errno.EINVAL, 0)
    assert domctl(probe, SET_MSRS, at, msrs(*[(0x48, 0, 1)] * 9), 9)[0] == errno.EINVAL


def test_width(probe: Probe) -> None:
    """A domain becomes a 32-bit one before it has memory, and stays one."""
    at = (empty(probe).domid, 0)
    assert domctl(probe, GET_SIZE, at, b"", 0) == (0, 64)
    assert [domctl(probe, SET_SIZE, at, b"", bits)[0] for bits in (64, 8)] == [0, errno.EINVAL]
    assert domctl(probe, SET_SIZE, at, b"", 32) == (0, 32)
    assert domctl(probe, GET_SIZE, at, b"", 0) == (0, 32)
    assert [domctl(probe, SET_SIZE, at, b"", bits)[0] for bits in (32, 64)] == [0, errno.EINVAL]
    assert domctl(probe, SET_SIZE, (99, 0), b"", 64)[0] == errno.ESRCH
    assert [domctl(probe, x, (probe.hvm(mem="4M").domid, 0), b"", 32)[0] for x in (GET_SIZE, SET_SIZE)] == [
        errno.EOPNOTSUPP
    ] * 2


def test_width_of_what_has_memory(probe: Probe) -> None:
    full = empty(probe)
    assert probe.populate(full.domid, [1])[0] == 0
    assert domctl(probe, SET_SIZE, (full.domid, 0), b"", 32)[0] == errno.EACCES
    assert full.state().width == 8


def test_a_xen_without_32_bit_guests(probe: Probe) -> None:
    probe.stub.reset(pv32=False)
    assert domctl(probe, SET_SIZE, (empty(probe).domid, 0), b"", 32)[0] == errno.EOPNOTSUPP
    assert probe.compat_m2p(4) == []
    assert probe.errno == errno.EOPNOTSUPP
    with pytest.raises(StubError, match="no 32-bit PV guests"):
        probe.guest("pv32", mem="4M")


def test_shared_info_moves_below_4_gib(probe: Probe) -> None:
    """Since Xen 4.22: its address must fit into a 32-bit start_info. Before it lay there always."""
    places: dict[bool, set[bool]] = {}
    for anywhere in (False, True):
        for seed in range(8):
            probe.stub.reset(seed=seed, shared_info_anywhere=anywhere)
            guest = empty(probe)
            before = guest.state().shared_info_mfn
            assert domctl(probe, SET_SIZE, (guest.domid, 0), b"", 32)[0] == 0
            after = guest.state().shared_info_mfn
            assert after < 1 << 20
            assert (after == before) == (before < 1 << 20)
            places.setdefault(anywhere, set()).add(before < 1 << 20)
    assert places == {False: {True}, True: {True, False}}


# -- TSC, CPU policy, grants


def test_tsc(probe: Probe) -> None:
    guest = empty(probe)
    out = [probe.ffi.new(f"uint{bits}_t *") for bits in (32, 64, 32, 32)]
    expected = {0: (5 * 10**9, 1800000), 1: (5 * 10**9, 1800000), 2: (0, 0)}
    for mode, (nsec, khz) in expected.items():
        assert probe.lib.xc_domain_set_tsc_info(probe.xch, guest.domid, mode, 5 * 10**9, 1800000, 7) == 0
        assert guest.tsc == StubTsc(mode, 5 * 10**9, 1800000, 7)
        assert probe.lib.xc_domain_get_tsc_info(probe.xch, guest.domid, *out) == 0
        assert [x[0] for x in out] == [mode, nsec, khz, 8]  # Xen counts one on
    assert probe.lib.xc_domain_set_tsc_info(probe.xch, guest.domid, 3, 0, 0, 0) == -1
    assert probe.errno == errno.EINVAL
    assert probe.lib.xc_domain_set_tsc_info(probe.xch, guest.domid, 0, 1, 0, 0) == 0
    assert probe.lib.xc_domain_get_tsc_info(probe.xch, guest.domid, *out) == 0
    assert out[2][0] == 2400000 + guest.domid  # the machine's own


class Policy:
    def __init__(self, probe: Probe, domid: int) -> None:
        self.probe, self.ffi, self.domid = probe, probe.ffi, domid
        self.error = [probe.ffi.new("uint32_t *", 1) for _ in range(3)]

    def set(self, leaves: list[tuple[int, ...]], entries: list[tuple[int, ...]]) -> tuple[int, list[int]]:
        rc = self.probe.lib.xc_set_domain_cpu_policy(
            self.probe.xch, self.domid, len(leaves), self.ffi.new("xen_cpuid_leaf_t[]", leaves), len(entries),
            self.ffi.new("xen_msr_entry_t[]", entries), *self.error)
        return self.probe.errno if rc else 0, [x[0] for x in self.error]

    def get(self) -> dict[tuple[int, int], tuple[int, ...]]:
        lib, out = self.probe.lib, self.ffi.new("xen_cpuid_leaf_t[]", 160)
        policy, count = lib.xc_cpu_policy_init(), self.ffi.new("uint32_t *", 160)
        entries, nr = self.ffi.new("xen_msr_entry_t[]", 5), self.ffi.new("uint32_t *", 5)
        assert lib.xc_cpu_policy_get_domain(self.probe.xch, self.domid, policy) == 0
        assert lib.xc_cpu_policy_serialise(self.probe.xch, policy, out, count, entries, nr) == 0
        lib.xc_cpu_policy_destroy(policy)
        found = [(out[i].leaf, out[i].subleaf) for i in range(count[0])]
        assert found == sorted(set(found))
        result = {(x.leaf, x.subleaf): (x.a, x.b, x.c, x.d) for x in (out[i] for i in range(count[0]))}
        result.update({(entries[i].idx, -1): (entries[i].val,) for i in range(nr[0])})
        return result


def test_cpu_policy_is_laid_over(probe: Probe) -> None:
    guest = empty(probe)
    policy, none = Policy(probe, guest.domid), [0xFFFFFFFF] * 3
    before = policy.get()
    leaves = [(0xD, 62, 1, 2, 3, 4), (1, NO_SUBLEAF, 5, 6, 7, 8), (0x40000000, NO_SUBLEAF, 9, 0, 0, 0)]
    assert policy.set(leaves, [(0xCE, 0, 77)]) == (0, none)
    assert guest.cpu_policy_given == (3, 1)
    changes = {(x[0], x[1]): x[2:] for x in leaves}
    assert policy.get() == {**before, **changes, (0xCE, -1): (77,)}
    assert policy.set([], []) == (0, none)
    guest.destroy()


@pytest.mark.parametrize(
    ("leaves", "entries", "error", "says"),
    [
        ([(1, NO_SUBLEAF, 0, 0, 0, 0), (0xE, NO_SUBLEAF, 0, 0, 0, 0)], [], errno.ERANGE, (0xE, NO_SUBLEAF, None)),
        ([(4, 6, 0, 0, 0, 0)], [], errno.ERANGE, (4, 6, None)),
        ([(1, 0, 0, 0, 0, 0)], [], errno.ERANGE, (1, 0, None)),
        ([(0x80000022, NO_SUBLEAF, 0, 0, 0, 0)], [], errno.ERANGE, (0x80000022, NO_SUBLEAF, None)),
        ([], [(0x10, 0, 1)], errno.ERANGE, (None, None, 0x10)),
        ([], [(0xCE, 1, 1)], errno.EINVAL, (None, None, 0xCE)),
        ([(1, NO_SUBLEAF, 0, 0, 0, 0)] * 122, [], errno.E2BIG, (None, None, None)),
        ([], [(0xCE, 0, 1)] * 6, errno.E2BIG, (None, None, None)),
    ],
)
def test_cpu_policy_refused(probe: Probe, leaves: Any, entries: Any, error: int, says: tuple[Any, ...]) -> None:
    guest = empty(probe)
    policy = Policy(probe, guest.domid)
    before = policy.get()
    assert policy.set(leaves, entries) == (error, [0xFFFFFFFF if x is None else x for x in says])
    assert policy.get() == before and guest.cpu_policy_given is None


def test_cpu_policy_of_what_ran(probe: Probe) -> None:
    for guest in (probe.guest(), empty(probe)):
        if guest.state().paused:
            assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0
        assert Policy(probe, guest.domid).set([], [])[0] == errno.EEXIST
    assert Policy(probe, 99).set([], [])[0] == errno.ESRCH


def test_grant_seed(probe: Probe) -> None:
    guest = empty(probe)
    seed = probe.lib.xc_dom_gnttab_seed
    assert seed(probe.xch, guest.domid, False, 700, 800, 0, 3) == 0
    assert guest.grant_seed == GrantSeed(700, 800, 0, 3)
    assert seed(probe.xch, guest.domid, False, 2**64 - 1, 800, 0, guest.domid) == 0
    assert guest.grant_seed == GrantSeed(None, None, 0, guest.domid)
    assert seed(probe.xch, guest.domid, True, 1, 2, 0, 0) == -1
    assert probe.errno == errno.EINVAL
    assert seed(probe.xch, 99, False, 1, 2, 0, 0) == -1
    assert probe.errno == errno.ESRCH


def test_other_guests_run_meanwhile(probe: Probe) -> None:
    """Building is calls like any others: guests get their time at each."""
    other = probe.guest(writer="calls")
    counts = itertools.count(other.state().ticks)
    guest = empty(probe)
    next(counts)
    probe.populate(guest.domid, [0])
    assert other.state().ticks == next(counts)
    probe.mmuext(guest.domid)
    assert other.state().ticks == next(counts)
    assert probe.stub.calls()["xc_domain_populate_physmap_exact"] == 1


def test_memory_is_taken_back(probe: Probe) -> None:
    """By frame; the m2p forgets it, and the pfn can be given memory again."""
    guest = empty(probe)
    _, mfns = probe.populate(guest.domid, [0, 1, 2])
    assert probe.decrease(guest.domid, [mfns[1], mfns[2]]) == 0
    assert guest.pfns_with_memory() == [0]
    assert probe.info(guest.domid).tot_pages == 1
    assert probe.decrease(guest.domid, [mfns[1]]) == -1  # not its own any more
    assert probe.errno == errno.EINVAL
    assert probe.decrease(guest.domid, [2**60]) == -1
    assert probe.decrease(99, [mfns[0]]) == -1
    assert probe.populate(guest.domid, [1])[0] == 0
    assert sorted(guest.pfns_with_memory()) == [0, 1]


def test_memory_in_use_is_not_taken_back(probe: Probe) -> None:
    guest = empty(probe)
    _, (mfn,) = probe.populate(guest.domid, [0])
    address, _ = probe.map(guest.domid, [mfn], prot=3)
    assert probe.decrease(guest.domid, [mfn]) == -1
    assert probe.errno == errno.EINVAL
    probe.unmap(address, 1)
    assert probe.decrease(guest.domid, [mfn]) == 0
