"""What a guest of the stub can do to its p2m while somebody looks."""

from __future__ import annotations

import pytest

from pyxcsr.frames import INVALID_MFN, PageType
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe
from .test_scripts import p2m_entry, walk


def data_pfn(guest: StubDomain, nth: int = 100) -> int:
    return guest.pfns_of_type(PageType.NOTAB)[nth]


def test_the_same_frame_comes_back_with_another_content(probe: Probe) -> None:
    guest = probe.guest(mem="4M")
    pfn = max(p for p in guest.pfns_of_type(PageType.NOTAB) if p not in guest.leaf_pfns())
    mfn, page = guest.mfn(pfn), guest.read_page(pfn)
    guest.balloon_out(pfn)
    guest.balloon_in(pfn, mfn)
    assert guest.mfn(pfn) == mfn == p2m_entry(guest, pfn)
    assert guest.read_page(pfn) != page
    with pytest.raises(StubError, match="not one that was given back"):
        hole = max(p for p in guest.pfns_of_type(PageType.NOTAB) if p != pfn and p not in guest.leaf_pfns())
        guest.balloon_out(hole)
        guest.balloon_in(hole, mfn)


@pytest.mark.parametrize("tree", ["no", "both", "only"])
def test_growing_and_shrinking(probe: Probe, tree: str) -> None:
    guest = probe.guest(mem="4M", max_mem="16M", tree=tree)
    counts = tree != "only"
    guest.resize_p2m(5000)
    assert (guest.nr_pfns, guest.shared_info("max_pfn"), len(guest.leaf_pfns())) == (5000, 5000, 10)
    assert guest.shared_info("p2m_generation") == 2 * counts
    guest.balloon_in(4999)
    assert p2m_entry(guest, 4999) == guest.mfn(4999)
    with pytest.raises(StubError, match="has memory"):
        guest.resize_p2m(4000)
    assert guest.shared_info("max_pfn") == 5000
    guest.balloon_out(4999)
    leaf = guest.leaf_pfns()[9]
    guest.resize_p2m(1500)
    assert (guest.nr_pfns, guest.shared_info("max_pfn"), len(guest.leaf_pfns())) == (1500, 1500, 3)
    assert leaf not in guest.leaf_pfns() and guest.types([leaf]) == [PageType.NOTAB]
    if counts:
        walk(probe, guest)
    guest.resize_p2m(2048)
    assert p2m_entry(guest, 2047) == INVALID_MFN
    if counts:
        walk(probe, guest)


def test_a_list_that_moves_leaves_nothing_behind(probe: Probe) -> None:
    """Its old place is unmapped: what was there can be given back."""
    from .test_layout import Machine

    guest = probe.guest(mem="4M", spare_p2m="2G")
    was = guest.shared_info("p2m_vaddr")
    guest.move_p2m(0xFFFFD12345678000, new_root=True)
    guest.move_p2m(0xFFFFD2345678A000, new_root=True)
    machine = Machine(probe, guest)
    for vaddr in (was, 0xFFFFD12345678000):
        assert machine.translate(guest.shared_info("p2m_cr3"), vaddr) is None
    walk(probe, guest)
    with pytest.raises(StubError, match="cannot be at"):
        guest.move_p2m(0xFFFFD2345678B000)


def test_a_page_gets_another_pfn(probe: Probe) -> None:
    guest = probe.guest(mem="4M", holes=0.1, fixmap=False)
    pfn = data_pfn(guest)
    to = next(p for p in range(guest.nr_pfns) if p not in set(guest.pfns_with_memory()))
    mfn, page = guest.mfn(pfn), guest.read_page(pfn)
    guest.move_page(pfn, to)
    assert guest.mfn(to) == mfn == p2m_entry(guest, to) and guest.read_page(to) == page
    assert p2m_entry(guest, pfn) == INVALID_MFN and probe.stub.frame(mfn)[1] == to
    guest.expected_pages(guest.pfns_with_memory())  # every table refers to frames that are the guest's
    with pytest.raises(StubError, match="no memory"):
        guest.move_page(pfn, to)


def test_a_guest_that_lies(probe: Probe) -> None:
    guest = probe.guest(mem="4M", max_mem="8M")
    guest.set_honest(False)
    leaves = guest.leaf_pfns()
    guest.replace_leaf(0)
    guest.move_p2m(0xFFFFD12345678000)
    guest.resize_p2m(2000)
    assert guest.shared_info("p2m_generation") == 0 and guest.leaf_pfns() != leaves
    guest.set_honest(True)
    guest.replace_leaf(0)
    assert guest.shared_info("p2m_generation") == 2


def test_a_tree_moves(probe: Probe) -> None:
    guest = probe.guest(mem="4M", tree="only")
    was = guest.shared_info("pfn_to_mfn_frame_list_list")
    guest.move_tree()
    assert guest.shared_info("pfn_to_mfn_frame_list_list") != was
    guest.replace_leaf(1)
    assert guest.shared_info("p2m_generation") == 0
    with pytest.raises(StubError, match="no tree"):
        probe.guest(mem="4M").move_tree()
