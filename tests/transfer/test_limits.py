"""Limits of whole saves on the stub: what happens to the stream and to the guest when they are reached."""

from __future__ import annotations

import errno
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import judge as judges
from support.anew import anew
from support.judge import judge, judge_pages, looks_complete
from support.same import check_same

import pyxcsr
from pyxcsr.cli.show import summary
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policies.adaptive import REST
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.report import Progress
from pyxcsr.transfer.saver import Saver


def save_to(hv: StubBackend, domid: int, path: Path, **options: Any) -> pyxcsr.SaveReport:
    """By measured rates."""
    return judges.save_to(hv, domid, path, **{"policy": "adaptive", **options})


BUSY = pyxcsr.StubGuest.pv64(mem="8M", writes=300, pt_updates=2, seed=3)
IDLE = pyxcsr.StubGuest.pv64(mem="8M", writer="none", fixmap=False)


def untouched(hv: StubBackend, domid: int) -> bool:
    """Running, and nobody tracks its writes."""
    state = hv.stub.guest(domid).state()
    return bool(state.running and not state.logdirty)


# -- the policy


def test_the_default_goes_by_what_it_measures(hv: StubBackend, tmp_path: Path) -> None:
    report = save_to(hv, hv.stub.create(IDLE), tmp_path / "s", policy=None)
    assert report.policy == "adaptive" and report.target_dirty is None
    report = save_to(hv, hv.stub.create(IDLE), tmp_path / "t", policy=None, max_downtime=1.0)
    assert report.policy == "adaptive" and report.downtime_kept


def test_what_adaptive_tells(hv: StubBackend, tmp_path: Path) -> None:
    report = save_to(hv, hv.stub.create(IDLE), tmp_path / "s")
    assert (report.policy, len(report.passes)) == ("adaptive", 2)
    assert report.stopped == "a further pass would not have shortened the pause worth its while"
    assert report.predicted_pause is not None and report.passes[0].predicted_pause is None
    assert report.max_downtime is None and report.downtime_kept is None and report.warnings == []
    assert "ms predicted)" in summary(report) and "note" not in summary(report)


def test_libxc_by_name_is_what_it_was(tmp_path: Path) -> None:
    """Call by call: a policy that does not ask for a look changes nothing."""
    calls, passes = [], []
    for policy in ("libxc", pyxcsr.SimplePolicy()):
        with anew() as hv:
            report = save_to(hv, hv.stub.create(BUSY), tmp_path / "s", policy=policy, map_ahead=False)
            calls.append(hv.stub.calls())
        passes.append([(x.dirty, x.pages, x.bytes) for x in report.passes])
        assert len(report.passes) == 6 and report.target_dirty == 50
    assert calls[0] == calls[1] and passes[0] == passes[1]
    assert calls[0]["xc_logdirty_control"] == 6, "a bitmap for each pass but the first; one count, for the prediction"


def test_numbers_for_libxc(hv: StubBackend, tmp_path: Path) -> None:
    report = save_to(hv, hv.stub.create(BUSY), tmp_path / "s", policy="libxc", max_iterations=2, target_dirty=1)
    assert (len(report.passes), report.target_dirty, report.policy) == (3, 1, "libxc")


def test_max_iterations(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(BUSY)
    report = save_to(hv, domid, tmp_path / "s", max_iterations=4, target_dirty=0)
    assert len(report.passes) == 5 and report.stopped.startswith("max_iterations: 4 live passes")
    assert "target of fewer than 0 dirty pages was not reached in 4 passes" in summary(report)
    judge(hv, domid, tmp_path / "s")


def test_a_wish_to_suspend_is_one_save_s(hv: StubBackend, tmp_path: Path) -> None:
    """Who saves several guests gives the same limits to each."""
    limits = pyxcsr.Limits(max_iterations=3, target_dirty=0)

    def progress(_: pyxcsr.Progress) -> None:
        limits.suspend_now = True

    first = save_to(hv, hv.stub.create(BUSY), tmp_path / "s", limits=limits, progress=progress)
    assert first.stopped == "it was asked for while the save ran" and limits.suspend_now is False
    second = save_to(hv, hv.stub.create(BUSY), tmp_path / "t", limits=limits)
    assert second.stopped.startswith("max_iterations: 3")


@pytest.mark.parametrize("bandwidth", [None, "8M"])
def test_a_limit_that_holds_in_the_pause_is_foreseen(hv: StubBackend, tmp_path: Path, bandwidth: str | None) -> None:
    more = {"bandwidth_while_paused": True} if bandwidth else {}
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writes=700))
    report = save_to(hv, domid, tmp_path / "s", max_iterations=2, target_dirty=0, bandwidth=bandwidth, **more)
    assert report.predicted_pause is not None
    assert (report.predicted_pause > 0.2) is (report.seconds_paused > 0.2) is bool(bandwidth)


def test_what_a_save_with_verify_cannot_keep_is_refused(hv: StubBackend, tmp_path: Path) -> None:
    with pytest.raises(pyxcsr.UsageError, match="verify sends all memory while the guest is paused"):
        save_to(hv, hv.stub.create(BUSY), tmp_path / "s", verify=True, max_downtime=1.0)


def test_what_the_policy_looked_at_was_true(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(BUSY)
    looked: list[tuple[Any, int]] = []

    def policy(stats: PrecopyStats) -> Decision:
        if stats.dirty_count is None:
            before = hv.stub.guest(domid).state().dirty
            looked.append((stats.dirty_now, before))
            assert stats.dirty_now == looked[-1][0], "it is looked once"
        return Decision.STOP_AND_COPY if stats.iteration == 3 else Decision.CONTINUE

    report = save_to(hv, domid, tmp_path / "s", policy=policy)
    assert len(looked) == 3 and all(before <= now <= before + 700 and before > 0 for now, before in looked)
    assert report.policy == "policy" and report.stopped == ""
    judge_pages(hv, domid, tmp_path / "s")


def test_a_look_does_not_count_what_another_save_has_left(hv: StubBackend, tmp_path: Path) -> None:
    """Xen goes on counting where a save stopped that ended before it fetched a bitmap."""
    domid = hv.stub.create(BUSY)
    left: list[int] = []
    looked: list[int] = []

    def ends(stats: PrecopyStats) -> Decision:
        left.append(stats.dirty_now or 0)
        return Decision.ABORT

    with pytest.raises(pyxcsr.Cancelled):
        save_to(hv, domid, tmp_path / "s", policy=ends)

    def policy(stats: PrecopyStats) -> Decision:
        looked.append(stats.dirty_now or 0)
        return Decision.STOP_AND_COPY if stats.iteration == 3 else Decision.CONTINUE

    save_to(hv, domid, tmp_path / "t", policy=policy)
    before, fetched = looked[:2]
    assert left[0] > 700 and 0 < before <= fetched <= before + 700
    judge_pages(hv, domid, tmp_path / "t")


def test_a_look_that_fails_does_not_end_the_save(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(BUSY)
    hv.stub.fail("xc_logdirty_control", 1, errno.ENOMEM)
    report = save_to(hv, domid, tmp_path / "s")
    assert len(report.passes) > 1
    assert len(report.warnings) == 1 and "not told how many pages are dirty" in report.warnings[0]
    judge(hv, domid, tmp_path / "s")


# -- max_downtime


def test_max_downtime(hv: StubBackend, tmp_path: Path) -> None:
    report = save_to(hv, hv.stub.create(IDLE), tmp_path / "s", max_downtime=60)
    assert report.downtime_kept is True and report.max_downtime == 60 and report.seconds_paused < 60
    assert report.stopped == "the limits were expected to be kept" and report.to_dict()["downtime_kept"] is True


def test_max_downtime_that_is_missed_is_said(hv: StubBackend, tmp_path: Path) -> None:
    report = save_to(hv, hv.stub.create(BUSY), tmp_path / "s", max_downtime="1us", max_iterations=3)
    assert report.downtime_kept is False and len(report.passes) == 4
    told = summary(report)
    assert "note: max_downtime of 0.001 ms was not kept: the guest was paused for" in told
    assert "the guest was suspended because of max_iterations (3 live passes were made" in told


@pytest.mark.parametrize("when", ["suspend", "final", "tail"])
def test_max_downtime_that_was_missed_is_not_wished_away(hv: StubBackend, tmp_path: Path, when: str) -> None:
    limits = pyxcsr.Limits(max_downtime="1us", max_iterations=1)

    def progress(now: Progress) -> None:
        if now.phase == when:
            limits.max_downtime = 1000.0

    report = save_to(hv, hv.stub.create(BUSY), tmp_path / "s", limits=limits, progress=progress)
    assert (report.max_downtime, report.downtime_kept) == (1e-6, False)


def test_what_was_expected_and_missed_is_not_called_reached(hv: StubBackend, tmp_path: Path) -> None:
    """As a reader of the log, who sees both in one line, would not believe either."""
    report = save_to(hv, hv.stub.create(IDLE), tmp_path / "s", max_downtime=60)
    report.max_downtime, report.downtime_kept = 1e-9, False
    assert "not kept: the guest was paused for" in summary(report) and "was reached" not in summary(report)
    assert "the guest was suspended because the limits were expected to be kept" in summary(report)


# -- abort_if_busy


def test_abort_if_busy(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writes=3000))
    with pytest.raises(pyxcsr.Cancelled, match=r"abort_if_busy.*the guest runs on") as error:
        save_to(hv, domid, tmp_path / "s", abort_if_busy=True)
    assert error.value.errno == errno.EBUSY and error.value.limit == "abort_if_busy"
    assert untouched(hv, domid) and not looks_complete(tmp_path / "s")


# -- timeout; with a bandwidth by which nothing of this could be done in time


SLOW = {"bandwidth": "512K"}


def test_a_timeout_ends_the_save(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(BUSY)
    with pytest.raises(pyxcsr.Cancelled, match="longer than its timeout of 300 ms") as error:
        save_to(hv, domid, tmp_path / "s", timeout="300ms", **SLOW)
    assert error.value.by == "limit" and error.value.errno == errno.ETIMEDOUT
    assert untouched(hv, domid) and not looks_complete(tmp_path / "s")


def test_a_timeout_of_a_save_that_is_not_live(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(BUSY)
    with pytest.raises(pyxcsr.Cancelled, match="timeout"):
        save_to(hv, domid, tmp_path / "s", live=False, timeout="300ms", bandwidth_while_paused=True, **SLOW)
    assert untouched(hv, domid)


@pytest.mark.parametrize("kind", ["pv64", "pvh", "hvm"])
def test_a_timeout_suspends_the_guest_in_the_midst_of_a_pass(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    guest = pyxcsr.StubGuest.parse(f"{kind}:mem=8M,writes=60,seed=5")
    domid = hv.stub.create(guest)
    phases: list[Progress] = []
    report = save_to(
        hv, domid, tmp_path / "s", timeout="300ms", on_timeout="suspend", progress=phases.append, **SLOW
    )  # fmt: skip
    assert [x.suspended for x in report.passes] == [False, True], "the pass under way is the last but one"
    assert report.stopped == "timeout: 300 ms were over"
    assert report.predicted_pause is None, "nothing was known yet"
    order = [x.phase for x in phases]
    assert order.index("suspend") < len(order) - 1 - order[::-1].index("pass"), "the pass was gone on with"
    if kind == "pv64":
        judge(hv, domid, tmp_path / "s")
    else:
        assert looks_complete(tmp_path / "s")
    hv.domain_resume(domid)
    assert untouched(hv, domid)


def test_a_failure_after_it_was_suspended_in_a_pass(hv: StubBackend, tmp_path: Path) -> None:
    """It is resumed as after any other failure."""
    domid = hv.stub.create(BUSY)
    with pytest.raises(pyxcsr.Cancelled, match="was cancelled"):
        save_to(
            hv, domid, tmp_path / "s", timeout="200ms", on_timeout="suspend",
            cancel=lambda: hv.stub.guest(domid).suspended, **SLOW,
        )  # fmt: skip
    assert untouched(hv, domid)


def test_tiny_passes_for_a_limit_that_cannot_be_kept_are_paced(hv: StubBackend, tmp_path: Path) -> None:
    """And a timeout is kept while the save rests."""
    domid = hv.stub.create(BUSY)
    report = save_to(hv, domid, tmp_path / "s", max_downtime="1us", timeout="2s", on_timeout="suspend")
    assert report.stopped.startswith("timeout") and 1.9 < report.seconds < 6
    late = [x for x in report.passes if x.iteration >= 40 and not x.suspended]
    assert len(late) < 3 * 2.0 / REST, "some hundred a second without a rest"
    judge(hv, domid, tmp_path / "s")


def test_a_save_that_rests_is_cancelled_at_once(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyxcsr.transfer.deciding.LONGEST_REST", 60.0)
    domid, began = hv.stub.create(BUSY), time.monotonic()

    def policy(stats: PrecopyStats) -> Decision:
        return Decision.CONTINUE

    policy.rest = 60.0  # type: ignore[attr-defined]
    with pytest.raises(pyxcsr.Cancelled):
        save_to(hv, domid, tmp_path / "s", policy=policy, cancel=lambda: time.monotonic() - began > 0.5)
    assert time.monotonic() - began < 30 and untouched(hv, domid)


def test_suspend_now(hv: StubBackend, tmp_path: Path) -> None:
    domid, limits = hv.stub.create(BUSY), pyxcsr.Limits(target_dirty=0, max_iterations=1000)

    def progress(now: Progress) -> None:
        if now.iteration == 2:
            limits.suspend_now = True

    report = save_to(hv, domid, tmp_path / "s", limits=limits, progress=progress)
    assert len(report.passes) == 4 and report.stopped == "it was asked for while the save ran"
    judge(hv, domid, tmp_path / "s")


# -- bandwidth


@pytest.mark.parametrize("output", ["file", "pipe"])
def test_the_bandwidth_is_kept(hv: StubBackend, tmp_path: Path, output: str) -> None:
    """How long it takes at least; how long at most is for the bucket's own tests (tests/core/test_bucket.py)."""
    domid = hv.stub.create(IDLE)
    began = time.monotonic()
    if output == "file":
        report = save_to(hv, domid, tmp_path / "s", bandwidth="4M")
    else:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
            assert reader.stdin is not None
            report = pyxcsr.save(hv, domid, reader.stdin, bandwidth="4M")
            reader.stdin.close()
    assert report.passes[0].bytes > 8 << 20
    assert time.monotonic() - began >= 2 * 0.9
    assert report.passes[0].seconds_held > 0 and report.passes[-1].seconds_held == 0
    assert report.bandwidth_limit == 4 << 20
    if output == "file":
        judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize(("phase", "told"), [("setup", True), ("pass", True), ("final", False)])
@pytest.mark.parametrize("bandwidth", [None, 1 << 40])
def test_a_bandwidth_that_is_changed_from_within(
    hv: StubBackend, tmp_path: Path, bandwidth: int | None, phase: str, told: bool
) -> None:
    """The report has the last one that held while the guest ran."""
    limits = pyxcsr.Limits(bandwidth="64M")

    def progress(now: Progress) -> None:
        if now.phase == phase:
            limits.bandwidth = bandwidth

    report = save_to(hv, hv.stub.create(IDLE), tmp_path / "s", limits=limits, progress=progress)
    assert report.bandwidth_limit == (bandwidth if told else 64 << 20)


def test_a_bandwidth_that_is_changed_between_two_questions(hv: StubBackend, tmp_path: Path) -> None:
    """The policy is told, also where it is changed at the very end of a pass."""
    limits, told = pyxcsr.Limits(bandwidth="64M"), list[bool]()

    def policy(stats: PrecopyStats) -> Decision:
        told.append(stats.bandwidth_changed)
        return Decision.CONTINUE if stats.iteration < 4 else Decision.STOP_AND_COPY

    def progress(now: Progress) -> None:
        if now.phase == "pass" and now.iteration == 1 and now.remaining == 0:
            limits.bandwidth = None

    save_to(hv, hv.stub.create(BUSY), tmp_path / "s", limits=limits, policy=policy, progress=progress)
    assert told == [False, False, True, True, False, False, False]


def test_a_paused_guest_does_not_wait_for_it(hv: StubBackend, tmp_path: Path) -> None:
    report = save_to(hv, hv.stub.create(IDLE), tmp_path / "s", live=False, bandwidth="4096")
    assert report.passes[0].seconds_held == 0, "half an hour otherwise"


def test_unless_that_is_asked_for(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(IDLE)
    report = save_to(hv, domid, tmp_path / "s", live=False, bandwidth="4M", bandwidth_while_paused=True)
    assert report.seconds_paused >= 2 * 0.9 and report.passes[0].seconds_held > 0
    judge(hv, domid, tmp_path / "s")


def test_a_save_that_is_held_can_be_cancelled(hv: StubBackend, tmp_path: Path) -> None:
    """At this rate it would have written a few pages when it is asked for the fifth time."""
    asked = []

    def cancel() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 5

    domid = hv.stub.create(IDLE)
    with pytest.raises(pyxcsr.Cancelled):
        save_to(hv, domid, tmp_path / "s", bandwidth=4096, cancel=cancel)
    assert (tmp_path / "s").stat().st_size < 2 << 20
    assert untouched(hv, domid)


def test_the_stream_is_the_same(tmp_path: Path) -> None:
    streams = []
    for name, bandwidth in (("fast", None), ("slow", "64M")):
        with anew() as hv:
            save_to(hv, hv.stub.create(IDLE), tmp_path / name, bandwidth=bandwidth)
        streams.append((tmp_path / name).read_bytes())
    check_same(*streams)


# -- what cannot be asked for


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"policy": "best"}, "policy is 'best'"),
        ({"policy": "libxc", "max_downtime": 1}, "policy libxc goes by .*not by max_downtime"),
        ({"policy": "libxc", "abort_if_busy": True}, "abort_if_busy"),
        ({"policy": lambda stats: Decision.CONTINUE, "max_iterations": 3}, "a policy of your own decides about max_it"),
        ({"live": False, "max_downtime": 1}, "save the guest live"),
        ({"live": False, "target_dirty": 0}, "target_dirty says something"),
        ({"live": False, "timeout": 1, "on_timeout": "suspend"}, "save the guest live"),
        ({"limits": pyxcsr.Limits(), "timeout": 1}, "limits and timeout are given"),
        ({"limits": {"timeout": 1}}, "give a pyxcsr.Limits"),
        ({"timeout": "soon"}, "timeout is 'soon'"),
    ],
)
def test_what_makes_no_sense(hv: StubBackend, tmp_path: Path, options: dict[str, Any], why: str) -> None:
    domid = hv.stub.create(IDLE)
    with pytest.raises(pyxcsr.UsageError, match=why):
        save_to(hv, domid, tmp_path / "s", **options)
    assert "xc_logdirty_control" not in hv.stub.calls() and untouched(hv, domid)


# -- what is told meanwhile


def test_progress_has_the_figures(hv: StubBackend, tmp_path: Path) -> None:
    seen: list[Progress] = []
    report = save_to(
        hv, hv.stub.create(BUSY), tmp_path / "s", target_dirty=0, max_iterations=3, progress=seen.append
    )  # fmt: skip
    assert seen[0].phase == "setup" and (seen[0].predicted_pause, seen[0].dirty_rate) == (None, None)
    later = [x for x in seen if x.phase == "pass" and x.iteration == 2]
    assert later and all((x.predicted_pause or 0) > 0 and (x.dirty_rate or 0) > 0 and x.bandwidth for x in later)
    assert later[-1].remaining == 0
    final = [x for x in seen if x.phase == "final"]
    assert final[-1].predicted_pause == report.predicted_pause
    assert [x.began for x in report.passes] == sorted(x.began for x in report.passes)


def test_what_is_left_to_send_is_no_more_than_the_guest_has(hv: StubBackend, tmp_path: Path) -> None:
    """A PVH guest's gfns go far beyond its memory, and most of them are holes."""
    domid, seen = hv.stub.create(pyxcsr.StubGuest.pvh(mem="16M")), list[Progress]()
    has = hv.domain_info(domid).tot_pages
    report = save_to(hv, domid, tmp_path / "s", bandwidth="20M", progress=seen.append)
    first = [x for x in seen if x.phase == "pass" and x.iteration == 0]
    assert report.nr_pfns > 100 * has and len(first) > 2
    assert has / 2 < first[0].remaining < has
    assert all(x.remaining >= y.remaining for x, y in zip(first, first[1:])) and first[-1].remaining == 0


def test_a_saver_is_made_of_options(hv: StubBackend, tmp_path: Path) -> None:
    from pyxcsr.options import SaveOptions

    options = SaveOptions(bandwidth="1G", max_iterations=2, policy="libxc")
    assert options.limits.bandwidth == 1 << 30 and isinstance(options.policy, pyxcsr.SimplePolicy)
    with open(tmp_path / "s", "wb") as out:
        assert len(Saver(hv, hv.stub.create(BUSY), options).run(out).passes) == 3
