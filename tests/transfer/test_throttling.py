"""Saves with `throttle`: a guest that writes too fast gets less processor time, and all of it back on every way out."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import judge as judges
from support.judge import judge

import pyxcsr
from pyxcsr.cli.show import summary
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policies import adaptive
from pyxcsr.report import Progress
from pyxcsr.transfer import cap
from pyxcsr.transfer.cap import read_record
from pyxcsr.transfer.throttle import Throttle
from pyxcsr.transfer.throttling import Throttling

BUSY = pyxcsr.StubGuest.pv64(mem="8M", writes=300, pt_updates=2, seed=3, vcpus=2)
HOPELESS: dict[str, Any] = {"throttle": True, "max_downtime": "1us"}
SCHEDULERS = ("credit2", "credit")


def save_to(hv: StubBackend, domid: int, path: Path, **options: Any) -> pyxcsr.SaveReport:
    """By measured rates, as without a policy's name."""
    return judges.save_to(hv, domid, path, **{"policy": None, **options})


@pytest.fixture(params=SCHEDULERS)
def domid(request: pytest.FixtureRequest, hv: StubBackend) -> int:
    hv.stub.reset(scheduler=request.param)
    return hv.stub.create(BUSY)


def cap_of(hv: StubBackend, domid: int) -> int:
    return hv.stub.guest(domid).state().sched_cap


def as_it_was(hv: StubBackend, domid: int, cap: int = 0) -> None:
    assert (cap_of(hv, domid), read_record(hv, domid)) == (cap, None)
    assert not hv.stub.guest(domid).state().logdirty and hv.stub.leaks() == {}


@pytest.mark.parametrize("cap", [0, 120])
def test_step_by_step_and_back_before_it_is_suspended(hv: StubBackend, domid: int, tmp_path: Path, cap: int) -> None:
    hv.set_domain_cap(domid, hv.scheduler(), cap)
    caps: dict[str, list[int]] = {}

    def progress(now: Progress) -> None:
        caps.setdefault(now.phase, []).append(cap_of(hv, domid))

    report = save_to(hv, domid, tmp_path / "s", progress=progress, **HOPELESS)
    running = caps["pass"]
    assert running[0] == cap and min(running) < 0.3 * (cap or 200) and len(set(running)) > 5
    assert [x for x in running[1:] if x] == sorted((x for x in running[1:] if x), reverse=True)
    assert set(caps["final"]) == {cap}
    assert report.throttled == 0.99 and report.policy == "adaptive" and report.warnings == []
    assert "lacked up to 99 % of its processor time" in summary(report)
    as_it_was(hv, domid, cap)
    judge(hv, domid, tmp_path / "s")


def test_it_helps(tmp_path: Path) -> None:
    """The same guest, with and without: fewer pages are left for the last pass over the running guest."""
    left = []
    for throttle in (False, True):
        with pyxcsr.open_hypervisor("stub") as hv:
            assert isinstance(hv, StubBackend)
            hv.stub.reset()
            report = save_to(hv, hv.stub.create(BUSY), tmp_path / "s", max_downtime="1us", throttle=throttle)
            left.append(report.passes[-2].dirty)
    assert left[1] < left[0] / 3


def test_a_guest_that_gives_no_reason_is_left_alone(
    hv: StubBackend, domid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pause is short enough, as nobody has said how long it may be: however slow this machine is just now."""
    monkeypatch.setattr(adaptive, "BEARABLE", 60.0)
    hv.stub.clear_calls()
    report = save_to(hv, domid, tmp_path / "s", throttle=True)
    assert report.throttled == 0.0 and not {x for x in hv.stub.calls() if x.endswith("_set")}
    assert "throttled" not in summary(report)
    monkeypatch.setattr(adaptive, "BEARABLE", 0.0)
    assert save_to(hv, hv.stub.create(BUSY), tmp_path / "s", throttle=True).throttled > 0.0
    report = save_to(hv, hv.stub.create(BUSY), tmp_path / "t", max_downtime="1us")
    assert report.throttled == 0.0, "it was not asked for"


def test_it_is_slowed_down_before_the_save_ends(hv: StubBackend, tmp_path: Path) -> None:
    """With abort_if_busy a guest that is busy is, however short its pause would be."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writes=3000, vcpus=2))
    with pytest.raises(pyxcsr.Cancelled, match="abort_if_busy"):
        save_to(hv, domid, tmp_path / "s", abort_if_busy=True)
    hv.stub.clear_calls()
    caps: list[int] = []
    try:
        save_to(hv, domid, tmp_path / "s", abort_if_busy=True, throttle=True,
                progress=lambda now: caps.append(cap_of(hv, domid)))  # fmt: skip
    except pyxcsr.Cancelled as ended:  # it is a busy one indeed
        assert "abort_if_busy" in str(ended) and min(x for x in caps if x) == 2
    assert any(caps)
    as_it_was(hv, domid)


class Boom(Exception):
    """Of a test's."""


@pytest.mark.parametrize("how", ["cancel", "callback", "timeout", "interrupt", "abort"])
def test_it_is_given_back_on_every_way_out(hv: StubBackend, domid: int, tmp_path: Path, how: str) -> None:
    hv.set_domain_cap(domid, hv.scheduler(), 150)
    more: dict[str, Any] = {"timeout": "1h"} if how == "timeout" else {"abort_if_busy": True} if how == "abort" else {}
    limits = pyxcsr.Limits(**HOPELESS, **more)
    lowered = []

    def progress(now: Progress) -> None:
        if cap_of(hv, domid) >= 150 or how == "abort":
            return
        lowered.append(cap_of(hv, domid))
        if how == "timeout":
            limits.timeout = 0.001
        elif how != "cancel":
            raise Boom if how == "callback" else KeyboardInterrupt

    errors = {"callback": Boom, "interrupt": KeyboardInterrupt}
    with pytest.raises(errors.get(how, pyxcsr.Cancelled)):
        save_to(hv, domid, tmp_path / "s", limits=limits, progress=progress, cancel=lambda: bool(lowered))
    assert lowered or how == "abort"
    as_it_was(hv, domid, 150)
    assert hv.stub.guest(domid).running


@pytest.mark.parametrize("scheduler", ["null", "rtds"])
def test_a_scheduler_without_caps_is_refused_at_the_start(hv: StubBackend, tmp_path: Path, scheduler: str) -> None:
    hv.stub.reset(scheduler=scheduler)
    domid = hv.stub.create(BUSY)
    with open(tmp_path / "s", "wb") as out, pytest.raises(pyxcsr.NotSupported, match="no caps") as caught:
        pyxcsr.save(hv, domid, out, throttle=True)
    assert caught.value.untouched and (tmp_path / "s").stat().st_size == 0
    as_it_was(hv, domid)


def test_it_may_be_wished_for_while_the_save_runs(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    limits = pyxcsr.Limits(max_downtime="1us")

    def progress(now: Progress) -> None:
        limits.throttle = now.iteration >= 3

    report = save_to(hv, domid, tmp_path / "s", limits=limits, progress=progress)
    assert report.throttled > 0.5
    as_it_was(hv, domid)


def test_who_switches_it_off_while_the_save_runs_gives_the_time_back(
    hv: StubBackend, domid: int, tmp_path: Path
) -> None:
    """At once, and not only at the end; and it may be switched on again."""
    limits = pyxcsr.Limits(**HOPELESS, max_iterations=9)
    caps: dict[int, int] = {}

    def progress(now: Progress) -> None:
        limits.throttle = now.iteration not in (4, 5)
        if now.phase == "pass":
            caps[now.iteration] = cap_of(hv, domid)

    report = save_to(hv, domid, tmp_path / "s", limits=limits, progress=progress)
    assert 0 < caps[3] < 200 and caps[5] == 0 and 0 < caps[8] < 200, caps
    assert report.warnings == []
    as_it_was(hv, domid)
    judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("function", ["xc_sched_credit2_domain_set", "xs_write"])
def test_a_step_that_fails_does_not_end_the_save(hv: StubBackend, tmp_path: Path, function: str, nth: int) -> None:
    domid = hv.stub.create(BUSY)
    hv.stub.fail(function, nth, errno.EIO)
    report = save_to(hv, domid, tmp_path / "s", **HOPELESS)
    assert report.throttled < 0.9 and any("no more processor time" in x for x in report.warnings)
    hv.stub.clear_failures()
    as_it_was(hv, domid)
    judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("function", ["xc_sched_credit2_domain_set", "xs_write", "xc_sched_credit2_domain_get"])
@pytest.mark.parametrize("nth", [1, 2])
def test_it_is_switched_off_after_a_step_that_failed(hv: StubBackend, function: str, nth: int) -> None:
    """The guest has its time back at once, and not only when it is suspended."""
    domid, limits = hv.stub.create(BUSY), pyxcsr.Limits(throttle=True)
    report = pyxcsr.SaveReport(domid, True)
    throttling = Throttling(hv, domid, limits, report)
    throttling.check()
    hv.stub.clear_calls()
    hv.stub.fail(function, nth, errno.EIO)
    for _ in range(5):
        throttling.step()
    throttling.heed()
    assert (cap_of(hv, domid) != 0) == (nth == 2), "as long as it is wanted"
    limits.throttle = False
    throttling.heed()
    as_it_was(hv, domid)
    limits.throttle = True
    assert not throttling.wanted and not throttling.step(), "there was a warning that no more would be taken"
    assert len(report.warnings) == 1 and "no more processor time" in report.warnings[0]


def test_a_cap_that_somebody_sets_while_it_runs_stays(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    """And it is told; the share that the save has taken is then nobody's."""
    caps: list[int] = []
    shares: list[float] = []

    def progress(now: Progress) -> None:
        if now.iteration == 3 and not caps:
            assert cap_of(hv, domid) < 200
            hv.set_domain_cap(domid, hv.scheduler(), 150)
        if now.iteration >= 3:
            caps.append(cap_of(hv, domid))
            shares.append(now.throttled)

    report = save_to(hv, domid, tmp_path / "s", progress=progress, **HOPELESS)
    assert set(caps) == {150} and shares[-1] == 0.0 and 0.0 < report.throttled < 0.6
    assert len(report.warnings) == 1 and "its cap is 150 now" in report.warnings[0]
    as_it_was(hv, domid, 150)
    judge(hv, domid, tmp_path / "s")


def test_it_cannot_be_given_back(hv: StubBackend, tmp_path: Path) -> None:
    """The stream is complete: a warning. The record stays, for recover."""
    domid = hv.stub.create(BUSY)

    def progress(now: Progress) -> None:
        if now.phase == "suspend":
            hv.stub.fail("xc_sched_credit2_domain_set", 0, errno.EIO)

    report = save_to(hv, domid, tmp_path / "s", progress=progress, **HOPELESS)
    assert any("cap" in x for x in report.warnings) and cap_of(hv, domid) == 2
    hv.stub.clear_failures()
    assert pyxcsr.recover(hv, domid, resume=False).cap == 0
    as_it_was(hv, domid)


@pytest.mark.parametrize("comes_back", [True, False])
def test_whoever_is_told_may_end_this_process(hv: StubBackend, tmp_path: Path, comes_back: bool) -> None:
    """As the save helper does: nothing is tried after that, so the time was given back before, or that is said."""
    domid = hv.stub.create(BUSY)
    told: list[tuple[int, list[str]]] = []

    def progress(now: Progress) -> None:
        if now.phase == "suspend":
            hv.stub.fail("xc_sched_credit2_domain_set", 0, errno.EIO)
        elif now.phase == "tail" and comes_back:
            hv.stub.clear_failures()

    def complete(report: pyxcsr.SaveReport) -> None:
        told.append((cap_of(hv, domid), list(report.warnings)))

    save_to(hv, domid, tmp_path / "s", progress=progress, complete=complete, **HOPELESS)
    hv.stub.clear_failures()
    ((cap, warnings),) = told
    assert (cap == 0 and warnings == []) if comes_back else (cap == 2 and "back" in warnings[0])
    pyxcsr.recover(hv, domid, resume=False)
    as_it_was(hv, domid)


@pytest.mark.parametrize("wrong", [{"throttle": "yes"}, {"throttle": True, "policy": "libxc"},
                                   {"throttle": True, "live": False}])  # fmt: skip
def test_what_does_not_go_together(hv: StubBackend, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(pyxcsr.UsageError, match="throttle"):
        save_to(hv, hv.stub.create(BUSY), tmp_path / "s", **wrong)


PROGRAM = """
import sys, pyxcsr
from pyxcsr.cli.signals import CancelBySignal
cancel = CancelBySignal()
with cancel.installed(), pyxcsr.open_hypervisor("stub") as hv, open("/dev/null", "wb") as out:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=300, vcpus=2))
    state = lambda: hv.stub.guest(domid).state()
    def progress(now):
        if state().sched_cap:
            print(state().sched_cap, flush=True)
    try:
        pyxcsr.save(hv, domid, out, throttle=True, max_downtime="1us", max_iterations=10**6, timeout="10m",
                    bandwidth="40M", cancel=cancel, progress=progress)
    except pyxcsr.Cancelled:
        print("cancelled", state().sched_cap, state().running, state().logdirty)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal(number: signal.Signals) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=environ) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline()) < 200
        child.send_signal(number)
        assert child.stdout.read().splitlines()[-1] == b"cancelled 0 True False"
        assert child.wait(60) == 0


# -- what a killed save has left


def left_behind(hv: StubBackend, domid: int, cap: int) -> None:
    """A cap that was lowered, and its record, as after a SIGKILL."""
    hv.set_domain_cap(domid, hv.scheduler(), cap)
    throttle = Throttle(hv, domid)
    throttle.tighten()
    throttle.tighten()
    assert cap_of(hv, domid) not in (0, cap) and read_record(hv, domid) is not None


@pytest.mark.parametrize("cap", [0, 120])
def test_a_save_without_throttle_puts_it_back(hv: StubBackend, domid: int, tmp_path: Path, cap: int) -> None:
    left_behind(hv, domid, cap)
    caps: list[int] = []
    report = save_to(hv, domid, tmp_path / "s", progress=lambda now: caps.append(cap_of(hv, domid)))
    assert set(caps) == {cap} and report.throttled == 0.0
    assert len(report.warnings) == 1 and f"is put back ({cap or 'none'}, as it was)" in report.warnings[0]
    as_it_was(hv, domid, cap)
    judge(hv, domid, tmp_path / "s")
    hv.domain_resume(domid)
    assert save_to(hv, domid, tmp_path / "s").warnings == [], "it is said once"


def test_a_cap_that_somebody_else_has_set_since_stays(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    left_behind(hv, domid, 0)
    hv.set_domain_cap(domid, hv.scheduler(), 33)
    report = save_to(hv, domid, tmp_path / "s")
    assert len(report.warnings) == 1 and "its cap is 33 now" in report.warnings[0]
    as_it_was(hv, domid, 33)


@pytest.mark.parametrize("function", ["xs_read", "xs_write", "cap"])
def test_it_cannot_be_put_back(
    hv: StubBackend, domid: int, tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That ends no save which would have succeeded without it; recover can do it later."""
    left_behind(hv, domid, 120)
    name = {"credit2": "xc_sched_credit2_domain_set", "credit": "xc_sched_credit_domain_set"}[hv.scheduler()]
    if function == "xs_read":

        def unknown(hv: StubBackend, domid: int) -> None:
            raise pyxcsr.HypervisorError("xs_read: Input/output error", op="xs_read", errno=errno.EIO)

        monkeypatch.setattr(cap, "read_record", unknown)
    else:
        hv.stub.fail(name if function == "cap" else function, 1, errno.EIO)
    report = save_to(hv, domid, tmp_path / "s")
    monkeypatch.undo()
    assert len(report.warnings) == 1 and "if a killed save has left a cap, it stays" in report.warnings[0]
    judge(hv, domid, tmp_path / "s")
    pyxcsr.recover(hv, domid)
    as_it_was(hv, domid, 120)


@pytest.mark.parametrize("throttle", [False, True])
def test_a_save_that_is_refused_gives_no_time_back(
    hv: StubBackend, domid: int, tmp_path: Path, throttle: bool
) -> None:
    """Another one is under way, and has taken it."""
    seen: list[tuple[int, Any]] = []

    def now() -> tuple[int, Any]:
        share = hv.domain_share(domid)
        assert share is not None
        return share.cap, read_record(hv, domid)

    def progress(told: Progress) -> None:
        if told.phase != "pass" or seen:
            return
        with Throttle(hv, domid) as taken:
            taken.tighten()
            seen.append(now())
            other = stack.enter_context(pyxcsr.open_hypervisor("stub"))
            with open(os.devnull, "wb") as out, pytest.raises(pyxcsr.errors.BeingSaved):
                pyxcsr.save(other, domid, out, control=pyxcsr.Control(str(tmp_path)), throttle=throttle)
            seen.append(now())

    with ExitStack() as stack, open(os.devnull, "wb") as out:
        pyxcsr.save(hv, domid, out, control=pyxcsr.Control(str(tmp_path)), progress=progress)
    assert len(seen) == 2 and seen[0] == seen[1] and seen[0][1] is not None
