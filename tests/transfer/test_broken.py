"""Pages that the hardware has lost: a PV guest is saved with a warning and restored without them, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.judge import save_to
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.stream.reader import StreamReader

KINDS = ["pv64", "pv32"]


def a_guest(hv: StubBackend, kind: str) -> Any:
    return hv.stub.guest(hv.stub.create(pyxcsr.StubGuest.parse(f"{kind}:mem=8M,writes=0,pt_updates=0")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("live", [True, False])
def test_saved_with_a_warning_and_restored_with_zeroes(hv: StubBackend, kind: str, live: bool, tmp_path: Path) -> None:
    guest = a_guest(hv, kind)
    pages = ordinary_pages(guest)
    lost = pages[len(pages) // 2]
    guest.write_page(lost, b"x" * 4096)
    guest.set_type(lost, PageType.BROKEN)
    with open(tmp_path / "s", "wb") as out:
        report = pyxcsr.save(hv, guest.domid, out, live=live)
    (warning,) = report.warnings
    assert hex(lost) in warning and "1 of the guest's pages" in warning
    with open(tmp_path / "s", "rb") as stream:
        judged = pyxcsr.verify(StreamReader(stream))
    assert judged.ok and f"0x{lost:x}" in str(judged.notes) and "BROKEN" in str(judged.notes)
    hv.domain_destroy(guest.domid)
    domid = hv.stub.create_empty("8M")
    with open(tmp_path / "s", "rb") as stream:
        restored = pyxcsr.restore(hv, domid, stream)
    (warning,) = restored.warnings
    assert hex(lost) in warning
    assert hv.stub.guest(domid).read_page(lost) == bytes(4096)


@pytest.mark.parametrize("kind", KINDS)
def test_a_warning_at_each_checkpoint(hv: StubBackend, kind: str) -> None:
    """One, about all that are lost by then."""
    guest = a_guest(hv, kind)
    pages = ordinary_pages(guest)

    def lose(done: pyxcsr.Checkpoint) -> None:
        lost = pages[len(pages) // 2 + done.number]
        guest.write_page(lost, b"x" * 4096)
        guest.set_type(lost, PageType.BROKEN)

    with open("/dev/null", "wb") as out:
        asked = pyxcsr.Checkpointed(0, count=3, checkpoint=lose)
        warnings = pyxcsr.save(hv, guest.domid, out, checkpointed=asked).warnings
    (warning,) = warnings
    assert "2 of the guest's pages" in warning
    assert all(hex(pages[len(pages) // 2 + n]) in warning for n in (1, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("live", [True, False])
def test_a_page_of_the_p2m_that_is_lost_ends_the_save(hv: StubBackend, kind: str, live: bool) -> None:
    guest = a_guest(hv, kind)
    lost = guest.leaf_pfns()[1]
    guest.set_type(lost, PageType.BROKEN)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mError, match="is broken") as caught:
        pyxcsr.save(hv, guest.domid, out, live=live)
    assert caught.value.pfn == lost and guest.running


@pytest.mark.parametrize("kind", KINDS)
def test_start_info_that_is_lost_ends_the_save(hv: StubBackend, kind: str) -> None:
    guest = a_guest(hv, kind)

    def lose(function: str, count: int) -> None:
        if guest.suspended and guest.types([start_info])[0] is not PageType.BROKEN:
            guest.set_type(start_info, PageType.BROKEN)

    start_info = guest.state().start_info_pfn
    with open("/dev/null", "wb") as out, hv.stub.hook(lose), pytest.raises(pyxcsr.GuestStateError, match="has lost"):
        pyxcsr.save(hv, guest.domid, out, live=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("field", ["cr3", "gdt_frame0"])
def test_what_a_vcpu_needs_that_is_lost_ends_the_save(hv: StubBackend, kind: str, live: bool, field: str) -> None:
    """No table names a top table, or a page of descriptors."""
    guest = a_guest(hv, kind)
    value = guest.vcpu(0, field)
    mfn = value >> 12 if field == "cr3" else value
    lost = next(x for x in range(2048) if guest.mfn(x) == mfn)
    guest.set_type(lost, PageType.BROKEN)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.GuestStateError, match="hardware has lost") as caught:
        pyxcsr.save(hv, guest.domid, out, live=live)
    assert caught.value.mfn == mfn and guest.running


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("level", [1, 2])
def test_a_page_table_that_is_lost_ends_the_save(hv: StubBackend, kind: str, live: bool, level: int) -> None:
    """Xen does not say that it was one: the tables that name it do, whether they are sent before it or after it."""
    guest = a_guest(hv, kind)
    for lost in (guest.pfns_of_type(PageType(level))[0], guest.pfns_of_type(PageType(level))[-1]):
        was = guest.types([lost])[0]
        guest.set_type(lost, PageType.BROKEN)
        with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.PageError, match="or was, a page table") as caught:
            pyxcsr.save(hv, guest.domid, out, live=live)
        assert caught.value.pfn == lost and guest.running
        guest.set_type(lost, was)


def test_a_page_that_is_lost_during_the_save(hv: StubBackend, tmp_path: Path) -> None:
    """It had been sent: what the image has of it is not what the guest had, and it counts as lost."""
    guest = a_guest(hv, "pv64")
    pages = ordinary_pages(guest)
    lost = pages[len(pages) // 2]

    def lose(function: str, count: int) -> None:
        if guest.suspended and guest.types([lost])[0] is not PageType.BROKEN:
            guest.set_type(lost, PageType.BROKEN)

    with hv.stub.hook(lose):
        report = save_to(hv, guest.domid, tmp_path / "s")
    assert hex(lost) in report.warnings[0]
    hv.domain_destroy(guest.domid)
    domid = hv.stub.create_empty("8M")
    with open(tmp_path / "s", "rb") as stream:
        assert hex(lost) in pyxcsr.restore(hv, domid, stream).warnings[0]
    assert hv.stub.guest(domid).read_page(lost) == bytes(4096)
