"""What a save expects of the pause, against what the pause is: by calls and pages, which no busy machine changes."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.by_calls import ENDLESS
from support.judge import judge_rules
from support.pages import data_pages

import pyxcsr
from pyxcsr.guest.pv.save import PvSaveOps
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.report import SaveReport
from pyxcsr.switches import ENDING, VARIABLE
from pyxcsr.transfer import ending, outlook
from pyxcsr.transfer.costs import HANDFUL, Costs
from pyxcsr.transfer.save import save

pytestmark = pytest.mark.paths

GUESTS: dict[str, pyxcsr.StubGuest] = {
    "PV": pyxcsr.StubGuest.pv64(mem="16M", seed=3, writer="none"),
    "PV, 32 bits": pyxcsr.StubGuest.pv32(mem="16M", seed=3, writer="none"),
    "PV, 5 vcpus": pyxcsr.StubGuest.pv64(mem="16M", seed=4, writer="none", vcpus=5, offline_vcpus=(2,)),
    "PVH": pyxcsr.StubGuest.pvh(mem="16M", seed=8, writer="none"),
    "HVM": pyxcsr.StubGuest.hvm(mem="16M", seed=9, writer="none"),
}

OF_PAGES = {"xc_get_pfn_type_batch", "xenforeignmemory_map", "xenforeignmemory_unmap"}
OF_BITMAP = {"xc_logdirty_control"}
ONLY_IF_FETCHED = {"xc_shadow_control"}
"""Asked to learn whether log-dirty mode has lasted."""


@contextmanager
def pipe_to_nowhere() -> Iterator[Any]:
    """Whose reader throws away what comes."""
    reads, writes = os.pipe()

    def drain() -> None:
        while os.read(reads, 1 << 20):
            pass

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        with open(writes, "wb", buffering=0) as out:
            yield out
    finally:
        reader.join()
        os.close(reads)


def writing(one: Any, pfns: list[int]) -> Any:
    """Three passes; then the guest writes these, and is suspended."""

    def policy(stats: PrecopyStats) -> Decision:
        if stats.iteration < 3 or stats.dirty_count is not None:
            return Decision.CONTINUE
        for pfn in pfns:
            one.write_page(pfn, b"once more")
        assert stats.dirty_now is not None
        return Decision.STOP_AND_COPY

    return policy


def passes(count: int) -> Any:
    def policy(stats: PrecopyStats) -> Decision:
        return Decision.CONTINUE if stats.iteration < count else Decision.STOP_AND_COPY

    return policy


class Scene:
    """A save whose calls of Xen's are counted: in the rehearsal of its end, and from the suspend on."""

    def __init__(self, hv: StubBackend, guest: pyxcsr.StubGuest, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hv, self.domid = hv, hv.stub.create(guest)
        self.rehearsed: Counter[str] = Counter()
        self.real: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        rehearse, run = ending.Ending.rehearse, ending.Ending.run

        def counted(what: Any, to: Counter[str]) -> Any:
            def call(one: Any, *args: Any) -> Any:
                self._now = to
                try:
                    return what(one, *args)
                finally:
                    self._now = Counter()

            return call

        monkeypatch.setattr(ending.Ending, "rehearse", counted(rehearse, self.rehearsed))
        monkeypatch.setattr(ending.Ending, "run", counted(run, self.real))

    def save(self, **options: Any) -> SaveReport:
        def called(name: str, _count: int) -> None:
            self._now[name] += 1

        suspend = options.pop("suspend", lambda: self.hv.stub.guest(self.domid).shut_down(2))
        to_pipe = options.pop("to_pipe", False)
        with pipe_to_nowhere() if to_pipe else open(os.devnull, "wb") as out, self.hv.stub.hook(called):
            return save(self.hv, self.domid, out, suspend=suspend, map_ahead=False, **options)


@pytest.mark.parametrize("nr_passes", [1, 2, outlook.FETCHES + 1])
@pytest.mark.parametrize("name", GUESTS)
def test_the_rehearsal_makes_the_calls_that_the_end_makes(
    name: str, nr_passes: int, hv: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for those of pages, and of the bitmap if it is known from earlier ones how long it takes."""
    scene = Scene(hv, GUESTS[name], monkeypatch)
    monkeypatch.setattr(outlook.Outlook, "pages_to_try", lambda one, nr_pfns: 0)
    monkeypatch.setattr(outlook, "SHORT", ENDLESS)
    scene.save(policy=passes(nr_passes))
    known = ONLY_IF_FETCHED | (OF_BITMAP if nr_passes > outlook.FETCHES else set())
    assert scene.real.keys() >= OF_BITMAP and scene.real["xc_domain_getinfolist"] >= 2
    if name == "HVM":  # only the size is asked: reading the context moves the guest's PM timer on
        assert scene.real.pop("xc_domain_hvm_getcontext") == 2 * scene.rehearsed.pop("xc_domain_hvm_getcontext") == 2
    assert scene.rehearsed == Counter({x: n for x, n in scene.real.items() if x not in OF_PAGES | known})


@pytest.mark.parametrize("without", ["", ENDING])
@pytest.mark.parametrize(("kind", "calls"), [("HVM", 1), ("PVH", 2)])
def test_the_context_of_a_guest_with_a_pm_timer_is_not_read_while_it_runs(
    kind: str, calls: int, without: str, hv: StubBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of each rehearsal there is one call, for its size. PVH guests have no such timer."""
    monkeypatch.setenv(VARIABLE, without)
    domid = hv.stub.create(GUESTS[kind])
    seen: Counter[bool] = Counter()

    def called(name: str, _count: int) -> None:
        if name == "xc_domain_hvm_getcontext":
            seen[hv.stub.guest(domid).running] += 1

    with open(tmp_path / "s", "wb") as out, hv.stub.hook(called):
        save(hv, domid, out, policy=passes(2))
    assert seen == {True: calls * (1 if without else 2), False: 2}
    judge_rules(tmp_path / "s")


def test_a_rehearsal_that_fails_changes_nothing(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(hv, GUESTS["PVH"], monkeypatch)
    rehearse = ending.Ending.rehearse

    def failing(one: Any, *args: Any) -> bool:
        hv.stub.fail("xc_domain_hvm_getcontext", 1)
        done = rehearse(one, *args)
        hv.stub.clear_failures()
        assert not done
        return done

    monkeypatch.setattr(ending.Ending, "rehearse", failing)
    assert scene.save(policy=passes(2)).seconds_paused > 0
    assert scene.real["xc_domain_hvm_getcontext"] == 2


@pytest.mark.parametrize("name", GUESTS)
def test_a_rehearsal_that_is_given_up_is_no_part_of_the_end(
    name: str, hv: StubBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All that the guest has dirtied goes out in the last pass."""
    given_up = []

    def half_way(one: Any, *args: Any) -> None:
        def give_up() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            one._save.rehearse_end(give_up, *args[1:])
        given_up.append(one)

    monkeypatch.setattr(ending.Ending, "rehearse", half_way)
    domid = hv.stub.create(GUESTS[name])
    guest = hv.stub.guest(domid)

    def suspend() -> None:
        for pfn in data_pages(guest, 60):
            guest.write_page(pfn, pfn.to_bytes(8, "little"))
        guest.shut_down(2)

    with open(tmp_path / "s", "wb") as out:
        report = save(hv, domid, out, policy=passes(2), suspend=suspend)
    assert given_up and report.passes[-1].pages >= 60
    judge_rules(tmp_path / "s")
    pfns = guest.pfns_with_memory()
    with pyxcsr.MemoryImage(tmp_path / "s") as image:
        assert [image.page(x) for x in pfns] == guest.expected_pages(pfns)


@pytest.mark.parametrize("without", ["", ENDING])
@pytest.mark.parametrize("name", ["PV", "PV, 32 bits", "PV, 5 vcpus"])
def test_vcpu_0_is_offline_while_the_end_is_rehearsed(
    name: str, without: str, hv: StubBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The guest takes it up again before it suspends, and that is all that a save needs."""
    monkeypatch.setenv(VARIABLE, without)
    domid = hv.stub.create(GUESTS[name])
    guest = hv.stub.guest(domid)
    rehearsed: list[int] = []
    rehearse = PvSaveOps.rehearse

    def offline(ops: PvSaveOps, handle: Any) -> None:
        guest.poke_vcpu(0, "online", 0)
        rehearsed.append(domid)
        rehearse(ops, handle)

    def suspend() -> None:
        guest.poke_vcpu(0, "online", 1)
        guest.shut_down(2)

    monkeypatch.setattr(PvSaveOps, "rehearse", offline)
    with open(tmp_path / "s", "wb") as out:
        save(hv, domid, out, policy=passes(2), suspend=suspend)
    assert rehearsed == [domid]
    judge_rules(tmp_path / "s")


def test_what_stops_a_save_in_its_rehearsal(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is no refusal of Xen's that the rehearsal has met."""
    rehearses = []
    rehearse = ending.Ending.rehearse

    def noted(one: Any, *args: Any) -> Any:
        rehearses.append(one)
        try:
            return rehearse(one, *args)
        finally:
            rehearses.clear()

    def cancel() -> bool:
        if rehearses:
            raise pyxcsr.HypervisorError("who looks after this save has lost Xen", op="cancel", errno=errno.EIO)
        return False

    monkeypatch.setattr(ending.Ending, "rehearse", noted)
    domid = hv.stub.create(GUESTS["PVH"])
    with open(os.devnull, "wb") as out, pytest.raises(pyxcsr.HypervisorError, match="has lost Xen"):
        save(hv, domid, out, policy=passes(2), cancel=cancel)
    state = hv.stub.guest(domid).state()
    assert not hv.domain_info(domid).shutdown and not state.logdirty


@pytest.mark.parametrize("guest", ["PV", "PVH"])
@pytest.mark.parametrize("written", [0, 1, 60, 700])
def test_the_pages_of_the_pause(
    guest: str, written: int, hv: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With passes that cost a second for a page, and nothing else, the prediction is a number of pages."""
    monkeypatch.setattr(Costs, "page", lambda self, pages: 1.0)
    monkeypatch.setattr(outlook.Outlook, "_fixed", lambda self, pages: 0.0)
    # what it has written was written in no time: nothing is expected to come besides
    monkeypatch.setattr(outlook.Outlook, "_rate", lambda self, dirty, at: setattr(self, "dirty_rate", 0.0))
    scene = Scene(hv, GUESTS[guest], monkeypatch)
    one = hv.stub.guest(scene.domid)
    pfns = data_pages(one, written)[:written] if written else []

    report = scene.save(policy=writing(one, pfns))
    now = report.passes[-1].dirty
    assert report.predicted_pause == pytest.approx(now, abs=4) and now >= written


class Trials:
    """What trials of pages have told, of guests that do nothing while they are saved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages: list[int] = []
        self.seconds: list[float] = []
        monkeypatch.setattr(outlook.Outlook, "_rate", lambda one, dirty, at: setattr(one, "dirty_rate", 0.0))
        monkeypatch.setattr(outlook.Outlook, "tried", self._tried)

    def _tried(self, pages: int, seconds: float) -> None:
        self.pages.append(pages)
        self.seconds.append(seconds)


@pytest.mark.parametrize("to_pipe", [False, True])
@pytest.mark.parametrize("guest", GUESTS)
def test_a_handful_of_pages_is_tried(
    guest: str, to_pipe: bool, hv: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the rehearsal, by the calls of a pass; nothing is left of it."""
    trials, scene = Trials(monkeypatch), Scene(hv, GUESTS[guest], monkeypatch)
    one, files = hv.stub.guest(scene.domid), len(os.listdir("/proc/self/fd"))
    report = scene.save(policy=writing(one, data_pages(one, 20)[:20]), to_pipe=to_pipe)
    assert [scene.rehearsed[x] for x in sorted(OF_PAGES)] == [1, 1, 1]
    assert len(trials.pages) == 1 and 20 <= trials.pages[0] <= report.passes[-1].dirty + outlook.OWN
    assert 0 < trials.seconds[0] < 60 and len(os.listdir("/proc/self/fd")) <= files
    assert hv.stub.usage()["mapped_pages"] == 0


@pytest.mark.parametrize("written", [0, 200])
def test_where_no_page_is_tried(written: int, hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an idle guest there is hardly a page to send; of a busy one a handful tells nothing."""
    trials, scene = Trials(monkeypatch), Scene(hv, GUESTS["PV"], monkeypatch)
    one = hv.stub.guest(scene.domid)
    scene.save(policy=writing(one, data_pages(one, written)[:written] if written else []))
    assert trials.pages == [0] and not OF_PAGES & scene.rehearsed.keys()


@pytest.mark.parametrize("hvm", [False, True])
def test_no_hole_is_tried(hvm: bool, hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    make = pyxcsr.StubGuest.pvh if hvm else pyxcsr.StubGuest.pv64
    trials = Trials(monkeypatch)
    scene = Scene(hv, make(mem="16M", seed=5, writer="none", holes=0.5), monkeypatch)
    one = hv.stub.guest(scene.domid)
    report = scene.save(policy=writing(one, data_pages(one, 40)[:40]))
    assert len(trials.pages) == 1 and 40 <= trials.pages[0] <= report.passes[-1].dirty + outlook.OWN


@pytest.mark.parametrize("call", sorted(OF_PAGES - {"xenforeignmemory_unmap"}))
def test_a_trial_that_fails_changes_nothing(call: str, hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    trials, scene = Trials(monkeypatch), Scene(hv, GUESTS["PV"], monkeypatch)
    rehearse, one = ending.Ending.rehearse, hv.stub.guest(scene.domid)

    def failing(which: Any, *args: Any) -> Any:
        hv.stub.fail(call, 1)
        done = rehearse(which, *args)
        hv.stub.clear_failures()
        assert done is None
        return done

    monkeypatch.setattr(ending.Ending, "rehearse", failing)
    report = scene.save(policy=writing(one, data_pages(one, 20)[:20]))
    assert trials.pages == [] and report.passes[-1].pages >= 20 and scene.real["xenforeignmemory_map"] > 0
    assert hv.stub.usage()["mapped_pages"] == 0


def test_both_sides_mean_the_same_handful(hv: StubBackend) -> None:
    assert hv._lib.XCSR_TRIAL == HANDFUL
