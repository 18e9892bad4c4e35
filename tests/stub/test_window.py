"""Machines for benchmarks: mappings out of the machine's window, frames that share memory, tables in a row."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.judge import judge, save_to

import pyxcsr
from pyxcsr.errors import HypervisorError
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.hypervisor.stub.text import StubGuest

PACKED = StubGuest.pv64(mem="16M", packed=True, writer="none")


def address(hv: StubBackend, domid: int, mfns: list[int]) -> int:
    with hv.map_frames(domid, mfns) as mapping:
        return int(hv._ffi.cast("uintptr_t", mapping._cdata))


def test_frames_in_a_row_are_one_place_in_memory(hv: StubBackend) -> None:
    hv.stub.reset(window=True)
    domid = hv.stub.create(PACKED)
    guest = hv.stub.guest(domid)
    first = guest.mfn(0)
    assert [guest.mfn(x) for x in range(4096)] == list(range(first, first + 4096))
    at = address(hv, domid, [first])
    assert address(hv, domid, [first + 5, first + 6]) == at + 5 * 4096
    with hv.map_frames(domid, range(first, first + 4096)) as whole:
        assert whole.copy() == b"".join(guest.read_page(x) for x in range(4096))


def test_other_lists_are_mapped_once(hv: StubBackend) -> None:
    hv.stub.reset(window=True)
    domid = hv.stub.create(PACKED)
    guest = hv.stub.guest(domid)
    pfns = [9, 700, 701, 3000]
    mfns = [guest.mfn(x) for x in pfns]
    at = address(hv, domid, mfns)
    assert address(hv, domid, mfns) == at != address(hv, domid, mfns[:3])
    with hv.map_frames(domid, mfns) as mapping:
        assert mapping.copy() == b"".join(guest.read_page(x) for x in pfns)
        guest.write_page(701, b"written", offset=8)
        assert mapping.copy()[2 * 4096 + 8 :].startswith(b"written")


def test_they_are_counted_and_hold_the_machine(hv: StubBackend) -> None:
    hv.stub.reset(window=True)
    domid = hv.stub.create(PACKED)
    mfn = hv.stub.guest(domid).mfn(0)
    for mfns in ([mfn, mfn + 1], [mfn + 9, mfn]):
        with hv.map_frames(domid, mfns):
            assert hv.stub.leaks() == {"mappings": 1, "mapped_pages": 2}
            with pytest.raises(StubError, match="still alive"):
                hv.stub.reset()
        assert hv.stub.leaks() == {}


def test_what_may_not_be_mapped_is_refused_as_ever(hv: StubBackend) -> None:
    hv.stub.reset(window=True)
    domid = hv.stub.create(PACKED)
    mfn = hv.stub.guest(domid).mfn(0)
    address(hv, domid, [mfn, mfn + 5000 - 4096])
    with pytest.raises(HypervisorError):
        hv.map_frames(domid, [mfn, hv.stub.max_page])
    hv.stub.fail("xenforeignmemory_map", page=1)
    with pytest.raises(HypervisorError):
        hv.map_frames(domid, [mfn, mfn + 1])


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("guest", ["pv64:mem=16M,packed=yes", "pv64:mem=16M,packed=yes,holes=0.4,seed=2"])
def test_a_save_is_right(hv: StubBackend, tmp_path: Path, guest: str, seed: int) -> None:
    hv.close()
    with pyxcsr.open_hypervisor("stub") as again:
        again.stub.reset(window=True, seed=seed)
        domid = again.stub.create(StubGuest.parse(guest))
        save_to(again, domid, tmp_path / "stream")
        judge(again, domid, tmp_path / "stream")
        assert again.stub.leaks() == {}
        again.stub.destroy(domid)


def test_tables_come_first(hv: StubBackend) -> None:
    guest = hv.stub.guest(hv.stub.create(PACKED))
    tables = [x for kind in PageType if kind.name.startswith("L") for x in guest.pfns_of_type(kind)]
    assert max([*tables, *guest.leaf_pfns()]) < 4096 * 3 // 512 + 64
    assert guest.leaf_pfns() == list(range(min(guest.leaf_pfns()), max(guest.leaf_pfns()) + 1))


def test_large_guests_share_memory(hv: StubBackend) -> None:
    hv.stub.reset(frames=1 << 19, window=True, backed=1 << 16)
    guest = hv.stub.guest(hv.stub.create(StubGuest.pv64(mem="1536M", packed=True, filled=False, writer="none")))
    page = next(x for x in range(1 << 17) if guest.mfn(x) == (1 << 16) + 77)
    guest.write_page(page, b"shared")
    assert guest.read_page(page + (1 << 16))[:6] == b"shared" != guest.read_page(page + 1)[:6]
    for pfn in (page + 5, page + (1 << 16) + 9):
        guest.write_page(pfn, f"page {pfn}".encode())
    pfns = [page + 5, page, page + (1 << 16) + 9]
    with hv.map_frames(guest.domid, [guest.mfn(x) for x in pfns]) as mapping:
        assert mapping.copy() == b"".join(guest.read_page(x) for x in pfns)
    tables = [x for kind in PageType if kind.name.startswith("L") for x in guest.pfns_of_type(kind)]
    assert max(guest.mfn(x) for x in [*tables, *guest.leaf_pfns()]) < 1 << 16
    with pytest.raises(StubError, match="too few"):
        hv.stub.reset(frames=1 << 19, backed=4096)


def test_when_a_function_was_entered(hv: StubBackend) -> None:
    assert hv.stub.entered("xc_domain_pause") == (0.0, 0.0)
    domid = hv.stub.create(PACKED)
    before = time.monotonic()
    hv.domain_pause(domid)
    hv.domain_unpause(domid)
    (paused, first), (unpaused, then) = (hv.stub.entered(f"xc_domain_{x}") for x in ("pause", "unpause"))
    assert before <= paused < unpaused <= time.monotonic()
    assert 0 < then - first <= unpaused - paused
    assert then < hv.stub.inside <= time.monotonic() - before + then
    with pytest.raises(StubError):
        hv.stub.entered("nothing")
