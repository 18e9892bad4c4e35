"""libxenguest's xc_domain_save on the stub's guests: judged like ours, and compared with ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.same import check_same, check_same_pages

from peer.conftest import Peer
from peer.streams import pages, records
from pyxcsr.stream.records import P2mFrames, PageData, Record

pytestmark = pytest.mark.toolchain

GUESTS = {
    "plain": "pv64:mem=16M,seed=7",
    "smp": "pv64:mem=16M,seed=7,vcpus=8,offline_vcpus=2+5",
    "holes": "pv64:mem=16M,seed=7,holes=0.3",
    "unaligned list": "pv64:mem=16M,seed=7,p2m_vaddr=0xffffc90012345000",
    "spare p2m": "pv64:mem=16M,seed=7,spare_p2m=1G",
    "tree": "pv64:mem=16M,seed=7,tree=only",
    "no xsave": "pv64:mem=16M,seed=7,xsave=0,msrs=0",
    "busy tables": "pv64:mem=16M,seed=7,pt_updates=12,writes=200",
    "32 bits": "pv32:mem=16M,seed=7,vcpus=3,holes=0.1",
    "32 bits, tree": "pv32:mem=16M,seed=7,tree=only",
}
SUSPENDED = [["shut_down", [2]]]
POLICIES = ("X86_CPUID_POLICY", "X86_MSR_POLICY")


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("name", GUESTS)
def test_its_streams_are_right(peer: Peer, tmp_path: Path, name: str, live: bool) -> None:
    """Its stream keeps every rule that verify knows, and has every page, vcpu and the rest as at suspend."""
    done = peer("save", "libxenguest", guest=GUESTS[name], live=live, stream=tmp_path / "s", judge=True).ok
    assert done["rc"] == 0
    assert done["wrong"] is None
    assert done["leaks"] == {}
    assert done["state"]["shutdown"] and not done["state"]["logdirty"]
    assert len(done["passes"]) > 1 if live else done["passes"] == []


def test_a_guest_that_writes_at_the_same_time(peer: Peer, tmp_path: Path) -> None:
    guest = "pv64:mem=32M,seed=3,writer=thread,rate=50000,pt_updates=8"
    done = peer("save", "libxenguest", guest=guest, stream=tmp_path / "s", judge=True).ok
    assert (done["rc"], done["wrong"], done["leaks"]) == (0, None, {})
    assert max(done["passes"][1:]) > 100, "the guest wrote nothing: this test tests nothing"


def save_by_both(peer: Peer, folder: Path, guest: str) -> tuple[Path, Path]:
    """The streams of libxenguest and of ours, of one guest that is suspended before."""
    images: dict[str, Any] = {}
    for by in ("libxenguest", "pyxcsr"):
        files = {"stream": folder / by, "image": folder / f"{by}.json"}
        done = peer("save", by, guest=guest, live=False, before=SUSPENDED, judge=True, **files).ok
        assert (done["rc"], done["wrong"], done["leaks"]) == (0, None, {})
        images[by] = json.loads(files["image"].read_text())
    assert images["libxenguest"] == images["pyxcsr"], "not the same guest: this compares nothing"
    return folder / "libxenguest", folder / "pyxcsr"


def of_one_batch(found: list[tuple[Record, bytes]]) -> list[tuple[str, Any]]:
    """Name and bytes of each record; of all pages in a row one list: pfn, type, content."""
    joined: list[tuple[str, Any]] = []
    for record, raw in found:
        if not isinstance(record, PageData):
            joined.append((record.name, raw))
            continue
        if not joined or joined[-1][0] != record.name:
            joined.append((record.name, []))
        joined[-1][1].extend((pfn, kind, page and bytes(page)) for pfn, kind, page in record.items())
    return joined


@pytest.mark.parametrize("name", [x for x in GUESTS if x != "spare p2m"])
def test_both_savers_write_the_same_bytes(peer: Peer, tmp_path: Path, name: str) -> None:
    """Without live passes: the same records, byte for byte, but for CPU policies and how pages go into records.

    libxenguest takes a policy apart and puts it together again with the leaves it knows; we pass it on. It puts 1024
    pfns into each record, we as many as let pages begin where the file's do.
    """
    paths = save_by_both(peer, tmp_path, GUESTS[name])
    theirs, ours = (of_one_batch(records(x)) for x in paths)
    assert [x for x, _ in theirs] == [x for x, _ in ours]
    for (kind, theirs_raw), (_, ours_raw) in zip(theirs, ours):
        if kind not in POLICIES:
            check_same(theirs_raw, ours_raw, kind)
    headers = [x.read_bytes()[:40] for x in paths]
    assert headers[0] == headers[1]


def test_reserve_at_the_end_of_the_p2m_is_all_that_we_leave_out(peer: Peer, tmp_path: Path) -> None:
    """p2m pages that are all one shared page of invalid entries, at the list's end: they hold no memory."""
    paths = save_by_both(peer, tmp_path, GUESTS["spare p2m"])
    theirs, ours = (pages(x) for x in paths)
    check_same_pages(theirs, ours)
    assert len(ours) == 4096
    frames = [next(x for x, _ in records(path) if isinstance(x, P2mFrames)) for path in paths]
    assert frames[0].frames[: len(frames[1].frames)] == frames[1].frames
    assert len(frames[1].frames) <= len(frames[0].frames)


@pytest.mark.parametrize("function", ["xc_get_pfn_type_batch", "xenforeignmemory_map", "xc_logdirty_control"])
def test_it_cleans_up_after_failures(peer: Peer, tmp_path: Path, function: str) -> None:
    """The stub's scripted failures reach libxenguest; it fails, and leaves no mapping and no log-dirty mode."""
    request: dict[str, Any] = {"guest": GUESTS["plain"], "stream": tmp_path / "s"}
    done = peer("save", "libxenguest", fail=[[function, 2, 12]], **request).ok
    assert done["rc"] == -1
    assert done["leaks"] == {} and not done["state"]["logdirty"]


def test_both_savers_can_be_timed_side_by_side(peer: Peer, tmp_path: Path) -> None:
    """What benchmarks use: one process, one guest, the savers in turn."""
    guest = "pv64:mem=16M,seed=7,writer=none"
    done = peer("time", "both", guest=guest, repeat=2, stream=tmp_path / "s").ok
    assert [len(x) for x in done["times"].values()] == [2, 2]
    assert all(0 < paused <= seconds for x in done["times"].values() for seconds, paused, _ in x)
    assert done["leaks"] == {}
