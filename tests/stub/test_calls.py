"""What the libraries' functions do and refuse, with Xen's errnos."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.same import check_same

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe

pytestmark = pytest.mark.toolchain

PROT_READ, PROT_WRITE = 1, 2
DOMID_XEN = 0x7FF2
DYING, SHUTDOWN, PAUSED, RUNNING = 1 << 0, 1 << 2, 1 << 3, 1 << 5
GET_EXT, GET_XSAVE, GET_MSRS = 43, 63, 72


def test_version_and_machine(probe: Probe) -> None:
    assert probe.lib.xc_version(probe.xch, 0, probe.ffi.NULL) == 4 << 16 | 17
    out = probe.ffi.new("unsigned long *")
    assert probe.lib.xc_maximum_ram_page(probe.xch, out) == 0
    assert out[0] == probe.stub.max_page == 2 << 20


def test_m2p_is_the_inverse_of_the_p2m(probe: Probe) -> None:
    guests = [probe.guest(mem="4M", seed=seed, holes=0.3) for seed in range(2)]
    size = probe.stub.max_page * 8
    chunks = (size + (2 << 20) - 1) // (2 << 20)
    starts = probe.ffi.new("xen_pfn_t[]", chunks)
    assert probe.lib.xc_machphys_mfn_list(probe.xch, chunks, starts) == 0
    too_many = probe.ffi.new("xen_pfn_t[]", chunks + 1)
    assert probe.lib.xc_machphys_mfn_list(probe.xch, chunks + 1, too_many) == -1
    mfns = [start + i for start in starts for i in range(512)]
    address, err = probe.map(DOMID_XEN, mfns)
    assert not any(err)
    m2p = memoryview(probe.ffi.buffer(address, len(mfns) * PAGE_SIZE)).cast("Q")
    owned = {}
    for guest in guests:
        for pfn in guest.pfns_with_memory():
            assert m2p[guest.mfn(pfn)] == pfn
            owned[guest.mfn(pfn)] = pfn
        assert m2p[guest.state().shared_info_mfn] == 2**64 - 2
    others = sum(1 for mfn in range(probe.stub.max_page) if m2p[mfn] < 2**63) - len(owned)
    assert others == 16  # domain 0's
    m2p.release()
    probe.unmap(address, len(mfns))


def test_xen_frames_are_read_only(probe: Probe) -> None:
    starts = probe.ffi.new("xen_pfn_t[]", 1)
    assert probe.lib.xc_machphys_mfn_list(probe.xch, 1, starts) == 0
    assert probe.map(DOMID_XEN, [starts[0]], PROT_READ | PROT_WRITE, per_page=False)[0] == probe.ffi.NULL
    assert probe.errno == errno.EPERM
    guest = probe.guest()
    assert probe.map(DOMID_XEN, [guest.mfn(0)], per_page=False)[0] == probe.ffi.NULL
    assert probe.errno == errno.EINVAL


def test_domain_info(probe: Probe) -> None:
    guest = probe.guest(mem="8M", holes=0.25, vcpus=4, offline_vcpus=(2,), max_mem="12M")
    info = probe.info(guest.domid)
    assert (info.domain, info.flags) == (guest.domid, RUNNING)
    assert info.tot_pages == len(guest.pfns_with_memory())
    assert (info.max_pages, info.max_vcpu_id, info.nr_online_vcpus) == (3072, 3, 3)
    assert info.shared_info_frame == guest.state().shared_info_mfn
    other = probe.guest(mem="4M")
    out = probe.ffi.new("xc_domaininfo_t[]", 8)
    assert probe.lib.xc_domain_getinfolist(probe.xch, 0, 8, out) == 3
    assert [out[i].domain for i in range(3)] == [0, guest.domid, other.domid]
    assert probe.lib.xc_domain_getinfolist(probe.xch, guest.domid + 1, 1, out) == 1
    assert out[0].domain == other.domid
    assert probe.lib.xc_domain_getinfolist(probe.xch, other.domid + 1, 8, out) == 0


def test_width_and_gpfns(probe: Probe) -> None:
    guest = probe.guest(mem="8M", spare_p2m="4M")
    width, gpfns = probe.ffi.new("unsigned int *"), probe.ffi.new("xen_pfn_t *")
    assert probe.lib.xc_domain_get_guest_width(probe.xch, guest.domid, width) == 0
    assert probe.lib.xc_domain_nr_gpfns(probe.xch, guest.domid, gpfns) == 0
    assert (width[0], gpfns[0]) == (8, 3072)
    guest.poke_shared_info("max_pfn", 77)
    assert probe.lib.xc_domain_nr_gpfns(probe.xch, guest.domid, gpfns) == 0
    assert gpfns[0] == 77


def test_unknown_domain_and_closed_handle(probe: Probe) -> None:
    width = probe.ffi.new("unsigned int *")
    assert probe.lib.xc_domain_get_guest_width(probe.xch, 99, width) == -1
    assert probe.errno == errno.ESRCH
    text = probe.ffi.string(probe.lib.probe_message()).decode()
    assert "xc_domain_get_guest_width failed (3 = No such process)" in text
    other = probe.lib.probe_open()
    assert probe.lib.xc_interface_close(other) == 0
    assert probe.lib.xc_domain_get_guest_width(other, 99, width) == -1
    assert probe.errno == errno.EBADF
    assert probe.lib.xc_interface_close(other) == -1


def test_pause_counts(probe: Probe) -> None:
    guest = probe.guest()
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == -1
    assert probe.errno == errno.EINVAL
    for _ in range(2):
        assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == 0
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0
    assert probe.info(guest.domid).flags == PAUSED
    assert probe.stub.leaks() == {"paused_domains": 1}
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0
    assert probe.info(guest.domid).flags == RUNNING
    for _ in range(255):
        assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == 0
    assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == -1
    assert probe.errno == errno.EOVERFLOW


def test_shutdown_and_resume(probe: Probe) -> None:
    guest = probe.guest()
    assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 1) == -1
    assert probe.errno == errno.EINVAL
    assert probe.lib.xc_domain_shutdown(probe.xch, guest.domid, 99) == -1
    assert probe.lib.xc_domain_shutdown(probe.xch, guest.domid, 3) == 0
    assert probe.info(guest.domid).flags == SHUTDOWN | 3 << 16
    assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 1) == -1
    assert guest.state().shutdown_reason == 3


def test_types(probe: Probe) -> None:
    guest, other = probe.guest(mem="4M"), probe.guest(mem="4M")
    state = guest.state()
    mfns = [guest.mfn(pfn) for pfn in guest.pfns_with_memory()]
    assert probe.types(guest.domid, mfns) == [int(x) for x in guest.types(guest.pfns_with_memory())]
    strange = [other.mfn(7), state.shared_info_mfn, 3, probe.stub.max_page, 2**40, 2**64 - 1]
    assert probe.types(guest.domid, strange) == [0xF] * len(strange)
    assert probe.types(guest.domid, [guest.mfn(state.kernel_root_pfn)]) == [PageType.L4TAB_PINNED]
    array = probe.ffi.new("xen_pfn_t[]", 1025)
    assert probe.lib.xc_get_pfn_type_batch(probe.xch, guest.domid, 1025, array) == -1
    assert probe.errno == errno.E2BIG
    assert probe.lib.xc_get_pfn_type_batch(probe.xch, guest.domid, 1024, array) == 0
    assert probe.lib.xc_get_pfn_type_batch(probe.xch, 99, 1, array) == -1


def test_map_pages_one_by_one(probe: Probe) -> None:
    guest, other = probe.guest(mem="4M"), probe.guest(mem="4M")
    mfns = [guest.mfn(3), other.mfn(3), guest.mfn(4), probe.stub.max_page + 5, guest.mfn(3)]
    address, err = probe.map(guest.domid, mfns)
    assert err == [0, -errno.EINVAL, 0, -errno.EINVAL, 0]
    page = [bytes(probe.ffi.buffer(address + i * PAGE_SIZE, PAGE_SIZE)) for i in (0, 2, 4)]
    assert page == [guest.read_page(3), guest.read_page(4), guest.read_page(3)]
    guest.write_page(3, b"seen through the mapping", 100)
    assert probe.ffi.buffer(address + 100, 24)[:] == b"seen through the mapping"
    assert probe.stub.leaks() == {"mappings": 1, "mapped_pages": 5}
    probe.unmap(address, 5)


def test_map_all_or_nothing(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    address, _ = probe.map(guest.domid, [guest.mfn(1), 2], per_page=False)
    assert (address, probe.errno) == (probe.ffi.NULL, errno.EINVAL)
    assert probe.map(99, [2], per_page=False)[0] == probe.ffi.NULL
    assert probe.errno == errno.ESRCH
    assert probe.map(guest.domid, [], per_page=False)[0] == probe.ffi.NULL
    assert probe.stub.leaks() == {}


def test_writable_mappings(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    table = guest.pfns_of_type(PageType.L1TAB)[0]
    address, err = probe.map(guest.domid, [guest.mfn(table), guest.mfn(2)], PROT_READ | PROT_WRITE)
    assert err == [-errno.EINVAL, 0]
    probe.ffi.buffer(address + PAGE_SIZE, 4)[:] = b"here"
    assert guest.read_page(2)[:4] == b"here"
    probe.unmap(address, 2)


def test_contiguous_frames_are_one_mapping(probe: Probe) -> None:
    probe.stub.reset(extent_order=9)
    guest = probe.guest(mem="8M")
    address, err = probe.map(guest.domid, [guest.mfn(pfn) for pfn in range(512)])
    assert not any(err)
    start = int(probe.ffi.cast("long", address))
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert 1 <= sum("stub-machine" in line and spans(line, start) for line in lines) <= 2
    expected = b"".join(guest.read_page(pfn) for pfn in range(512))
    check_same(bytes(probe.ffi.buffer(address, 512 * PAGE_SIZE)), expected)
    probe.unmap(address, 512)


def spans(line: str, start: int) -> bool:
    first = int(line.partition("-")[0], 16)
    return start <= first < start + 512 * PAGE_SIZE


def test_unmap_is_exact(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    address, _ = probe.map(guest.domid, [guest.mfn(1), guest.mfn(2)])
    for wrong in ((address, 1), (address + PAGE_SIZE, 1), (probe.ffi.cast("char *", 4096), 2)):
        assert probe.lib.xenforeignmemory_unmap(probe.fmem, *wrong) == -1
        assert probe.errno == errno.EINVAL
    probe.unmap(address, 2)
    assert probe.lib.xenforeignmemory_unmap(probe.fmem, address, 2) == -1


FAULTS = {
    "use after unmap": "probe.unmap(address, 2); probe.ffi.buffer(address, 8)[:]",
    "write to a read-only mapping": "probe.ffi.buffer(address, 4)[:] = b'xxxx'",
    "read of a page that was not mapped": "probe.ffi.buffer(address + 4096, 8)[:]",
}


@pytest.mark.parametrize("what", FAULTS)
def test_wrong_use_faults(probe_module: Any, what: str) -> None:
    text = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_stub_probe", {probe_module.__file__!r})
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
from stub.conftest import Probe
probe = Probe(module)
guest = probe.guest()
address, err = probe.map(guest.domid, [guest.mfn(1), 2])
assert err == [0, -22]
print("ready", flush=True)
{FAULTS[what]}
"""
    options = os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_sigbus=0"
    run = subprocess.run(
        [sys.executable, "-c", text], env={**os.environ, "ASAN_OPTIONS": options}, capture_output=True, text=True,
        check=False, cwd=Path(__file__).parents[1],
    )
    assert run.stdout == "ready\n", run.stderr
    assert -run.returncode in (signal.SIGSEGV, signal.SIGBUS)


def test_domain_lives_on_while_its_frames_are_mapped(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    content = guest.read_page(9)
    address, _ = probe.map(guest.domid, [guest.mfn(9)])
    assert probe.lib.xc_domain_destroy(probe.xch, guest.domid) == 0
    assert probe.info(guest.domid).flags & DYING
    assert bytes(probe.ffi.buffer(address, PAGE_SIZE)) == content
    probe.unmap(address, 1)
    assert probe.stub.domains == []
    with pytest.raises(StubError, match="no guest"):
        guest.state()


def test_vcpu_info_and_context(probe: Probe) -> None:
    guest = probe.guest(vcpus=4, offline_vcpus=(2,))
    info = probe.ffi.new("xc_vcpuinfo_t *")
    online = []
    for vcpu in range(4):
        assert probe.lib.xc_vcpu_getinfo(probe.xch, guest.domid, vcpu, info) == 0
        online.append(info.online)
    assert online == [1, 1, 0, 1]
    assert probe.lib.xc_vcpu_getinfo(probe.xch, guest.domid, 4, info) == -1
    assert probe.errno == errno.ESRCH
    context = probe.ffi.new("vcpu_guest_context_any_t *")
    native = probe.ffi.cast("vcpu_guest_context_t *", context)
    for vcpu, frames in ((0, 1), (1, 2), (3, 1)):
        assert probe.lib.xc_vcpu_getcontext(probe.xch, guest.domid, vcpu, context) == 0
        assert native.gdt_ents == 16 + 512 * (frames - 1)
        for i in range(frames):
            owner, pfn, kind = probe.stub.frame(native.gdt_frames[i])
            assert (owner, kind) == (guest.domid, 0)
            assert guest.read_page(pfn or 0) == bytes([0x40 + vcpu]) * PAGE_SIZE
        assert native.ctrlreg[3] >> 12 == guest.mfn(guest.state().kernel_root_pfn)
    assert probe.lib.xc_vcpu_getcontext(probe.xch, guest.domid, 2, context) == -1
    assert probe.errno == errno.ENODATA


def domctl(probe: Probe, command: int, target: tuple[int, int], room: Any, *given: int) -> tuple[int, ...]:
    """(rc, errno, size, mask); target is (domid, vcpu), given the size and the mask."""
    size, mask = (*given, 0)[:2]
    sizes, masks = probe.ffi.new("uint64_t *", size), probe.ffi.new("uint64_t *", mask)
    rc = probe.lib.probe_domctl(probe.xch, command, *target, room, sizes, masks)
    return rc, probe.errno if rc else 0, sizes[0], masks[0]


def test_domctls(probe: Probe) -> None:
    guest = probe.guest(vcpus=2, msrs=3, xsave=1000)
    null, room = probe.ffi.NULL, probe.ffi.new("char[]", 8192)
    assert domctl(probe, GET_EXT, (guest.domid, 1), null, 0)[:3] == (0, 0, 64)
    assert domctl(probe, GET_EXT, (guest.domid, 2), null, 0)[:2] == (-1, errno.ESRCH)
    assert domctl(probe, GET_XSAVE, (guest.domid, 1), null, 0) == (0, 0, 1000, 7)
    assert domctl(probe, GET_XSAVE, (guest.domid, 1), room, 1000, 7) == (0, 0, 1000, 7)
    assert len(set(probe.ffi.buffer(room, 1000)[:])) > 100
    assert domctl(probe, GET_XSAVE, (guest.domid, 1), room, 999, 7)[:2] == (-1, errno.EINVAL)
    assert domctl(probe, GET_XSAVE, (guest.domid, 1), room, 1000, 3)[:2] == (-1, errno.EINVAL)
    assert domctl(probe, GET_MSRS, (guest.domid, 1), null, 0)[:3] == (0, 0, 10)
    assert domctl(probe, GET_MSRS, (guest.domid, 1), room, 2)[:3] == (-1, errno.ENOBUFS, 3)
    assert domctl(probe, GET_MSRS, (guest.domid, 1), room, 10)[:3] == (0, 0, 3)
    found = [struct.unpack_from("<IIQ", probe.ffi.buffer(room), 16 * i)[:2] for i in range(3)]
    assert found == [(0xC0011019 + i, 0) for i in range(3)]
    assert domctl(probe, 1, (guest.domid, 0), null, 0)[:2] == (-1, errno.ENOSYS)


def test_guest_without_xsave_or_msrs(probe: Probe) -> None:
    guest = probe.guest(msrs=0, xsave=0)
    assert domctl(probe, GET_XSAVE, (guest.domid, 0), probe.ffi.NULL, 0) == (0, 0, 0, 0)
    assert domctl(probe, GET_MSRS, (guest.domid, 0), probe.ffi.new("char[]", 64), 4)[:3] == (0, 0, 0)


def test_tsc(probe: Probe) -> None:
    guest = probe.guest()
    out = [probe.ffi.new(f"uint{bits}_t *") for bits in (32, 64, 32, 32)]
    assert probe.lib.xc_domain_get_tsc_info(probe.xch, guest.domid, *out) == 0
    assert (out[0][0], out[2][0], out[3][0]) == (0, 2400000 + guest.domid, 1)
    assert out[1][0] > 0


def test_cpu_policy(probe: Probe) -> None:
    guest = probe.guest(seed=5)
    leaves, msrs = probe.ffi.new("uint32_t *"), probe.ffi.new("uint32_t *")
    assert probe.lib.xc_cpu_policy_get_size(probe.xch, leaves, msrs) == 0
    room = probe.ffi.new("xen_cpuid_leaf_t[]", leaves[0]), probe.ffi.new("xen_msr_entry_t[]", msrs[0])
    most = leaves[0]
    policy = probe.lib.xc_cpu_policy_init()
    assert probe.stub.leaks() == {"cpu_policies": 1}
    assert probe.lib.xc_cpu_policy_get_domain(probe.xch, guest.domid, policy) == 0
    serialise = probe.lib.xc_cpu_policy_serialise
    assert serialise(probe.xch, policy, room[0], leaves, room[1], msrs) == 0
    order = [(room[0][i].leaf, room[0][i].subleaf) for i in range(leaves[0])]
    assert 10 < leaves[0] < most
    assert order == sorted(set(order))
    leaves[0] -= 1
    assert (serialise(probe.xch, policy, room[0], leaves, room[1], msrs), probe.errno) == (-1, errno.ENOBUFS)
    assert probe.lib.xc_cpu_policy_get_domain(probe.xch, 99, policy) == -1
    probe.lib.xc_cpu_policy_destroy(policy)


def test_hypercall_buffers(probe: Probe) -> None:
    one, two = (probe.ffi.new("xc_hypercall_buffer_t *") for _ in "ab")
    memory = probe.lib.xc__hypercall_buffer_alloc_pages(probe.xch, one, 3)
    assert int(probe.ffi.cast("long", memory)) % PAGE_SIZE == 0
    assert set(bytes(probe.ffi.buffer(memory, 3 * PAGE_SIZE))) == {0xA5}  # whoever relies on zeros sees this
    assert probe.lib.xc__hypercall_buffer_alloc(probe.xch, two, 10) == two.hbuf
    assert probe.stub.leaks() == {"hypercall_buffers": 2}
    probe.lib.xc__hypercall_buffer_free_pages(probe.xch, one, 3)
    probe.lib.xc__hypercall_buffer_free(probe.xch, two)


def test_reset_with_mappings(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    probe.map(guest.domid, [guest.mfn(1)])
    with pytest.raises(StubError, match="still alive") as caught:
        probe.stub.reset()
    assert caught.value.errno == errno.EBUSY
    assert guest.running
    probe.stub.reset(force=True)
    assert probe.stub.domains == []
    assert probe.stub.leaks() == {}
