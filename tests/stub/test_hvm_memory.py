"""HVM and PVH guests: where their memory is, how it comes and goes, and what is told of it."""

from __future__ import annotations

import errno

import pytest

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe

NOTAB, XTAB = 0, 15
HVM_GUEST, HAP = 1 << 1, 1 << 8
SPECIALS, IOREQ_SERVER, VRAM = 0xFEFF8, 0xFEFF0, 0xF0000
ON_DEMAND = 1 << 16
CRASHED = 3


@pytest.mark.parametrize("kind", ["pvh", "hvm"])
def test_layout(probe: Probe, kind: str) -> None:
    guest = probe.hvm(kind, mem="8M")
    expected = set(range(0x800)) | set(range(SPECIALS, 0xFF000))
    if kind == "hvm":
        expected -= set(range(0xA0, 0xC0))
        expected |= set(range(IOREQ_SERVER, SPECIALS))
    assert set(guest.pfns_with_memory()) == expected
    assert probe.nr_gpfns(guest.domid) == 0xFF000 == guest.nr_pfns
    info = probe.info(guest.domid)
    assert info.flags & (HVM_GUEST | HAP) == HVM_GUEST | HAP
    assert info.tot_pages == len(expected)


def test_a_large_guest_goes_on_above_4_gib(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="4G", filled=False)
    pfns = guest.pfns_with_memory()
    assert probe.nr_gpfns(guest.domid) == 0x100000 + (0x100000 - 0xFEE00)
    assert {0xFEDFF, 0x100000} < set(pfns) and 0xFEE00 not in pfns and 0xFFFFF not in pfns
    assert len(pfns) == (4 << 30) // PAGE_SIZE + 8


def test_video_memory(probe: Probe) -> None:
    guest = probe.hvm(vram="1M")
    assert set(range(VRAM, VRAM + 256)) < set(guest.pfns_with_memory())


def test_types(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="2M", vcpus=2)
    guest.balloon_out(7)
    assert probe.types(guest.domid, [0, 7, 8, 0x200, SPECIALS, 0xFF000, (1 << 52) - 1]) == [
        NOTAB, XTAB, NOTAB, XTAB, NOTAB, XTAB, XTAB
    ]
    array = probe.ffi.new("xen_pfn_t[]", 1025)
    assert probe.lib.xc_get_pfn_type_batch(probe.xch, guest.domid, 1025, array) == -1
    assert probe.errno == errno.E2BIG
    assert guest.types([0, 8]) == [PageType.NOTAB, PageType.NOTAB]


def test_maps_are_of_gfns(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="2M")
    guest.balloon_out(5)
    address, err = probe.map(guest.domid, [4, 5, 6, 0x200], prot=3)
    assert err == [0, -errno.EINVAL, 0, -errno.EINVAL]
    window = probe.ffi.buffer(address, 4 * PAGE_SIZE)
    assert window[2 * PAGE_SIZE:3 * PAGE_SIZE] == guest.read_page(6)
    window[8:16] = b"01234567"
    assert guest.read_page(4)[8:16] == b"01234567"
    probe.unmap(address, 4)
    assert probe.map(guest.domid, [4, 5], per_page=False)[0] == probe.ffi.NULL
    assert probe.errno == errno.EINVAL


def test_a_mapped_page_that_leaves_stays_as_it_is(probe: Probe) -> None:
    """As on Xen its frame goes to nobody until it is unmapped."""
    probe.stub.reset(frames=1 << 13)
    guest = probe.hvm("pvh", mem="2M", max_mem="4M")
    free, old = probe.stub.free_frames, guest.read_page(9)
    address, _ = probe.map(guest.domid, [9])
    guest.balloon_out(9)
    assert probe.stub.free_frames == free
    guest.balloon_in(9)
    assert probe.stub.free_frames == free - 1
    assert bytes(probe.ffi.buffer(address, PAGE_SIZE)) == old != guest.read_page(9)
    probe.unmap(address, 1)
    assert probe.stub.free_frames == free


@pytest.mark.parametrize("window", [False, True])
def test_a_mapped_page_that_leaves_counts_until_it_is_unmapped(probe: Probe, window: bool) -> None:
    """As on Xen: the physmap is without it at once, and it is the guest's until the last mapping of it ends."""
    probe.stub.reset(frames=1 << 13, window=window)
    guest = probe.hvm("pvh", mem="2M", max_mem="4M")
    pages, mfn = probe.info(guest.domid).tot_pages, guest.mfn(9)
    first, _ = probe.map(guest.domid, [8, 9])
    second, _ = probe.map(guest.domid, [9])
    guest.balloon_out([9, 10])
    assert probe.types(guest.domid, [9, 10]) == [XTAB, XTAB] and 9 not in guest.pfns_with_memory()
    assert probe.map(guest.domid, [9], per_page=False)[0] == probe.ffi.NULL and probe.errno == errno.EINVAL
    assert probe.info(guest.domid).tot_pages == guest.state().tot_pages == pages - 1
    guest.balloon_in(9)
    assert probe.info(guest.domid).tot_pages == pages
    probe.unmap(first, 2)
    assert probe.info(guest.domid).tot_pages == pages and probe.stub.frame(mfn)[0] == guest.domid
    probe.unmap(second, 1)
    assert probe.info(guest.domid).tot_pages == pages - 1 and probe.stub.frame(mfn)[0] != guest.domid


def test_what_a_toolstack_takes_counts_so_too(probe: Probe) -> None:
    """A domain at its limit has no room for another page until the mapping ends."""
    guest = probe.hvm("pvh", mem="2M")
    pages = probe.info(guest.domid).tot_pages
    probe.stub.guest(guest.domid).poke_domain("max_pages", pages)
    address, _ = probe.map(guest.domid, [9])
    assert probe.decrease(guest.domid, [9]) == 0
    assert probe.info(guest.domid).tot_pages == pages
    assert probe.populate(guest.domid, [9])[0] == -1
    with pytest.raises(StubError, match="as many pages as it may"):
        guest.balloon_in(9)
    probe.unmap(address, 1)
    assert probe.populate(guest.domid, [9])[0] == 0


def test_a_guest_ends_with_a_page_that_left_while_it_was_mapped(probe: Probe) -> None:
    probe.stub.reset(frames=1 << 13)
    free = probe.stub.free_frames
    guest = probe.hvm("pvh", mem="2M")
    address, _ = probe.map(guest.domid, [9])
    guest.balloon_out(9)
    probe.stub.destroy(guest.domid)
    probe.unmap(address, 1)
    assert probe.stub.free_frames == free


# -- populating


def test_populate(probe: Probe) -> None:
    domid = probe.stub.create_empty("2M", kind="pvh")
    assert probe.nr_gpfns(domid) == 1
    assert probe.populate(domid, [0, 3, SPECIALS]) == (0, [0, 3, SPECIALS])
    guest = probe.stub.guest(domid)
    assert guest.pfns_with_memory() == [0, 3, SPECIALS]
    assert probe.nr_gpfns(domid) == SPECIALS + 1
    assert guest.read_page(3) != bytes(PAGE_SIZE), "Xen does not clear what it gives"
    assert guest.mfn(3) != 3


@pytest.mark.parametrize("extent_order", [0, 9])
def test_superpages(probe: Probe, extent_order: int) -> None:
    probe.stub.reset(extent_order=extent_order)
    domid = probe.stub.create_empty("8M", kind="hvm")
    assert probe.populate(domid, [0, 0x400], order=9) == (0, [0, 0x400])
    assert probe.stub.guest(domid).pfns_with_memory() == [*range(512), *range(0x400, 0x600)]
    assert probe.populate(domid, [0x600], order=13)[0] == -1


def test_a_machine_without_superpages(probe: Probe) -> None:
    probe.stub.reset(superpages=False)
    domid = probe.stub.create_empty("8M", kind="hvm")
    assert probe.populate(domid, [0], order=9)[0] == -1
    assert probe.errno == errno.EBUSY
    assert probe.nr_gpfns(domid) == 1
    assert probe.populate(domid, [0])[0] == 0


def test_bounds_of_populating(probe: Probe) -> None:
    domid = probe.stub.create_empty("4K", kind="pvh")
    assert probe.populate(domid, range(258))[0] == -1
    assert probe.errno == errno.EBUSY
    assert len(probe.stub.guest(domid).pfns_with_memory()) == 257
    extents = probe.ffi.new("xen_pfn_t[]", [1000, 1001])
    assert probe.lib.xc_domain_populate_physmap(probe.xch, domid, 2, 0, 0, extents) == 0
    assert probe.decrease(domid, [0]) == 0
    assert probe.lib.xc_domain_populate_physmap(probe.xch, domid, 2, 0, 0, extents) == 1
    assert probe.decrease(domid, [1]) == 0
    assert probe.populate(domid, [1000])[0] == -1
    assert probe.errno == errno.EEXIST, "stricter than Xen: it has memory already"


def test_decrease_is_by_gfn(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="2M")
    assert probe.decrease(guest.domid, [3, 4]) == 0
    assert not {3, 4} & set(guest.pfns_with_memory())
    assert probe.decrease(guest.domid, [5, 3]) == -1
    assert probe.errno == errno.EINVAL, "as the library says of fewer than all"
    assert 5 not in guest.pfns_with_memory()


# -- ballooning


def test_ballooning_by_hand(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="2M", max_mem="4M")
    before = guest.read_page(17)
    guest.balloon_out([17, 18])
    assert probe.info(guest.domid).tot_pages == 510 + 8
    guest.balloon_in([17, 0x300])
    assert guest.read_page(17) != before
    assert probe.types(guest.domid, [17, 18, 0x300]) == [NOTAB, XTAB, NOTAB]
    with pytest.raises(StubError, match="in use"):
        guest.balloon_out(SPECIALS + 4)
    with pytest.raises(StubError, match="memory already"):
        guest.balloon_in(17)


def test_a_gfn_above_the_end_moves_it(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="2M", max_mem="4M")
    guest.balloon_in(0x12345678)
    assert probe.nr_gpfns(guest.domid) == 0x12345679
    guest.balloon_out(0x12345678)
    assert probe.nr_gpfns(guest.domid) == 0x12345679, "it never comes back"


def test_ballooning_of_its_own_accord(probe: Probe) -> None:
    """One way until it has what it was told to have, then a rest, as a balloon driver does."""
    guest = probe.hvm("pvh", mem="4M", writer="calls", writes=0, balloon=1)
    sizes = []
    for _ in range(500):
        guest.tick()
        sizes.append(probe.info(guest.domid).tot_pages)
    assert len(set(sizes)) > 20 and min(sizes) < 1024 + 8 >= max(sizes)
    steps = [(at, b > a) for at, (a, b) in enumerate(zip(sizes, sizes[1:])) if a != b]
    turns = [after - before for (before, x), (after, y) in zip(steps, steps[1:]) if x != y]
    assert turns and min(turns) >= 8, "a turn of the loop is two ticks: the call that asks is one"


def test_ballooning_now_and_then(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="4M", writer="calls", writes=0, balloon=1, balloon_every=10)
    guest.tick(9)
    assert guest.state().pt_updates == 0
    guest.tick(31)
    assert guest.state().pt_updates == 4


# -- populate on demand


def test_pod_entries_are_populated_by_looking(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="4M", pod="1M")
    assert probe.pod(guest.domid) == (1024 + 8, 256, 256)
    assert probe.info(guest.domid).tot_pages == 1024 + 8
    assert 0x300 not in guest.pfns_with_memory()
    assert probe.types(guest.domid, [0x300, 0x301]) == [NOTAB, NOTAB]
    address, err = probe.map(guest.domid, [0x302])
    assert err == [0] and bytes(probe.ffi.buffer(address, PAGE_SIZE)) == bytes(PAGE_SIZE)
    probe.unmap(address, 1)
    guest.write_page(0x303, b"xyz")
    assert probe.pod(guest.domid) == (1024 + 8, 252, 252)
    assert guest.read_page(0x303)[:4] == b"xyz\0"


def test_pod_with_an_empty_cache_crashes(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="4M", pod="1M", pod_missing="1020K")
    assert probe.pod(guest.domid) == (768 + 8 + 1, 1, 256)
    assert probe.types(guest.domid, [0x300]) == [NOTAB]
    guest.write_page(0x300, b"not zero")
    assert probe.types(guest.domid, [0x301, 0]) == [XTAB, NOTAB]
    assert guest.state().shutdown_reason == CRASHED


def test_zero_pages_are_reclaimed(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="4M", pod="1M", pod_missing="1M")
    guest.write_page(5, bytes(PAGE_SIZE))
    guest.write_page(6, bytes(PAGE_SIZE))
    address, _ = probe.map(guest.domid, [5])
    assert probe.types(guest.domid, [0x300]) == [NOTAB]
    probe.unmap(address, 1)
    assert {5, 0x300} < set(guest.pfns_with_memory()) and 6 not in guest.pfns_with_memory(), "5 was mapped"
    assert probe.pod(guest.domid)[1:] == (0, 256)
    assert guest.running


def test_the_balloon_takes_pod_entries(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="4M", pod="1M", pod_missing="512K")
    for gfn in range(0x300, 0x380):
        guest.balloon_out(gfn)
    assert probe.pod(guest.domid)[1:] == (128, 128)
    assert probe.decrease(guest.domid, range(0x380, 0x400)) == 0
    assert probe.pod(guest.domid) == (768 + 8, 0, 0)
    assert probe.types(guest.domid, [0x300, 0x380]) == [XTAB, XTAB]


def test_a_toolstack_makes_pod_entries(probe: Probe) -> None:
    domid, extents = probe.stub.create_empty("1M", kind="hvm"), probe.ffi.new("xen_pfn_t[]", [0x200])
    assert probe.lib.xc_domain_populate_physmap_exact(probe.xch, domid, 1, 9, ON_DEMAND, extents) == 0
    out = probe.ffi.new("uint64_t[3]")
    assert probe.lib.xc_domain_set_pod_target(probe.xch, domid, 100, out, out + 1, out + 2) == 0
    assert list(out) == [100, 100, 512]
    assert probe.types(domid, [0x3FF]) == [NOTAB]
    pv = probe.guest()
    assert probe.lib.xc_domain_get_pod_target(probe.xch, pv.domid, out, out, out) == -1
    assert probe.errno == errno.EINVAL
