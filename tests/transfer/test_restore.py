"""Round trips on the stub: a guest is saved, restored, and is what it was; then it runs, and goes round again."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from support.judge import CR1, CR3, GDT0, RDX, judge, save_to, word

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.restore import restore

GDT_ENTS = 4960


class Truth:
    """All that a guest is, in pfns, by the machine's own tables; taken while it is suspended or not yet running."""

    def __init__(self, hv: StubBackend, domid: int) -> None:
        guest = hv.stub.guest(domid)
        self.pfns = guest.pfns_with_memory()
        self.types = guest.types(self.pfns)
        self.pages = dict(zip(self.pfns, guest.expected_pages(self.pfns)))
        self.tsc = hv.domain_tsc(domid)
        self.policy = hv.cpu_policy(domid)
        self.shared = hv.read_frames(domid, [guest.state().shared_info_mfn])
        info = hv.domain_info(domid)
        self.vcpus = {v: self._vcpu(hv, domid, v) for v in range(info.max_vcpu_id + 1) if hv.vcpu_online(domid, v)}
        self.start_info = self.vcpus[0][0][RDX]

    @staticmethod
    def _vcpu(hv: StubBackend, domid: int, vcpu: int) -> tuple[dict[int, int], bytes, bytes, bytes, bytes]:
        raw = bytearray(hv.vcpu_basic(domid, vcpu))
        frames: dict[int, int] = {}
        gdt = [GDT0 + 8 * i for i in range(-(-word(raw, GDT_ENTS) // 512))]
        places = [CR3, CR1, *gdt, *([RDX] if vcpu == 0 else [])]
        for at in places:
            value = word(raw, at)
            mfn = value >> 12 if at in (CR3, CR1) else value
            if mfn:
                owner, pfn, _ = hv.stub.frame(mfn)
                assert owner == domid and pfn is not None
                frames[at] = pfn
            raw[at : at + 8] = bytes(8)
        blobs = (hv.vcpu_extended(domid, vcpu), hv.vcpu_xsave(domid, vcpu), hv.vcpu_msrs(domid, vcpu))
        return (frames, bytes(raw), *blobs)


def assert_same(was: Truth, now: Truth, nr_pfns: int) -> None:
    assert now.pfns == was.pfns
    assert now.types == was.types
    for pfn in was.pfns:
        if pfn == was.start_info or is_p2m_page(was, pfn):
            continue
        assert now.pages[pfn] == was.pages[pfn], f"pfn {pfn:#x} differs"
    assert now.vcpus.keys() == was.vcpus.keys()
    for number, vcpu in was.vcpus.items():
        assert now.vcpus[number] == vcpu, f"vcpu {number}"
    assert (now.tsc.mode, now.tsc.khz, now.tsc.nsec) == (was.tsc.mode, was.tsc.khz, was.tsc.nsec)
    assert now.tsc.incarnation == was.tsc.incarnation + 1  # Xen counts each time it is set
    assert now.policy == was.policy
    judge_start_info(was.pages[was.start_info], now.pages[now.start_info], nr_pfns)
    judge_shared_info(was.shared, now.shared)


P2M_PFNS: set[int] = set()


def is_p2m_page(was: Truth, pfn: int) -> bool:
    """Pages of the p2m itself hold mfns: judged by judge_p2m."""
    return pfn in P2M_PFNS


def judge_start_info(was: bytes, now: bytes, nr_pfns: int) -> None:
    assert now[:32] == was[:32] and now[88:] == was[88:]
    assert struct.unpack_from("<Q", now, 32)[0] == nr_pfns
    assert struct.unpack_from("<I", now, 48)[0] == 0


def judge_shared_info(was: bytes, now: bytes) -> None:
    for vcpu in range(32):
        at = 64 * vcpu
        assert now[at : at + 8] == was[at : at + 8]
        assert now[at + 8 : at + 16] == bytes(8)  # evtchn_pending_sel
        assert now[at + 16 : at + 64] == was[at + 16 : at + 64]
    assert now[2048:2560] == bytes(512) and now[2560:3072] == b"\xff" * 512
    assert now[3088:3096] == was[3088:3096]  # max_pfn
    assert now[3096:3104] == bytes(8) and now[3112:3136] == bytes(24)  # frame lists, cr3, vaddr, generation


def judge_p2m(hv: StubBackend, domid: int, leaves: list[int], nr_pfns: int) -> None:
    """The guest's own list names its new frames, and nothing else."""
    guest = hv.stub.guest(domid)
    have = set(guest.pfns_with_memory())
    for i, leaf in enumerate(leaves):
        entries = struct.unpack("<512Q", guest.read_page(leaf))
        for pfn in range(512 * i, min(512 * (i + 1), nr_pfns)):
            wanted = guest.mfn(pfn) if pfn in have else (1 << 64) - 1
            assert entries[pfn % 512] == wanted, f"p2m[{pfn:#x}]"


def round_trip(hv: StubBackend, domid: int, path: Path, **options: Any) -> tuple[int, pyxcsr.RestoreReport]:
    """Saves, restores into a new domain beside it, judges; the new domain is not unpaused yet."""
    saved = save_to(hv, domid, path, **options)
    guest = hv.stub.guest(domid)
    leaves = list(guest.leaf_pfns())[: -(-saved.nr_pfns // 512)]
    P2M_PFNS.clear()
    P2M_PFNS.update(leaves)
    was = Truth(hv, domid)
    info = hv.domain_info(domid)
    new = hv.stub.create_empty(max_mem=info.max_pages * 4096, vcpus=info.max_vcpu_id + 1)
    with open(path, "rb") as stream:
        report = restore(hv, new, stream, store_evtchn=3, console_evtchn=4)
        assert os.lseek(stream.fileno(), 0, os.SEEK_CUR) == saved.bytes
    assert report.nr_pfns == saved.nr_pfns and report.bytes == saved.bytes
    state = hv.stub.guest(new).state()
    assert state.paused and not state.running
    assert_same(was, Truth(hv, new), saved.nr_pfns)
    judge_p2m(hv, new, leaves, saved.nr_pfns)
    return new, report


GUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two vcpus": {"vcpus": 2},
    "eight, some offline": {"vcpus": 8, "offline_vcpus": (2, 5)},
    "holes": {"holes": 0.3},
    "unaligned list": {"p2m_vaddr": 0xFFFFC90012345000},
    "tree": {"tree": "only"},
    "busy tables": {"pt_updates": 12, "writes": 200},
    "no xsave": {"xsave": 0, "msrs": 0},
}


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("name", GUESTS)
def test_round_trip(hv: StubBackend, tmp_path: Path, name: str, live: bool) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(**{"mem": "12M", "seed": 5, **GUESTS[name]}))
    round_trip(hv, domid, tmp_path / "s", live=live)


@pytest.mark.parametrize("seed", range(100))
def test_hundred_seeds(hv: StubBackend, tmp_path: Path, seed: int) -> None:
    vcpus = (1, 2, 8)[seed % 3]
    guest = pyxcsr.StubGuest.pv64(mem="6M", seed=seed, writes=40, pt_updates=4, holes=0.05 * (seed % 2), vcpus=vcpus)
    round_trip(hv, hv.stub.create(guest), tmp_path / "s")


def test_again_and_again(hv: StubBackend, tmp_path: Path) -> None:
    """Restored, unpaused, writing again; saved live again, restored again."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=50, pt_updates=2))
    for n in range(3):
        new, _ = round_trip(hv, domid, tmp_path / f"s{n}")
        hv.stub.destroy(domid)
        hv.domain_unpause(new)
        before = hv.stub.guest(new).state().writes
        hv.stub.guest(new).tick(10)
        assert hv.stub.guest(new).state().writes > before, "the restored guest does not run"
        domid = new
    save_to(hv, domid, tmp_path / "last")
    judge(hv, domid, tmp_path / "last")
