"""The end of a live save in one call: the same stream, the same report and the same errors as step by step."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from support.by_calls import go_by_calls
from support.judge import judge_rules
from support.pages import data_pages
from support.same import check_same

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.interface import results
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.report import SaveReport
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import TscInfo, frame
from pyxcsr.switches import VARIABLE
from pyxcsr.transfer import ending
from pyxcsr.transfer.save import save


@pytest.fixture(autouse=True)
def goes_by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    go_by_calls(monkeypatch)


WAYS = ("at once", "step by step")

GUESTS: dict[str, pyxcsr.StubGuest] = {
    "PV": pyxcsr.StubGuest.pv64(mem="16M", seed=3, writer="none"),
    "PV, 4 of 5 vcpus": pyxcsr.StubGuest.pv64(mem="16M", seed=4, writer="none", vcpus=5, offline_vcpus=(2,)),
    "PV, holes": pyxcsr.StubGuest.pv64(mem="16M", seed=5, writer="none", holes=0.2),
    "PV, spare p2m": pyxcsr.StubGuest.pv64(mem="16M", seed=6, writer="none", spare_p2m="64M"),
    "PV, a tree": pyxcsr.StubGuest.pv64(mem="16M", seed=7, writer="none", tree="only"),
    "PV32": pyxcsr.StubGuest.pv32(mem="16M", seed=10, writer="none"),
    "PV32, 3 of 4 vcpus, holes": pyxcsr.StubGuest.pv32(
        mem="16M", seed=11, writer="none", vcpus=4, offline_vcpus=(1,), holes=0.2
    ),
    "PV32, spare p2m": pyxcsr.StubGuest.pv32(mem="16M", seed=12, writer="none", spare_p2m="64M"),
    "PV32, a tree": pyxcsr.StubGuest.pv32(mem="16M", seed=13, writer="none", tree="only"),
    "PVH": pyxcsr.StubGuest.pvh(mem="16M", seed=8, writer="none"),
    "HVM": pyxcsr.StubGuest.hvm(mem="16M", seed=9, writer="none"),
}


def two_passes(stats: PrecopyStats) -> Decision:
    return Decision.CONTINUE if stats.iteration < 2 else Decision.STOP_AND_COPY


class Scene:
    """A guest on a machine of its own, saved by one of the ways. ``moment``: what happens as it suspends."""

    def __init__(self, hv: StubBackend, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hv, self.way = hv, way
        self.reached: list[int] = []
        self.bitmaps: list[tuple[int, int]] = []  # at the suspend and at the end: all, and those fetched as the last
        self.running: Optional[bool] = None  # None: there is no such guest any more
        if way == "at once":
            monkeypatch.delenv(VARIABLE, raising=False)
        else:
            monkeypatch.setenv(VARIABLE, "ending")
        run = ending.Ending.run

        def noted(one: Any, *args: Any) -> int:
            self.reached.append(-1)
            self.reached[-1] = run(one, *args)
            return self.reached[-1]

        monkeypatch.setattr(ending.Ending, "run", noted)
        # each call of Xen's is a tick for the guest, whose registers change with it
        monkeypatch.setattr(ending.Ending, "rehearse", lambda *args: None)

    def save(
        self,
        described: pyxcsr.StubGuest,
        out: Any,
        *,
        moment: Optional[Callable[[Any], None]] = None,
        dirty: int = 60,
        **options: Any,
    ) -> SaveReport:
        """Saves such a guest, which has dirtied some pages, live. It is suspended unless ``moment`` prevents that."""
        self.domid = self.hv.stub.create(described)
        guest = self.guest = self.hv.stub.guest(self.domid)
        pfns = data_pages(guest, dirty)

        def suspend() -> None:
            for pfn in pfns:
                guest.write_page(pfn, pfn.to_bytes(8, "little"))
            guest.shut_down(2)
            self._note_bitmaps()
            if moment is not None:
                moment(guest)

        suspends = options.pop("suspend", suspend)
        report = save(self.hv, self.domid, out, policy=two_passes, suspend=suspends, map_ahead=False, **options)
        self._note_bitmaps()
        return report

    def _note_bitmaps(self) -> None:
        state = self.guest.state()
        self.bitmaps.append((state.bitmaps, state.final_bitmaps))


def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Scene, Path], Any]) -> list[Any]:
    """What ``act`` returns, or the error that it raises, for each way, each on a new machine."""
    found: list[Any] = []
    for way in WAYS:
        with pyxcsr.open_hypervisor("stub") as hv, monkeypatch.context() as patched:
            hv.stub.reset()
            scene = Scene(hv, way, patched)
            try:
                found.append(act(scene, tmp_path / way))
            except pyxcsr.XcsrError as error:
                found.append(error)
            found.append(scene)
            if scene.domid in hv.stub.domains:
                scene.running = scene.guest.running
                hv.stub.destroy(scene.domid)
            assert hv.stub.leaks() == {}
    return found


def facts(error: Any) -> tuple[Any, ...]:
    return type(error), str(error), {k: v for k, v in vars(error).items() if not k.startswith("_")}


def stream_of(path: Path) -> list[bytes]:
    """Its records, but for how long the guest's clock has run: a tick passes with each call of Xen's."""
    with open(path, "rb") as stream:
        read = [TscInfo(x.mode, x.khz, 0, x.incarnation) if isinstance(x, TscInfo) else x for x in StreamReader(stream)]
    return [frame(x) for x in read]


def without_times(report: SaveReport) -> dict[str, Any]:
    told = report.to_dict()
    told.pop("predicted_pause")

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            times = ("began", "predicted_pause")
            return {k: plain(v) for k, v in value.items() if "second" not in k and k not in times}
        return [plain(x) for x in value] if isinstance(value, list) else value

    return dict(plain(told))


# -- the same stream and report


@pytest.mark.parametrize("changes", ["follow", "abort"])
@pytest.mark.parametrize("name", GUESTS)
def test_the_same_stream(name: str, changes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(scene: Scene, path: Path) -> dict[str, Any]:
        with open(path, "wb") as out:
            return without_times(scene.save(GUESTS[name], out, p2m_changes=changes))

    report, at_once, other, steps = both(tmp_path, monkeypatch, act)
    assert not isinstance(report, Exception), report
    assert report == other and report["passes"][-1]["pages"] >= 60
    # a tree is walked after each bitmap, if it is followed
    expected = [] if name.endswith("a tree") and changes == "follow" else [results.COMPLETE]
    assert (at_once.reached, steps.reached) == (expected, [])
    assert (at_once.bitmaps, steps.bitmaps) == ([(1, 0), (2, 1)],) * 2
    check_same(stream_of(tmp_path / "at once"), stream_of(tmp_path / "step by step"))
    judge_rules(tmp_path / "at once", xen=True)


@pytest.mark.parametrize("name", ["PV", "PV32", "PVH"])
def test_nothing_dirty(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(scene: Scene, path: Path) -> int:
        with open(path, "wb") as out:
            return scene.save(GUESTS[name], out, suspend=lambda: scene.guest.shut_down(2)).passes[-1].dirty

    found = both(tmp_path, monkeypatch, act)
    assert found[0] == found[2] and found[1].reached == [results.COMPLETE]
    check_same(stream_of(tmp_path / "at once"), stream_of(tmp_path / "step by step"))


def test_a_slow_output_is_waited_for_and_others_are_served_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the last pass goes past the reader; then it takes nothing for a while."""

    def act(scene: Scene, path: Path) -> tuple[int, list[str]]:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        go_on, phases = threading.Event(), []
        polls: list[int] = []

        def read() -> None:
            with open(path, "wb") as out:
                while data := theirs.recv(1 << 16):
                    go_on.wait()
                    out.write(data)

        def cancel() -> bool:
            polls.append(scene.guest.suspended)
            if sum(polls) > 6:
                go_on.set()
            return False

        def moment(_guest: Any) -> None:
            go_on.clear()

        reader = threading.Thread(target=read)
        go_on.set()
        reader.start()
        try:
            report = scene.save(GUESTS["PV"], ours.fileno(), dirty=700, moment=moment, cancel=cancel,
                                progress=lambda x: phases.append(x.phase))  # fmt: skip
        finally:
            go_on.set()
            ours.close()
            reader.join()
            theirs.close()
        assert sum(polls) > 6
        return report.bytes, sorted(set(phases))

    size, at_once, other, _ = both(tmp_path, monkeypatch, act)
    assert size == other and at_once.reached == [results.COMPLETE]
    check_same(stream_of(tmp_path / "at once"), stream_of(tmp_path / "step by step"))


# -- the same errors, and the guest goes on


def cancelled_in_the_midst(scene: Scene, path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    drained = threading.Event()

    def read() -> None:
        while not drained.is_set() and theirs.recv(1 << 16):
            pass

    reader = threading.Thread(target=read)
    reader.start()

    polls: list[int] = []

    def cancel() -> bool:
        polls.append(drained.is_set())
        return sum(polls) > 4

    try:
        scene.save(GUESTS["PV"], ours.fileno(), dirty=1500, moment=lambda _: drained.set(), cancel=cancel)
    finally:
        drained.set()
        ours.close()
        reader.join()
        theirs.close()


def reader_gone(scene: Scene, path: Path) -> None:
    ours, theirs = socket.socketpair()
    gone = threading.Event()

    def read() -> None:
        while theirs.recv(1 << 20):
            if gone.is_set():
                break

    reader = threading.Thread(target=read)
    reader.start()

    def moment(_guest: Any) -> None:
        gone.set()
        theirs.shutdown(socket.SHUT_RDWR)

    try:
        scene.save(GUESTS["PV"], ours.fileno(), moment=moment)
    finally:
        ours.close()
        reader.join()
        theirs.close()


def at_moment(name: str, moment: Callable[[Any], None], **options: Any) -> Callable[[Scene, Path], None]:
    def act(scene: Scene, path: Path) -> None:
        with open(path, "wb") as out:
            scene.save(GUESTS[name], out, moment=moment, **options)

    return act


def not_suspended(scene: Scene, path: Path) -> None:
    with open(path, "wb") as out:
        scene.save(GUESTS["PV"], out, suspend=lambda: None)


def failing(function: str, nth: int, name: str = "PV") -> Callable[[Scene, Path], None]:
    """The n-th call of a function, from the suspend on, fails."""

    def act(scene: Scene, path: Path) -> None:
        try:
            at_moment(name, lambda _: scene.hv.stub.fail(function, nth))(scene, path)
        finally:
            scene.hv.stub.clear_failures()

    return act


def resumed_at(function: str, nth: int) -> Callable[[Scene, Path], None]:
    """Somebody resumes the guest as that function is called for the n-th time since the suspend."""

    def act(scene: Scene, path: Path) -> None:
        seen: list[int] = []

        def hook(name: str, _count: int) -> None:
            if name == function and scene.guest.suspended:
                seen.append(1)
                if len(seen) == nth:
                    with pyxcsr.open_hypervisor("stub") as other:
                        other.domain_resume(scene.domid)

        with scene.hv.stub.hook(hook):
            at_moment("PV", lambda _: None)(scene, path)

    return act


ERRORS: dict[str, tuple[Callable[[Scene, Path], None], type[Exception]]] = {
    "not suspended": (not_suspended, pyxcsr.SuspendError),
    "destroyed": (at_moment("PV", lambda g: g.destroy()), pyxcsr.DomainDying),
    "generation": (at_moment("PV", lambda g: g.bump_generation(2), p2m_changes="abort"), pyxcsr.P2mChanged),
    "generation is odd": (at_moment("PV", lambda g: g.bump_generation(1)), pyxcsr.P2mError),
    "a table's entry": (at_moment("PV", lambda g: g.corrupt_pte(g.pfns_of_type(PageType.L1TAB)[0], 5, 0xFFFFFFFF003)),
                        pyxcsr.PageTableError),
    "PV32: generation": (at_moment("PV32", lambda g: g.bump_generation(2), p2m_changes="abort"), pyxcsr.P2mChanged),
    "PV32: generation is odd": (at_moment("PV32", lambda g: g.bump_generation(1)), pyxcsr.P2mError),
    "PV32: a table's entry": (at_moment("PV32", lambda g: g.corrupt_pte(g.pfns_of_type(PageType.L1TAB)[0], 5,
                                        0xFFFFFFFF003)), pyxcsr.PageTableError),
    "PV32: a vcpu's cr3": (at_moment("PV32", lambda g: g.poke_vcpu(0, "cr3", 0xFFFFF000)), pyxcsr.GuestStateError),
    "PV32: no bitmap": (failing("xc_logdirty_control", 1, "PV32"), pyxcsr.HypervisorError),
    "PV32: no vcpu": (failing("xc_vcpu_getcontext", 1, "PV32"), pyxcsr.HypervisorError),
    "PV32: no facts, last": (failing("xc_domain_getinfolist", 2, "PV32"), pyxcsr.HypervisorError),
    "a vcpu's cr3": (at_moment("PV", lambda g: g.poke_vcpu(0, "cr3", 0xFFFFFFFF000)), pyxcsr.GuestStateError),
    "vcpu 0 is offline": (at_moment("PV", lambda g: g.poke_vcpu(0, "online", 0)), pyxcsr.GuestStateError),
    "no bitmap": (failing("xc_logdirty_control", 1), pyxcsr.HypervisorError),
    "no types": (failing("xc_get_pfn_type_batch", 1), pyxcsr.HypervisorError),
    "no mapping": (failing("xenforeignmemory_map", 1), pyxcsr.HypervisorError),
    "no TSC": (failing("xc_domain_get_tsc_info", 1), pyxcsr.HypervisorError),
    "no vcpu": (failing("xc_vcpu_getcontext", 1), pyxcsr.HypervisorError),
    "no facts, first": (failing("xc_domain_getinfolist", 1), pyxcsr.HypervisorError),
    "no facts, last": (failing("xc_domain_getinfolist", 2), pyxcsr.HypervisorError),
    "PVH: no facts": (failing("xc_domain_getinfolist", 2, "PVH"), pyxcsr.HypervisorError),
    "PVH: no gfns": (failing("xc_domain_nr_gpfns", 1, "PVH"), pyxcsr.HypervisorError),
    "PVH: no context": (failing("xc_domain_hvm_getcontext", 2, "PVH"), pyxcsr.HypervisorError),
    "PVH: no parameter": (failing("xc_hvm_param_get", 3, "PVH"), pyxcsr.HypervisorError),
    "PVH: a wrong parameter": (at_moment("PVH", lambda g: g.poke_param(12, 0x1234)), pyxcsr.GuestStateError),
    "resumed in the state": (resumed_at("xc_vcpu_getcontext", 1), pyxcsr.SuspendError),
    "the reader has gone": (reader_gone, pyxcsr.OutputError),
    "cancelled": (cancelled_in_the_midst, pyxcsr.Cancelled),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_the_same_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act, kind = ERRORS[name]
    error, at_once, other, steps = both(tmp_path, monkeypatch, act)
    assert isinstance(error, kind) and type(error) is type(other), (error, other)
    if name not in ("the reader has gone", "cancelled"):  # where these happen depends on how fast the other end is
        assert facts(error) == facts(other)
    assert len(at_once.reached) == 1 and not steps.reached
    assert at_once.running == steps.running


# -- where the guest is not as it was, the save goes on step by step


DIFFERENCES: dict[str, tuple[str, Callable[[Any], object], int, dict[str, Any]]] = {
    "announced": ("PV", lambda g: g.bump_generation(2), results.FETCHED, {}),
    "moved": ("PV", lambda g: g.move_p2m(0xFFFFC91000000000, True), results.FETCHED, {}),
    "a leaf": ("PV", lambda g: g.replace_leaf(1), results.FETCHED, {}),
    "larger": ("PV", lambda g: g.resize_p2m(g.nr_pfns + 600), results.FETCHED, {}),
    "PV32: announced": ("PV32", lambda g: g.bump_generation(2), results.FETCHED, {}),
    "PV32: moved": ("PV32", lambda g: g.move_p2m(0x50000000, True), results.FETCHED, {}),
    "PV32: a leaf": ("PV32", lambda g: g.replace_leaf(1), results.FETCHED, {}),
    "PV32: larger": ("PV32", lambda g: g.resize_p2m(g.nr_pfns + 600), results.FETCHED, {}),
    "a page less": ("PVH", lambda g: g.balloon_out(data_pages(g, 3)), results.FETCHED, {}),
    "a parameter": ("PVH", lambda g: g.poke_param(19, 1), results.SENT, {}),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_it_goes_on_from_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, moment, reached, options = DIFFERENCES[name]

    def act(scene: Scene, path: Path) -> dict[str, Any]:
        with open(path, "wb") as out:
            return without_times(scene.save(GUESTS[guest], out, moment=moment, **options))  # type: ignore[arg-type]

    report, at_once, other, _ = both(tmp_path, monkeypatch, act)
    assert not isinstance(report, Exception), report
    assert at_once.reached == [reached]
    assert report == other
    check_same(stream_of(tmp_path / "at once"), stream_of(tmp_path / "step by step"))
    judge_rules(tmp_path / "at once", xen=True)


@pytest.mark.parametrize("name", ["PV", "PV32", "PVH"])
def test_too_little_room_for_the_state(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyxcsr.guest.pv.save.STATE_ROOM", 1000)
    monkeypatch.setattr("pyxcsr.guest.hvm.save.STATE_ROOM", -1000)

    def act(scene: Scene, path: Path) -> dict[str, Any]:
        with open(path, "wb") as out:
            return without_times(scene.save(GUESTS[name], out))

    report, at_once, other, _ = both(tmp_path, monkeypatch, act)
    assert report == other and at_once.reached == [results.SENT]
    check_same(stream_of(tmp_path / "at once"), stream_of(tmp_path / "step by step"))


def test_a_wrong_plan_is_refused(hv: StubBackend) -> None:
    from pyxcsr.hypervisor.interface.ending import EndPlan

    domid = hv.stub.create(GUESTS["PVH"])
    handle = hv.new_save(domid, hv.nr_gpfns(domid), None)
    shared = hv.map_frames(domid, [0])
    plain = EndPlan(None, (), 0, (), 0, (), (), 0, 0, b"", b"", 4096)
    handle.prepare_end(plain)
    for wrong in (
        plain._replace(shared_info=shared),
        plain._replace(words=[(0, 8, 0)]),
        plain._replace(nr_kept=1),
    ):
        with pytest.raises(pyxcsr.HypervisorError, match="the plan"):
            handle.prepare_end(wrong)
    with open(os.devnull, "wb") as null:
        sink = hv.open_sink(null.fileno())
        with pytest.raises(pyxcsr.HypervisorError, match="not prepared"):
            handle.end(sink, lambda: None)
        sink.close()
    shared.close()
    handle.close()
