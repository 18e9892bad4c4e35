"""What is special to 32-bit PV guests: words, three levels, Xen's slots beside the m2p, a shared_info that moves."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge, save_to

import pyxcsr
from pyxcsr.errors import P2mError
from pyxcsr.guest.pv.geometry import GEOMETRIES, WIDE, geometry_of
from pyxcsr.guest.pv.p2m.pagetable import check_range
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import PageData, PvInfo

NARROW = GEOMETRIES[4]
ONES = 0xFFFFFFFF


def make(hv: StubBackend, **options: Any) -> int:
    return hv.stub.create(pyxcsr.StubGuest.pv32(**{"mem": "8M", "writes": 0, "pt_updates": 0, **options}))


def test_one_row_a_width() -> None:
    assert geometry_of(8, 4) is WIDE and geometry_of(4, 3) is NARROW
    assert all(geometry_of(x, y) is None for x, y in ((4, 4), (8, 3), (2, 2), (0, 0)))
    assert (WIDE.per_leaf, NARROW.per_leaf, WIDE.tree_pfns, NARROW.tree_pfns) == (512, 1024, 1 << 27, 1 << 30)


@pytest.mark.parametrize("frame", [0, 1, 0xFFFFF, 0x100000, 0x123456, 0xFFFFFFFF])
def test_cr3_is_folded(frame: int) -> None:
    assert NARROW.frame_of_cr3((frame << 12 | frame >> 20) & ONES) == frame
    assert WIDE.frame_of_cr3(frame << 12) == frame


def test_where_a_list_can_be() -> None:
    assert check_range(NARROW, 0xF57FF000, 1024) == 0xF57FFFFF
    assert check_range(NARROW, 0, 1024) == 0xFFF
    for vaddr, nr_pfns in ((0xF57FF000, 1025), (0xF5800000, 1), (0xFFFFF000, 1), (1 << 32, 1), (0x1004, 1)):
        with pytest.raises(P2mError) as caught:
            check_range(NARROW, vaddr, nr_pfns)
        assert caught.value.field == "p2m_vaddr"


LIES = [
    ("p2m_cr3", 0x800, "p2m_cr3"),  # a frame far above the machine, by its folded bits
    ("p2m_cr3", ONES, "p2m_cr3"),
    ("max_pfn", 0, "max_pfn"),
    ("max_pfn", ONES, "p2m_vaddr"),  # so long a list is nowhere
    ("max_pfn", 1 << 30, "p2m_vaddr"),
    ("p2m_vaddr", 0xF5800000, "p2m_vaddr"),
    ("p2m_vaddr", 0xFFFFF000, "p2m_vaddr"),
    ("p2m_vaddr", 0x50000004, "p2m_vaddr"),
    ("p2m_generation", ONES, "p2m_generation"),  # odd: a change that is never over
]


@pytest.mark.parametrize(("field", "value", "named"), LIES)
@pytest.mark.parametrize("changes", ["follow", "abort"])
def test_lies(hv: StubBackend, tmp_path: Path, changes: str, field: str, value: int, named: str) -> None:
    domid = make(hv)
    guest = hv.stub.guest(domid)
    was = guest.shared_info(field)
    guest.poke_shared_info(field, value)
    limits = pyxcsr.P2mLimits(settle_seconds=0.05)
    with pytest.raises(P2mError) as caught:
        save_to(hv, domid, tmp_path / "s", p2m_changes=changes, p2m_limits=limits)
    assert caught.value.field == named
    assert guest.running and not guest.state().logdirty and hv.stub.leaks() == {}
    guest.poke_shared_info(field, was)
    save_to(hv, domid, tmp_path / "s", p2m_changes=changes)
    judge(hv, domid, tmp_path / "s", xen=False)


@pytest.mark.parametrize("top", [0, ONES, 0xFFFFFFFE])
def test_a_tree_that_is_not_there(hv: StubBackend, tmp_path: Path, top: int) -> None:
    domid = make(hv, tree="only")
    hv.stub.guest(domid).poke_shared_info("pfn_to_mfn_frame_list_list", top)
    with pytest.raises(P2mError, match="frame list") as caught:
        save_to(hv, domid, tmp_path / "s", p2m_limits=pyxcsr.P2mLimits(settle_seconds=0.05))
    assert ("neither" in str(caught.value)) == (top in (0, ONES))


def tables(path: Path, level: int) -> list[tuple[int, ...]]:
    """The tables of a level in a stream."""
    out = []
    with open(path, "rb") as stream:
        for record in StreamReader(stream):
            if not isinstance(record, PageData):
                continue
            at = 0
            for entry in record.entries:
                kind = entry >> 60
                if kind < 0xD:
                    if kind & 7 == level:
                        out.append(struct.unpack("<512Q", record.pages[at : at + 4096]))
                    at += 4096
    return out


def test_xens_slots_are_empty_in_the_stream(hv: StubBackend, tmp_path: Path) -> None:
    """Of a top table all but four slots; of level 2 those from 428 on, where Xen's m2p for such guests is there."""
    domid = make(hv)
    save_to(hv, domid, tmp_path / "s", live=False)
    tops, middles = tables(tmp_path / "s", 3), tables(tmp_path / "s", 2)
    assert tops and middles and not tables(tmp_path / "s", 4)
    assert all(not any(x[4:]) for x in tops)
    assert any(any(x[384:428]) and not any(x[428:]) for x in middles), "no table with Xen's slots was saved"
    judge(hv, domid, tmp_path / "s")


def test_a_machine_without_them_says_so(hv: StubBackend, tmp_path: Path) -> None:
    """A stream of a 32-bit guest, and a Xen that was built without them."""
    save_to(hv, make(hv), tmp_path / "s", live=False)
    hv.stub.reset(force=True, pv32=False)
    with pyxcsr.open_hypervisor("stub") as other:
        assert isinstance(other, StubBackend)
        new = other.stub.create_empty("9M", kind="pv32")
        with pytest.raises(pyxcsr.HypervisorError, match="32-bit") as caught, open(tmp_path / "s", "rb") as stream:
            pyxcsr.restore(other, new, stream)
        other.stub.destroy(new)
        assert caught.value.errno == errno.EOPNOTSUPP and other.stub.leaks() == {}


@pytest.mark.parametrize("anywhere", [False, True])
def test_shared_info_where_it_is_after_the_width_was_set(hv: StubBackend, tmp_path: Path, anywhere: bool) -> None:
    """From Xen 4.22 on it moves below 4 GiB. What is written must be in the new page."""
    save_to(hv, make(hv), tmp_path / "s", live=False)
    hv.stub.reset(force=True, frames=(1 << 20) + (1 << 16), shared_info_anywhere=anywhere)
    with pyxcsr.open_hypervisor("stub") as other:
        assert isinstance(other, StubBackend)
        new = other.stub.create_empty("9M", kind="pv32")
        with open(tmp_path / "s", "rb") as stream:
            pyxcsr.restore(other, new, stream, store_evtchn=3, console_evtchn=4)
        guest = other.stub.guest(new)
        assert guest.state().shared_info_mfn < 1 << 20 and guest.shared_info("max_pfn") == 2048
        other.domain_unpause(new)
        guest.tick(3)
        save_to(other, new, tmp_path / "again")
        judge(other, new, tmp_path / "again", xen=False)


def test_the_stream_says_what_it_is(hv: StubBackend, tmp_path: Path) -> None:
    save_to(hv, make(hv), tmp_path / "s", live=False)
    with open(tmp_path / "s", "rb") as stream:
        (info,) = (x for x in StreamReader(stream) if isinstance(x, PvInfo))
    assert (info.width, info.levels) == (4, 3)
