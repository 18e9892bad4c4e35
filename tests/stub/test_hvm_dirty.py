"""Log-dirty mode of HVM and PVH guests, as hardware-assisted paging has it, and their device model."""

from __future__ import annotations

import errno
import time

import pytest

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe

OFF, ON = 0, 2
VRAM = 0xF0000


def test_what_the_guest_writes_is_marked(probe: Probe) -> None:
    guest = probe.hvm("pvh", writer="calls", writes=5)
    assert probe.shadow(guest.domid, ON) == 0
    before = {pfn: guest.read_page(pfn) for pfn in guest.pfns_with_memory()}
    guest.tick(20)
    changed = {pfn for pfn, page in before.items() if guest.read_page(pfn) != page}
    guest.set_writes(0)
    assert changed and probe.dirty(guest.domid) == changed
    assert probe.dirty(guest.domid) == set()
    guest.write_page(3, b"again")
    assert probe.dirty(guest.domid, clean=False) == probe.dirty(guest.domid) == {3}


def test_switching(probe: Probe) -> None:
    guest = probe.hvm()
    assert probe.shadow(guest.domid, ON) == 0
    assert probe.shadow(guest.domid, ON) == errno.EINVAL
    assert probe.shadow(guest.domid, OFF) == 0
    guest.poke_domain("assigned_devices", 1)
    assert probe.shadow(guest.domid, ON) == errno.EINVAL
    assert probe.shadow(guest.domid, OFF) == 0
    guest.poke_domain("assigned_devices", 0)
    assert probe.shadow(guest.domid, ON) == 0


def test_no_shadow_paging_is_needed(probe: Probe) -> None:
    probe.stub.reset(shadow=False)
    guest = probe.hvm("pvh")
    assert probe.shadow(guest.domid, ON) == 0
    guest.write_page(1, b"x")
    assert probe.dirty(guest.domid) == {1}


def test_foreign_mappings_mark_nothing(probe: Probe) -> None:
    guest = probe.hvm("pvh")
    assert probe.shadow(guest.domid, ON) == 0
    probe.write(guest.domid, 9, b"from outside")
    assert probe.dirty(guest.domid) == set()


@pytest.mark.parametrize("physmap_dirty", [False, True])
def test_physmap_changes(probe: Probe, physmap_dirty: bool) -> None:
    """Up to 4.21 a page that comes is in no bitmap, whatever is written to it, until the bitmap was cleaned."""
    probe.stub.reset(physmap_dirty=physmap_dirty)
    guest = probe.hvm("pvh")
    guest.balloon_out(40)
    assert probe.shadow(guest.domid, ON) == 0
    guest.write_page(41, b"x")
    guest.balloon_out(41)
    guest.balloon_in(40)
    guest.write_page(40, b"never seen")
    noted = guest.state().kernel_pfn
    assert probe.dirty(guest.domid) == {noted, 40 if physmap_dirty else 41}
    guest.write_page(40, b"seen")
    assert probe.dirty(guest.domid) == {40}
    extents = probe.ffi.new("xen_pfn_t[]", [41])
    assert probe.lib.xc_domain_populate_physmap_exact(probe.xch, guest.domid, 1, 0, 0, extents) == 0
    assert probe.dirty(guest.domid) == ({41} if physmap_dirty else set())


def test_switching_on_tracks_everything(probe: Probe) -> None:
    guest = probe.hvm("pvh")
    assert probe.shadow(guest.domid, ON) == 0
    guest.balloon_out(40)
    guest.balloon_in(40)
    assert probe.shadow(guest.domid, OFF) == probe.shadow(guest.domid, ON) == 0
    guest.write_page(40, b"seen")
    assert probe.dirty(guest.domid, left=1) == {40}, "Xen counts on from what nobody has cleared"
    assert probe.dirty(guest.domid) == set()


def test_what_is_populated_on_demand_is_dirty(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="4M", pod="1M")
    assert probe.shadow(guest.domid, ON) == 0
    assert probe.types(guest.domid, [0x300]) == [0]
    assert probe.dirty(guest.domid) == {0x300}


# -- the device model


def test_the_device_model_is_seen_only_while_it_tracks(probe: Probe) -> None:
    guest = probe.hvm(vram="1M", devmodel=3)
    assert probe.shadow(guest.domid, ON) == 0
    before = guest.state().devmodel_writes
    guest.devmodel_tick(4)
    assert guest.state().devmodel_writes > before
    guest.devmodel_run(False)
    assert probe.dirty(guest.domid) == set()
    guest.devmodel_run(True)
    guest.devmodel_logdirty(True)
    assert guest.state().devmodel_logdirty
    guest.devmodel_tick(4)
    guest.devmodel_run(False)
    marked = probe.dirty(guest.domid)
    assert marked and any(pfn >= VRAM for pfn in marked)


def test_the_device_model_works_in_step(probe: Probe) -> None:
    guest = probe.hvm(vram="1M", devmodel=3)
    frozen = guest.state().devmodel_writes
    probe.info(guest.domid)
    assert guest.state().devmodel_writes > frozen
    guest.shut_down(2)
    frozen = guest.state().devmodel_writes
    probe.info(guest.domid)
    assert guest.state().devmodel_writes == frozen


def test_a_device_model_that_must_be_told(probe: Probe) -> None:
    guest = probe.hvm(vram="1M", devmodel=3, devmodel_stops="told")
    guest.shut_down(2)
    frozen = guest.state().devmodel_writes
    probe.info(guest.domid)
    assert guest.state().devmodel_writes > frozen
    guest.devmodel_run(False)
    assert guest.state().devmodel_stopped
    frozen = guest.state().devmodel_writes
    probe.info(guest.domid)
    assert guest.state().devmodel_writes == frozen


def test_a_device_model_in_a_thread(probe: Probe) -> None:
    guest = probe.hvm(vram="1M", devmodel=3, writer="thread", rate=1000)
    end = time.monotonic() + 30
    while not (guest.state().devmodel_writes and guest.state().writes) and time.monotonic() < end:
        time.sleep(0.01)
    assert guest.state().devmodel_writes and guest.state().writes
    guest.destroy()


def test_pvh_has_no_device_model(probe: Probe) -> None:
    guest = probe.hvm("pvh")
    with pytest.raises(StubError, match="no device model"):
        guest.devmodel_logdirty(True)
    with pytest.raises(StubError, match="no PV guest"):
        guest.move_p2m(0xFFFFC90000000000)
    with pytest.raises(StubError, match="PV guest"):
        probe.guest().param(1)


def test_pages_have_words_of_their_own(probe: Probe) -> None:
    guest = probe.hvm("pvh", mem="2M")
    words = set()
    for page in guest.expected_pages([3, 4, 5]):
        words |= {page[i:i + 8] for i in range(0, PAGE_SIZE, 8)}
    assert len(words) == 3 * 512
