"""The p2m walk against every lie a guest can tell about where its p2m is."""

from __future__ import annotations

from pathlib import Path

import pytest

import pyxcsr
from pyxcsr.guest.pv.geometry import WIDE
from pyxcsr.guest.pv.p2m.map import HOLES, PFNS_A_PAGE, find_leaves, map_p2m, pfn_limit, shared_limit
from pyxcsr.guest.pv.p2m.pagetable import check_range
from pyxcsr.guest.pv.p2m.shared_info import SharedInfo
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.save import save

XEN_HOLE = (0xFFFF800000000000, 0xFFFF87FFFFFFFFFF)


def walked(hv: StubBackend, domid: int) -> tuple[int, list[int]]:
    """nr_pfns and the leaves' pfns, as the walk finds them."""
    info = hv.domain_info(domid)
    shared = SharedInfo(hv, domid, info.shared_info_mfn, WIDE)
    try:
        mapped = map_p2m(hv, info, shared, lambda: None)
        pfns = list(mapped.leaf_pfns)
        mapped.handle.close()
        return mapped.handle.nr_pfns, pfns
    finally:
        shared.close()


@pytest.mark.parametrize(
    "vaddr",
    [
        0xFFFFC90000000000,
        0xFFFFC90000001000,
        0xFFFFC900001FF000,  # crosses an L1 table
        0xFFFFC9003FFFF000,  # crosses an L2 table (1 GiB)
        0xFFFFC97FFFFFE000,  # crosses an L3 table (512 GiB)
        0xFFFF880000000000,
    ],
)
def test_wherever_the_list_is(hv: StubBackend, vaddr: int) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="10M"))
    guest = hv.stub.guest(domid)
    guest.move_p2m(0xFFFFD00000000000, False)  # away, so that any place is free
    if vaddr != guest.shared_info("p2m_vaddr"):
        guest.move_p2m(vaddr, True)
    nr_pfns, leaves = walked(hv, domid)
    assert nr_pfns == guest.nr_pfns == 2560
    assert leaves == guest.leaf_pfns()


@pytest.mark.parametrize("vaddr", [0xFFFFC90000000000, 0xFFFFC90000200000, 0xFFFFC9003FE00000, 0xFFFFC90012345000])
@pytest.mark.parametrize("span", ["1G", "1026M", "3G", "5000M"])
def test_several_gib_of_pfns_at_any_alignment(hv: StubBackend, vaddr: int, span: str) -> None:
    """A level 2 entry covers 1 GiB of memory: spans and offsets around that, where relative and absolute differ."""
    hv.stub.reset(frames=1 << 22)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", span=span, p2m_vaddr=vaddr, share_invalid=False))
    guest = hv.stub.guest(domid)
    guest.poke_domain("max_pages", 1 << 21)
    nr_pfns, leaves = walked(hv, domid)
    assert nr_pfns == guest.nr_pfns
    assert leaves == guest.leaf_pfns()
    assert all(pfn < nr_pfns for pfn in guest.pfns_with_memory())


def test_room_for_later_is_trimmed_and_memory_is_not(hv: StubBackend) -> None:
    hv.stub.reset(frames=1 << 20)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", spare_p2m="64G", share_invalid=True))
    guest = hv.stub.guest(domid)
    nr_pfns, leaves = walked(hv, domid)
    assert max(guest.pfns_with_memory()) < nr_pfns <= guest.nr_pfns
    assert leaves == guest.leaf_pfns()[: len(leaves)]


def lie(hv: StubBackend, field: str, value: int) -> pyxcsr.P2mError:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)
    guest.poke_shared_info(field, value)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mError) as caught:
        save(hv, domid, out)
    assert guest.running and not guest.state().logdirty
    assert hv.stub.leaks() == {}
    return caught.value


@pytest.mark.parametrize("cr3", [1, 0x800, 0xFFF, (1 << 64) - 1, 1 << 52, 1 << 51])
def test_p2m_cr3(hv: StubBackend, cr3: int) -> None:
    error = lie(hv, "p2m_cr3", cr3)
    assert error.field == "p2m_cr3" and f"{cr3:#x}" in str(error)


def test_p2m_cr3_just_past_the_machine(hv: StubBackend) -> None:
    assert lie(hv, "p2m_cr3", hv.nr_mfns() << 12).max_mfn == hv.nr_mfns() - 1


def test_p2m_cr3_of_another_domain_and_of_xen(hv: StubBackend) -> None:
    other = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    lie(hv, "p2m_cr3", hv.stub.guest(other).mfn(3) << 12)
    lie(hv, "p2m_cr3", 1 << 12)


@pytest.mark.parametrize("nr_pfns", [0, (1 << 64) - 1, 1 << 52, (1 << 32) + 1, 1 << 32, 1 << 31])
def test_max_pfn(hv: StubBackend, nr_pfns: int) -> None:
    lie(hv, "max_pfn", nr_pfns)


@pytest.mark.parametrize(
    "vaddr",
    [0x0000800000000000, 0xFFFF7FFFFFFFF000, XEN_HOLE[0], XEN_HOLE[1] - 0xFFF, (1 << 64) - 4096, 0xFFFFC90000000008],
)
def test_p2m_vaddr(hv: StubBackend, vaddr: int) -> None:
    assert lie(hv, "p2m_vaddr", vaddr).vaddr == vaddr


def test_the_hole_is_xens_and_no_more() -> None:
    frame = 4096
    assert check_range(WIDE, XEN_HOLE[1] + 1, 512) == XEN_HOLE[1] + frame
    for vaddr in (XEN_HOLE[0] - frame, XEN_HOLE[0], XEN_HOLE[1] + 1 - frame):
        with pytest.raises(pyxcsr.P2mError):
            check_range(WIDE, vaddr, 1024)
    assert check_range(WIDE, (1 << 47) - frame, 512) == (1 << 47) - 1
    with pytest.raises(pyxcsr.P2mError):
        check_range(WIDE, (1 << 47) - frame, 513)
    assert check_range(WIDE, (1 << 64) - frame, 1) == (1 << 64) - 1
    with pytest.raises(pyxcsr.P2mError):
        check_range(WIDE, (1 << 64) - frame, 513)


def corrupt(hv: StubBackend, level: int, value: int) -> pyxcsr.P2mError:
    """Puts a value into the entry by which the list's first page is reached, at one level."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)
    vaddr = guest.shared_info("p2m_vaddr")
    mfn = guest.shared_info("p2m_cr3") >> 12
    for at in (4, 3, 2, 1):
        _, pfn, _ = hv.stub.frame(mfn)
        assert pfn is not None
        index = vaddr >> (12 + 9 * (at - 1)) & 511
        if at == level:
            guest.corrupt_pte(pfn, index, value)
            break
        page = guest.read_page(pfn)
        mfn = (int.from_bytes(page[8 * index : 8 * index + 8], "little") & 0x000FFFFFFFFFF000) >> 12
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mError) as caught:
        save(hv, domid, out)
    assert guest.running
    assert hv.stub.leaks() == {}
    return caught.value


@pytest.mark.parametrize("level", [4, 3, 2, 1])
@pytest.mark.parametrize("value", [0, 0x67, 0x66 | 9 << 12, 0x67 | 1 << 51, 0x67 | 0x000FFFFFFFFFF000])
def test_entries_that_name_no_frame(hv: StubBackend, level: int, value: int) -> None:
    error = corrupt(hv, level, value)
    assert error.level == level and "p2m" in str(error)


@pytest.mark.parametrize("level", [4, 3, 2])
def test_a_superpage_in_the_way(hv: StubBackend, level: int) -> None:
    assert corrupt(hv, level, 0xE7 | 9 << 12).level == level


@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_a_frame_that_is_not_the_guests(hv: StubBackend, level: int) -> None:
    other = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    corrupt(hv, level, 0x67 | hv.stub.guest(other).mfn(5) << 12)


def test_a_table_that_points_at_itself(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)
    mfn = guest.shared_info("p2m_cr3") >> 12
    _, pfn, _ = hv.stub.frame(mfn)
    assert pfn is not None
    index = guest.shared_info("p2m_vaddr") >> 39 & 511
    guest.corrupt_pte(pfn, index, mfn << 12 | 0x67)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.XcsrError):
        save(hv, domid, out)
    assert guest.running


def test_a_p2m_repeated_cannot_swell_the_stream(hv: StubBackend) -> None:
    """The guest maps its one leaf again and again and claims the pfns: nothing of it is sent twice, or at all."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", spare_p2m="1G", share_invalid=False, writes=0))
    guest = hv.stub.guest(domid)
    taken = guest.pfns_with_memory()[100]
    free = next(x for x in range(guest.nr_pfns) if x not in set(guest.pfns_with_memory()))
    guest.corrupt_p2m(free, guest.mfn(taken))
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.PageError) as caught:
        save(hv, domid, out)
    assert caught.value.pfn == free and caught.value.mfn == guest.mfn(taken)
    assert guest.running


def test_claims_are_bounded_by_what_xen_says(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    info = hv.domain_info(domid)
    assert shared_limit(info) == 8 * info.max_pages + HOLES
    limit = pfn_limit(info)
    assert limit == PFNS_A_PAGE * info.tot_pages + shared_limit(info)
    shared = SharedInfo(hv, domid, info.shared_info_mfn, WIDE)
    hv.stub.guest(domid).poke_shared_info("max_pfn", limit + 1)
    with pytest.raises(pyxcsr.P2mError):
        find_leaves(hv, info, WIDE, shared.head())
    shared.close()


def test_a_list_made_whole_for_maxmem(hv: StubBackend, tmp_path: Path) -> None:
    """A guest whose maxmem is far above its memory has all its p2m frames from the start: they are its own."""
    hv.stub.reset(frames=1 << 22)
    domid = hv.stub.create(
        pyxcsr.StubGuest.pv64(mem="256M", spare_p2m="32G", share_invalid=False, max_mem="260M", writes=0)
    )
    assert hv.stub.guest(domid).nr_pfns > 8 * hv.domain_info(domid).max_pages + HOLES
    nr_pfns, leaves = walked(hv, domid)
    assert nr_pfns == hv.stub.guest(domid).nr_pfns and len(set(leaves)) == len(leaves)


def test_a_list_that_repeats_its_frames_for_ever(hv: StubBackend) -> None:
    hv.stub.reset(frames=1 << 22)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="64M", span="64G", max_mem="64M"))
    with pytest.raises(pyxcsr.P2mError, match="by what Xen says"):
        walked(hv, domid)


@pytest.mark.parametrize("value", [0, (1 << 64) - 1, 1 << 40])
def test_tree_without_a_top(hv: StubBackend, value: int) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", tree="only"))
    hv.stub.guest(domid).poke_shared_info("pfn_to_mfn_frame_list_list", value)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mError):
        save(hv, domid, out)
