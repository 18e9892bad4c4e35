"""Whole saves on the stub, judged by the guest's true memory."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge, judge_pages, records, save_to

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.hypervisor import state
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import Decision, PrecopyStats, SimplePolicy
from pyxcsr.report import Progress
from pyxcsr.stream.records import PageData
from pyxcsr.transfer.save import save
from pyxcsr.transfer.saver import LEFT_ON

GUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smp": {"vcpus": 8, "offline_vcpus": (2, 5)},
    "holes": {"holes": 0.3},
    "unaligned list": {"p2m_vaddr": 0xFFFFC90012345000},
    "list across L2 entries": {"mem": "40M", "p2m_vaddr": 0xFFFFC9003FFEF000},
    "spare p2m, shared": {"mem": "24M", "spare_p2m": "1G"},
    "spare p2m, own pages": {"spare_p2m": "64M", "share_invalid": False},
    "both": {"tree": "both"},
    "tree only": {"tree": "only"},
    "no xsave": {"xsave": 0, "msrs": 0},
    "busy tables": {"pt_updates": 12, "writes": 200},
    "odd size": {"mem": 4096 * 4099},
}


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("name", GUESTS)
def test_guests(hv: StubBackend, tmp_path: Path, name: str, live: bool) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(**{"mem": "16M", "seed": 7, **GUESTS[name]}))
    report = save_to(hv, domid, tmp_path / "s", live=live)
    judge(hv, domid, tmp_path / "s")
    assert report.live is live
    assert report.passes[-1].suspended
    assert report.bytes == (tmp_path / "s").stat().st_size
    assert report.deferred_at_end == 0
    assert len(report.passes) == 1 if not live else len(report.passes) > 1


@pytest.mark.parametrize("seed", range(20))
def test_no_dirty_page_is_lost(hv: StubBackend, tmp_path: Path, seed: int) -> None:
    guest = pyxcsr.StubGuest.pv64(mem="12M", seed=seed, writes=40, pt_updates=4, holes=0.05, vcpus=2)
    domid = hv.stub.create(guest)
    save_to(hv, domid, tmp_path / "s")
    judge(hv, domid, tmp_path / "s", xen=seed < 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_guest_that_writes_at_the_same_time(hv: StubBackend, tmp_path: Path, seed: int) -> None:
    guest = pyxcsr.StubGuest.pv64(mem="48M", seed=seed, writer="thread", rate=50000, pt_updates=8)
    domid = hv.stub.create(guest)
    report = save_to(hv, domid, tmp_path / "s")
    judge(hv, domid, tmp_path / "s")
    assert sum(x.dirty for x in report.passes[1:]) > 0, "the guest wrote nothing: this test tests nothing"


def test_a_guest_of_several_gib_of_p2m(hv: StubBackend, tmp_path: Path) -> None:
    """More than one L2 entry's worth of list (1 GiB of memory each), at an address that is not 1 GiB aligned.

    A saver that mixes relative and absolute indices loses the tail here.
    """
    hv.stub.reset(frames=1 << 21)
    guest = pyxcsr.StubGuest.pv64(mem="32M", span="2560M", p2m_vaddr=0xFFFFC90000200000 * 1)
    domid = hv.stub.create(guest)
    report = save_to(hv, domid, tmp_path / "s", live=False)
    assert report.nr_pfns == hv.stub.guest(domid).nr_pfns
    judge(hv, domid, tmp_path / "s", xen=False)


def test_every_pfn_is_sent_and_holes_only_once(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", holes=0.5, writes=4))
    report = save_to(hv, domid, tmp_path / "s")
    with open(tmp_path / "s", "rb") as stream:
        sent: dict[int, int] = {}
        for record in pyxcsr.StreamReader(stream):
            if isinstance(record, PageData):
                for pfn, kind, _ in record.items():
                    sent[pfn] = sent.get(pfn, 0) + (kind == PageType.XTAB)
    assert set(sent) == set(range(report.nr_pfns))
    have = set(hv.stub.guest(domid).pfns_with_memory())
    assert all(n == 1 for pfn, n in sent.items() if pfn not in have), "a hole lengthens the pause for nothing"


def test_a_page_deferred_is_sent_once_its_table_is_whole(hv: StubBackend, tmp_path: Path) -> None:
    """A page table that names a frame which is not the guest's, while it runs; the guest repairs it later."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", writes=0, pt_updates=0, fixmap=False))
    guest = hv.stub.guest(domid)
    table = guest.pfns_of_type(PageType.L1TAB)[0]
    old = guest.corrupt_pte(table, 9, 0x67 | 5 << 12)
    assert hv.stub.frame(5)[0] != domid
    cleans = 0

    def repair(name: str, count: int) -> None:
        nonlocal cleans
        cleans += name == "xc_logdirty_control"
        if name == "xc_logdirty_control" and cleans == 1:
            guest.corrupt_pte(table, 9, old)

    with hv.stub.hook(repair):
        report = save_to(hv, domid, tmp_path / "s")
    assert report.passes[0].deferred == 1
    judge(hv, domid, tmp_path / "s")


def test_a_page_that_balloons_in_is_sent(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", holes=0.2, writes=0))
    guest = hv.stub.guest(domid)
    have = set(guest.pfns_with_memory())
    hole = next(x for x in range(guest.nr_pfns) if x not in have)
    seen: list[str] = []

    def balloon(name: str, count: int) -> None:
        if name == "xc_logdirty_control" and not seen:
            seen.append(name)
            guest.balloon_in(hole)

    with hv.stub.hook(balloon):
        save_to(hv, domid, tmp_path / "s")
    assert hole in guest.pfns_with_memory()
    judge(hv, domid, tmp_path / "s")


def test_policy_bounds_the_passes(hv: StubBackend, tmp_path: Path) -> None:
    for most in (1, 2, 7):
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=500))
        report = save_to(hv, domid, tmp_path / f"s{most}", policy=SimplePolicy(most, 0))
        assert len(report.passes) == most + 1
        judge_pages(hv, domid, tmp_path / f"s{most}")


def test_policy_stops_at_few_dirty_pages_and_sends_them_before_the_pause(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=1, pt_updates=0))
    report = save_to(hv, domid, tmp_path / "s", policy=SimplePolicy(50, 100000))
    assert [x.suspended for x in report.passes] == [False, False, True]
    judge_pages(hv, domid, tmp_path / "s")


def test_policy_is_told_the_truth_and_may_abort(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    told: list[PrecopyStats] = []

    def policy(stats: PrecopyStats) -> Decision:
        told.append(stats)
        return Decision.ABORT if len(told) == 4 else Decision.CONTINUE

    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.Cancelled, match="policy"):
        save(hv, domid, out, policy=policy)
    assert [x.iteration for x in told] == [1, 1, 2, 2]
    assert [x.dirty_count is None for x in told] == [True, False, True, False]
    assert told[0].nr_pfns == 2048 and 2040 < told[0].pages_sent <= 2048 and told[0].bytes_sent > 2040 * 4096
    assert hv.stub.guest(domid).running


def test_progress_and_report_agree(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M"))
    seen: list[Progress] = []
    report = save_to(hv, domid, tmp_path / "s", progress=seen.append)
    phases = [x.phase for x in seen]
    assert phases[0] == "setup" and phases[-2:] == ["tail", "done"]
    assert phases.index("pass") < phases.index("suspend") < phases.index("final")
    assert seen[-1].bytes_written == report.bytes
    finals = [x for x in seen if x.phase == "final"]
    assert finals[-1].pages_done == finals[-1].pages_total == report.passes[-1].dirty
    assert all(a.bytes_written <= b.bytes_written for a, b in zip(seen, seen[1:]))
    assert report.to_dict()["pages"] == sum(x.pages for x in report.passes)


def test_order_of_records(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", vcpus=2))
    save_to(hv, domid, tmp_path / "s", live=False)
    vcpu = ["X86_PV_VCPU_BASIC", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS"]
    assert [x.name for x in records(tmp_path / "s")] == [
        "X86_PV_INFO",
        "X86_CPUID_POLICY",
        "X86_MSR_POLICY",
        "STATIC_DATA_END",
        "X86_PV_P2M_FRAMES",
        "X86_TSC_INFO",
        "SHARED_INFO",
        *vcpu,
        *vcpu,
        "END",
    ]


def test_to_a_pipe_and_a_socket(hv: StubBackend, tmp_path: Path) -> None:
    """Small buffers, slow reader: short writes and full outputs all along."""
    for kind in ("pipe", "socket"):
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
        ends = os.pipe() if kind == "pipe" else tuple(x.detach() for x in reversed(socket.socketpair()))
        reader, writer = ends
        path = tmp_path / kind

        def drain(fd: int = reader, into: Path = path) -> None:
            with open(into, "wb") as out:
                while data := os.read(fd, 5001):
                    out.write(data)

        thread = threading.Thread(target=drain)
        thread.start()
        save(hv, domid, writer)
        os.close(writer)
        thread.join()
        os.close(reader)
        judge(hv, domid, path, xen=False)


def test_a_save_after_a_save(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    for n in range(3):
        save_to(hv, domid, tmp_path / f"s{n}")
        judge(hv, domid, tmp_path / f"s{n}", xen=False)
        hv.domain_resume(domid)
        assert hv.stub.guest(domid).running


def test_log_dirty_left_on_by_another(hv: StubBackend, tmp_path: Path) -> None:
    """A saver that was killed leaves log-dirty mode on: the next one begins it anew, and says so."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    other = hv.new_save(domid, 2048, None)
    other.logdirty_enable()
    report = save_to(hv, domid, tmp_path / "s")
    assert report.logdirty_retried and report.warnings == [LEFT_ON]
    judge(hv, domid, tmp_path / "s", xen=False)
    other.close()


@pytest.mark.parametrize("room", [1, 64, 4096, 5300, 9999])
def test_state_that_does_not_fit_at_first(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Whichever record the room ends in."""
    monkeypatch.setattr(state, "PV_STATE_ROOM", room)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", vcpus=3, offline_vcpus=(1,), xsave=840, msrs=3))
    hv._state = hv._ffi.new("char[]", room)
    save_to(hv, domid, tmp_path / "s")
    judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("changes", ["abort", "follow"])
def test_an_unsupported_guest_is_not_suspended_to_find_that_out(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: str
) -> None:
    """And paused or not, what it is told is that."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    monkeypatch.setattr(hv, "domain_width", lambda domid: 2)
    for pause in (False, True):
        if pause:
            hv.domain_pause(domid)
        with pytest.raises(pyxcsr.NotSupported, match="words of 2 bytes"), open(tmp_path / "s", "wb") as out:
            pyxcsr.save(hv, domid, out, live=False, p2m_changes=changes)
        assert not hv.stub.guest(domid).state().shutdown and not (tmp_path / "s").read_bytes()
    hv.domain_unpause(domid)


def begins_of_pages(data: bytes, begin: int) -> list[int]:
    """Where the pages of each PAGE_DATA record begin in a file whose stream begins there."""
    at, found = begin + 40, []  # the image's and the domain's header
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == 1:
            (nr,) = struct.unpack_from("<I", data, at + 8)
            found.append(at + 16 + 8 * nr)
        at += 8 + (length + 7) // 8 * 8
    return found


@pytest.mark.parametrize("before", [0, 24, 4096, 12345])
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_pages_begin_where_those_of_the_file_do(hv: StubBackend, tmp_path: Path, before: int, mode: str) -> None:
    """Wherever the stream begins in the file, but for an odd place; the last record of a pass has what is left."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="20M", holes=0.2, writes=300))
    path = tmp_path / "s"
    path.write_bytes(bytes(before))
    with open(path, mode) as out:
        out.seek(before)
        save(hv, domid, out)
    data = path.read_bytes()
    (tmp_path / "alone").write_bytes(data[before:])
    judge(hv, domid, tmp_path / "alone")
    begins = begins_of_pages(data, before)
    assert len(begins) > 6
    aligned = [x % 4096 for x in begins[:5]]
    assert aligned == [before % 8] * 5
