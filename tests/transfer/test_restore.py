"""Round trips on the stub: a guest is saved, restored, and is what it was; then it runs, and goes round again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge, save_to
from support.widths import Width, width_of

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.restore import restore


class Truth:
    """All that a guest is, in pfns, by the machine's own tables; taken while it is suspended or not yet running."""

    def __init__(self, hv: StubBackend, domid: int) -> None:
        guest = hv.stub.guest(domid)
        self.width = width_of(hv, domid)
        self.pfns = guest.pfns_with_memory()
        self.types = guest.types(self.pfns)
        self.pages = dict(zip(self.pfns, guest.expected_pages(self.pfns)))
        self.tsc = hv.domain_tsc(domid)
        self.policy = hv.cpu_policy(domid)
        self.shared = hv.read_frames(domid, [guest.state().shared_info_mfn])
        info = hv.domain_info(domid)
        self.vcpus = {v: self._vcpu(hv, domid, v) for v in range(info.max_vcpu_id + 1) if hv.vcpu_online(domid, v)}
        self.start_info = self.vcpus[0][0][self.width.rdx]

    def _vcpu(self, hv: StubBackend, domid: int, vcpu: int) -> tuple[dict[int, int], bytes, bytes, bytes, bytes]:
        w = self.width
        raw = bytearray(hv.vcpu_basic(domid, vcpu, w.nr_bytes))
        assert len(raw) == w.context
        frames: dict[int, int] = {}
        gdt = [w.gdt + w.nr_bytes * i for i in range(-(-w.word(raw, w.gdt + 16 * w.nr_bytes) // 512))]
        roots = [w.cr + w.nr_bytes * 3, w.cr + w.nr_bytes][: w.nr_bytes // 4]
        for at in [*roots, *gdt, *([w.rdx] if vcpu == 0 else [])]:
            value = w.word(raw, at)
            mfn = w.cr3_frame(value) if at in roots else value
            if mfn:
                owner, pfn, _ = hv.stub.frame(mfn)
                assert owner == domid and pfn is not None
                frames[at] = pfn
            w.put(raw, at, 0)
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
    judge_start_info(was.width, was.pages[was.start_info], now.pages[now.start_info], nr_pfns)
    judge_shared_info(was.width, was.shared, now.shared)


P2M_PFNS: set[int] = set()


def is_p2m_page(was: Truth, pfn: int) -> bool:
    """Pages of the p2m itself hold mfns: judged by judge_p2m."""
    return pfn in P2M_PFNS


def judge_start_info(w: Width, was: bytes, now: bytes, nr_pfns: int) -> None:
    end = w.start_info.size
    end += -end % w.nr_bytes
    assert now[:32] == was[:32] and now[end:] == was[end:]
    _, nr_pages, _, flags, _, store_evtchn, _, console_evtchn = w.start_info.unpack_from(now)
    assert (nr_pages, flags, store_evtchn, console_evtchn) == (nr_pfns, 0, 3, 4)


def judge_shared_info(w: Width, was: bytes, now: bytes) -> None:
    for vcpu in range(32):
        at, sel = 64 * vcpu, 64 * vcpu + w.selector
        assert now[at:sel] == was[at:sel]
        assert not w.word(now, sel)  # evtchn_pending_sel
        assert now[sel + w.nr_bytes : at + 64] == was[sel + w.nr_bytes : at + 64]
    mask = w.pending + w.nr_events
    assert now[w.pending : mask] == bytes(w.nr_events) and now[mask : mask + w.nr_events] == b"\xff" * w.nr_events
    max_pfn, lists, _, *p2m = [w.word(now, w.arch + i * w.nr_bytes) for i in range(6)]
    assert max_pfn == w.word(was, w.arch)
    assert [lists, *p2m] == [0] * 4  # where the p2m was: frame lists, cr3, vaddr, generation


def judge_p2m(hv: StubBackend, domid: int, leaves: list[int], nr_pfns: int) -> None:
    """The guest's own list names its new frames, and nothing else."""
    guest, w = hv.stub.guest(domid), width_of(hv, domid)
    have = set(guest.pfns_with_memory())
    for i, leaf in enumerate(leaves):
        for pfn, entry in zip(range(w.per_page * i, nr_pfns), w.words(guest.read_page(leaf))):
            assert entry == (guest.mfn(pfn) if pfn in have else w.none), f"p2m[{pfn:#x}]"


def round_trip(hv: StubBackend, domid: int, path: Path, **options: Any) -> tuple[int, pyxcsr.RestoreReport]:
    """Saves, restores into a new domain beside it, judges; the new domain is not unpaused yet."""
    saved = save_to(hv, domid, path, **options)
    guest = hv.stub.guest(domid)
    width = width_of(hv, domid)
    leaves = list(guest.leaf_pfns())[: -(-saved.nr_pfns // width.per_page)]
    P2M_PFNS.clear()
    P2M_PFNS.update(leaves)
    was = Truth(hv, domid)
    info = hv.domain_info(domid)
    kind = {8: "pv64", 4: "pv32"}[width.nr_bytes]
    new = hv.stub.create_empty(max_mem=info.max_pages * 4096, vcpus=info.max_vcpu_id + 1, kind=kind)
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


GUESTS_32: dict[str, dict[str, Any]] = {**GUESTS, "unaligned list": {"p2m_vaddr": 0x7FFFE000}}
PV = {"pv64": pyxcsr.StubGuest.pv64, "pv32": pyxcsr.StubGuest.pv32}
each_kind = pytest.mark.parametrize("kind", PV)


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("name", GUESTS)
@each_kind
def test_round_trip(hv: StubBackend, tmp_path: Path, kind: str, name: str, live: bool) -> None:
    guests = GUESTS_32 if kind == "pv32" else GUESTS
    domid = hv.stub.create(PV[kind](**{"mem": "12M", "seed": 5, **guests[name]}))
    round_trip(hv, domid, tmp_path / "s", live=live)


@pytest.mark.parametrize("seed", range(100))
@each_kind
def test_hundred_seeds(hv: StubBackend, tmp_path: Path, kind: str, seed: int) -> None:
    vcpus = (1, 2, 8)[seed % 3]
    guest = PV[kind](mem="6M", seed=seed, writes=40, pt_updates=4, holes=0.05 * (seed % 2), vcpus=vcpus)
    round_trip(hv, hv.stub.create(guest), tmp_path / "s")


@each_kind
def test_again_and_again(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    """Restored, unpaused, writing again; saved live again, restored again."""
    domid = hv.stub.create(PV[kind](mem="8M", writes=50, pt_updates=2))
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
