"""HVM and PVH guests of the stub through libxenguest and through us: same streams, and each restores the other's."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import oracle
from support.hvm_truth import differences
from support.same import check_same

from peer.conftest import Peer
from pyxcsr.stream.format import RecordType

pytestmark = pytest.mark.toolchain

GUESTS = {
    "pvh": "pvh:mem=4M,seed=8,vcpus=8,offline_vcpus=2+5,writes=100",
    "pvh, holes": "pvh:mem=8M,seed=9,holes=0.3",
    "hvm": "hvm:mem=4M,seed=11,vram=1M,devmodel=50,vcpus=2",
    "hvm, no driver": "hvm:mem=4M,seed=12,pv_drivers=no,viridian=yes,xsave=0,msrs=0",
    "hvm, asleep": "hvm:mem=4M,seed=13,acpi_s_state=3",
}
SUSPENDED = [["shut_down", [2]]]
POLICIES = (RecordType.X86_CPUID_POLICY, RecordType.X86_MSR_POLICY)
BY = ("libxenguest", "pyxcsr")
HEADERS = 24 + 16
XTAB = 0xF


class Saved(NamedTuple):
    """By whom and where to, the guest's image at suspend, the driver's answer."""

    by: str
    stream: Path
    image: Any
    done: Any

    def records(self) -> list[tuple[int, bytes]]:
        """(type, body) of each."""
        data, at, found = self.stream.read_bytes(), HEADERS, []
        while at < len(data):
            kind, length = struct.unpack_from("<II", data, at)
            found.append((kind, data[at + 8 : at + 8 + length]))
            at += 8 + length + -length % 8
        return found

    def gfns(self) -> set[int]:
        """Those that it has an entry for."""
        found: set[int] = set()
        for kind, body in self.records():
            if kind == RecordType.PAGE_DATA:
                entries = struct.unpack_from(f"<{struct.unpack_from('<I', body)[0]}Q", body, 8)
                found.update(x & (1 << 52) - 1 for x in entries)
        return found


def without_holes(records: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The same without entries of gfns that have no page, and without records of nothing else."""
    for kind, body in records:
        if kind != RecordType.PAGE_DATA:
            yield kind, body
            continue
        (count,) = struct.unpack_from("<I", body)
        kept = [x for x in struct.unpack_from(f"<{count}Q", body, 8) if x >> 60 != XTAB]
        if kept:
            yield kind, struct.pack(f"<II{len(kept)}Q", len(kept), 0, *kept) + body[8 + 8 * count :]


def save_by_both(peer: Peer, folder: Path, guest: str, **request: Any) -> list[Saved]:
    """libxenguest's and ours; every page, the params and the context in both are as they were at suspend."""
    found = []
    for by in BY:
        stream, image = folder / f"{by}-stream", folder / f"{by}.json"
        done = peer("save", by, guest=guest, stream=stream, image=image, judge=True, **request).ok
        assert (done["rc"], done["wrong"], done["leaks"]) == (0, None, {})
        found.append(Saved(by, stream, json.loads(image.read_text()), done))
    return found


@pytest.mark.paths
@pytest.mark.parametrize("name", GUESTS)
def test_non_live_streams_are_equal_record_by_record(peer: Peer, tmp_path: Path, name: str) -> None:
    """The same records in the same order, byte for byte, the pages and how they go into records included.

    Two things may differ. Of gfns without a page libxenguest's stream has entries and ours has none: a receiver does
    nothing for either. And the CPU policies: libxenguest takes a policy apart and puts it together again with the
    leaves that it knows; we pass on what Xen says. And one thing besides the stream: libxenguest tells the device model
    to track its writes, although nothing is copied while the guest runs; we leave it alone.
    """
    theirs, ours = save_by_both(peer, tmp_path, GUESTS[name], live=False, before=SUSPENDED)
    assert theirs.image == ours.image, "not the same guest: this compares nothing"
    assert theirs.stream.read_bytes()[:HEADERS] == ours.stream.read_bytes()[:HEADERS]
    their_records = list(without_holes(theirs.records()))
    assert [x for x, _ in their_records] == [x for x, _ in ours.records()]
    for (kind, their_body), (_, our_body) in zip(their_records, ours.records()):
        if kind not in POLICIES:
            check_same(their_body, our_body, RecordType(kind).name)
    assert theirs.done["told"] == [True, False] and ours.done["told"] == []


@pytest.mark.paths
@pytest.mark.parametrize("name", GUESTS)
def test_live_images_are_equal_and_each_restores_the_others(peer: Peer, tmp_path: Path, name: str) -> None:
    """Each saver's passes see another moment of the guest: what a receiver ends with is the guest as it was suspended.

    Libxenguest's has an entry for every gfn up to the last one, ours for those with a page, and they tell the device
    model the same. Restored by the other, pages, params, context and TSC are as they were, and the guest's kernel goes
    on and is saved again.
    """
    theirs, ours = save_by_both(peer, tmp_path, GUESTS[name])
    assert len(theirs.done["passes"]) > 1 and len(ours.done["report"]["passes"]) > 1
    assert sorted(theirs.image["pages"]) == sorted(ours.image["pages"])
    assert theirs.gfns() == set(range(theirs.done["state"]["nr_pfns"]))
    assert ours.gfns() == {int(x) for x in ours.image["pages"]}
    assert theirs.done["told"] == ours.done["told"] == [True, False]
    if oracle.find_verifier() and name == "hvm":
        accepted, text = oracle.accepts(ours.stream)
        assert accepted, text[-2000:]
    check_restored(peer, tmp_path, theirs, "pyxcsr", GUESTS[name])
    check_restored(peer, tmp_path, ours, "libxenguest", GUESTS[name])


def check_restored(peer: Peer, folder: Path, saved: Saved, by: str, guest: str) -> None:
    """On a machine that hands out other frames."""
    image, vcpus = folder / f"restored-by-{by}", 8 if "vcpus=8" in guest else 2
    request: dict[str, Any] = {"kind": guest[:3], "machine": {"seed": 99}, "adopt": folder / "again"}
    done = peer("restore", by, stream=saved.stream, image=image, pages=4096, vcpus=vcpus, **request).ok
    assert (done["rc"], done["left"], done["wrong"], done["leaks"]) == (0, 0, None, {})
    assert differences(saved.image, json.loads(image.read_text())) == ([], [])


def test_the_judge_sees_what_a_device_model_writes_untold(peer: Peer, tmp_path: Path) -> None:
    """By libxenguest, whose callback does nothing here."""
    done = peer("save", "libxenguest", guest=GUESTS["hvm"], stream=tmp_path / "s", judge=True, deaf=True).ok
    assert done["rc"] == 0 and done["wrong"] is not None


def test_libxenguest_loses_pages_that_come(peer: Peer, tmp_path: Path) -> None:
    """docs/hvm.md says so; of the same guest ours is right."""
    hooks = [["xc_logdirty_control", 2, "balloon_in", [list(range(0x100100, 0x100108))]]]
    request: dict[str, Any] = {"guest": "pvh:mem=4M,max_mem=8M,writes=2", "stream": tmp_path / "s", "hooks": hooks}
    theirs, ours = (peer("save", by, judge=True, **request).ok for by in BY)
    assert theirs["rc"] == ours["rc"] == 0
    assert theirs["wrong"] is not None and ours["wrong"] is None


def test_libxenguest_fails_when_a_page_goes(peer: Peer, tmp_path: Path) -> None:
    """After its type was asked for, before it is mapped; ours sends it as a hole."""
    hooks = [["xenforeignmemory_map", 1, "balloon_out", [0x300]]]
    request: dict[str, Any] = {"guest": "pvh:mem=4M,writes=2", "stream": tmp_path / "s", "hooks": hooks}
    theirs, ours = (peer("save", by, judge=True, **request) for by in BY)
    assert theirs.ok["rc"] == -1 and "Mapping of pfn 0x300" in theirs.said
    assert (ours.ok["rc"], ours.ok["wrong"]) == (0, None)
