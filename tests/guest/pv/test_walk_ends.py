"""Found in review: ends of the p2m list that no test reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.judge import judge_pages, save_to

import pyxcsr
from guest.pv.test_walk import walked
from pyxcsr.guest.pv.p2m.map import pfn_limit
from pyxcsr.hypervisor.open import StubBackend


@pytest.mark.parametrize("vaddr", [0xFFFFC90000000000, 0xFFFFC90000001000, 0xFFFFC90012345000, 0xFFFFC9003FE00000])
def test_room_for_later_is_trimmed_at_any_alignment(hv: StubBackend, vaddr: int) -> None:
    """The cut is at a level 2 entry, which is 2 MiB of addresses: counted from the list's start, not from its own."""
    hv.stub.reset(frames=1 << 20)
    spec = pyxcsr.StubGuest.pv64(mem="16M", spare_p2m="5G", share_invalid=True, p2m_vaddr=vaddr, writes=0)
    guest = hv.stub.guest(hv.stub.create(spec))
    nr_pfns, leaves = walked(hv, guest.domid)
    assert max(guest.pfns_with_memory()) < nr_pfns < guest.nr_pfns
    assert (vaddr + nr_pfns * 8) % (2 << 20) == 0 and nr_pfns <= 2 << 18
    assert len(leaves) == nr_pfns // 512 and leaves == guest.leaf_pfns()[: len(leaves)]


def test_a_shared_page_with_a_frame_in_it_is_no_room_for_later(hv: StubBackend) -> None:
    hv.stub.reset(frames=1 << 20)
    spec = pyxcsr.StubGuest.pv64(mem="16M", spare_p2m="3G", share_invalid=True, writes=0)
    guest = hv.stub.guest(hv.stub.create(spec))
    trimmed = walked(hv, guest.domid)[0]
    shared = guest.leaf_pfns()[-1]
    assert guest.leaf_pfns().count(shared) > 512
    guest.write_page(shared, guest.mfn(9).to_bytes(8, "little"), 8 * 77)
    assert trimmed < walked(hv, guest.domid)[0] == guest.nr_pfns


def test_an_entry_one_past_the_machine_is_a_hole(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", holes=0.1, writes=0))
    guest = hv.stub.guest(domid)
    hole = next(x for x in range(guest.nr_pfns) if x not in set(guest.pfns_with_memory()))
    guest.corrupt_p2m(hole, hv.nr_mfns())
    save_to(hv, domid, tmp_path / "s")
    judge_pages(hv, domid, tmp_path / "s")


def test_a_guest_may_not_repeat_frames_up_to_what_it_could_own(hv: StubBackend) -> None:
    """Fewer pfns than it might have with frames of its own: only the bound on repeated ones can refuse it."""
    hv.stub.reset(frames=1 << 22)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="64M", span="19G", max_mem="64M"))
    assert hv.stub.guest(domid).nr_pfns < pfn_limit(hv.domain_info(domid))
    with pytest.raises(pyxcsr.P2mError, match="the same p2m frames"):
        walked(hv, domid)
