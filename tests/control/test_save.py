"""A save is seen and steered by others while it runs."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge, looks_complete

import pyxcsr
from control.scene import GUEST, Beside, save, sock, the_save, wait_for
from pyxcsr.cli.main import main
from pyxcsr.control.client import RunningSave, running_save
from pyxcsr.control.connection import Connection
from pyxcsr.control.control import Control
from pyxcsr.control.folder import Folder
from pyxcsr.control.lock import GuestLock
from pyxcsr.errors import notes_on
from pyxcsr.hypervisor.open import StubBackend


def runs(hv: StubBackend, domid: int) -> bool:
    state = hv.stub.guest(domid).state()
    return bool(state.running and not state.logdirty)


def test_what_others_see(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)
    events: list[dict[str, Any]] = []

    def look() -> None:
        one = the_save(run_dir)
        assert (one.domid, one.pid) == (domid, os.getpid()) and pyxcsr.is_being_saved(domid, str(run_dir))
        now = wait_for(lambda: [x for x in [one.status()] if x["phase"] == "pass" and x["bandwidth"]])[0]
        assert now["guest"] == f"stub-{domid}" and now["live"] and now["policy"] == "libxc"
        assert now["limits"]["bandwidth"] == 6 << 20 and now["limits"]["max_downtime"] is None
        assert 1 << 20 < now["bandwidth"] < 20 << 20 and 0 < now["bytes_written"] < 9 << 20
        assert now["pages_total"] == 2048 and now["remaining"] <= 2048
        events.extend(one.events())

    with Beside(look):
        report = save(hv, domid, tmp_path / "s", run_dir)
    judge(hv, domid, tmp_path / "s")
    assert report.warnings == [] and list(run_dir.iterdir()) == []
    assert events[0]["event"] == "status" and events[-1]["event"] == "end"
    assert [x["iteration"] for x in events if x["event"] == "pass"] == [x.iteration for x in report.passes]
    end = events[-1]
    assert end["result"] == "done" and end["stream_complete"] and end["seconds_paused"] == report.seconds_paused
    seconds = [x["seconds"] for x in events if x["event"] == "progress"]
    assert len(seconds) > 3 and seconds == sorted(seconds)
    assert any(x.get("dirty_rate") for x in events) and any(x.get("predicted_pause") for x in events)


def test_tuned(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)

    def tune() -> None:
        one = the_save(run_dir)
        with pytest.raises(pyxcsr.UsageError, match="has no unit") as refused:
            one.tune(max_downtime="500")
        assert refused.value.domid == domid
        told = one.tune(max_downtime=60.5, bandwidth=None)
        assert told["event"] == "tuned" and told["policy"] == "adaptive"
        assert told["limits"]["max_downtime"] == 60.5 and told["limits"]["bandwidth"] is None
        assert not told["limits"]["abort_if_busy"]

    with Beside(tune):
        report = save(hv, domid, tmp_path / "s", run_dir, bandwidth="512K")
    assert report.policy == "adaptive" and report.max_downtime == 60.5 and report.downtime_kept
    assert report.stopped == "the limits were expected to be kept"
    assert report.seconds < 16, "at the old bandwidth it would have taken longer"
    judge(hv, domid, tmp_path / "s")


def test_tuned_before_the_passes_begin(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    """The policy is made only then; it is made of the new limits."""
    domid = hv.stub.create(GUEST)
    control = Control(str(run_dir))
    asked = threading.Event()

    def tune() -> None:
        with sock(run_dir) as client:
            client.sendall(b'{"pyxcsr": 1, "do": "tune", "policy": "adaptive"}\n')
            asked.set()
            assert b'"tuned"' in client.recv(4096)

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == "setup":
            assert asked.wait(20)
            control._next = 0.0
            control.serve()

    with Beside(tune), open(tmp_path / "s", "wb") as out:
        report = pyxcsr.save(hv, domid, out, control=control, progress=progress)
    assert report.policy == "adaptive" and report.warnings == []


def test_what_a_save_that_is_under_way_refuses_as_at_its_start(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    hv.stub.reset(scheduler="null")
    domid = hv.stub.create(GUEST)

    def tune() -> None:
        one = the_save(run_dir)
        with pytest.raises(pyxcsr.UsageError, match=r"refuses: domain 1 cannot be throttled: .* no caps"):
            one.tune(throttle=True, bandwidth=None)
        assert one.status()["limits"]["bandwidth"] is not None, "nothing was changed"
        one.tune(throttle=False, bandwidth=None)

    with Beside(tune):
        report = save(hv, domid, tmp_path / "s", run_dir, bandwidth="512K")
    assert report.warnings == [] and report.policy == "libxc"


def test_a_checkpointed_save_is_given_no_timeout(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)

    def tune() -> None:
        one = the_save(run_dir)
        with pytest.raises(pyxcsr.UsageError, match="refuses: timeout does not go together with checkpointed"):
            one.tune(timeout="9h")
        one.tune(bandwidth=None)

    with Beside(tune):
        checkpointed = pyxcsr.Checkpointed("10ms", count=2)
        report = save(hv, domid, tmp_path / "s", run_dir, bandwidth="1M", checkpointed=checkpointed)
    assert report.checkpoints is not None and report.checkpoints.count == 2


def test_suspend_now(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)
    with Beside(lambda: the_save(run_dir).tune(suspend_now=True) and None):
        report = save(hv, domid, tmp_path / "s", run_dir, bandwidth="1M")
    assert [x.suspended for x in report.passes] == [False, True]
    assert report.stopped == "it was asked for while the save ran"
    judge(hv, domid, tmp_path / "s")


def test_cancelled(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)
    ends: list[dict[str, Any]] = []
    with Beside(lambda: ends.append(the_save(run_dir).cancel())):
        with pytest.raises(pyxcsr.Cancelled, match="pyxcsr cancel") as error:
            save(hv, domid, tmp_path / "s", run_dir, bandwidth="1M")
        assert runs(hv, domid)
    assert error.value.by == "control" and not looks_complete(tmp_path / "s")
    assert ends[0]["result"] == "cancelled" and ends[0]["notes"] == [] and not ends[0]["stream_complete"]
    assert ends[0]["seconds"] > 0
    assert (ends[0]["backend"], ends[0]["guest_is"]) == ("stub", "running")
    assert list(run_dir.iterdir()) == []


def test_what_a_cancelled_guest_is_that_nobody_resumes(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    """As behind xl, which has suspended it, and resumes it when the helper is over."""
    domid = hv.stub.create(GUEST)
    ends: list[dict[str, Any]] = []
    with Beside(lambda: ends.append(the_save(run_dir).cancel())), pytest.raises(pyxcsr.Cancelled):
        save(
            hv, domid, tmp_path / "s", run_dir, live=False, bandwidth="1M", bandwidth_while_paused=True,
            suspend=lambda: hv.stub.guest(domid).shut_down(2),
        )  # fmt: skip
    assert ends[0]["result"] == "cancelled" and ends[0]["guest_is"] == "suspended"


def test_cancelled_while_the_guest_is_asked_to_suspend(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", suspend="ignore"))

    def cancel() -> None:
        one = the_save(run_dir)
        for event in one.events():
            if event.get("phase") == "suspend":
                break
        assert one.cancel()["result"] == "cancelled"

    with Beside(cancel), pytest.raises(pyxcsr.Cancelled):
        save(hv, domid, tmp_path / "s", run_dir)
    assert runs(hv, domid)


def test_cancelled_when_the_guest_has_taken_the_request(
    hv: StubBackend, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may suspend when nobody is there any more: it runs as yet, and that is not what was asked for."""
    monkeypatch.setattr("pyxcsr.suspend.xenstore.SECONDS_AFTER_CANCEL", 0.05)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", suspend="ack-only"))
    ended: list[int] = []

    def cancel() -> None:
        for event in the_save(run_dir).events():
            if event.get("phase") == "suspend":
                break
        ended.append(main(["cancel", str(domid), "--run-dir", str(run_dir)]))

    with Beside(cancel), pytest.raises(pyxcsr.Cancelled) as caught:
        save(hv, domid, tmp_path / "s", run_dir)
    told = capsys.readouterr()
    assert ended == [1] and f"stub-{domid}: the save was cancelled; the guest runs now\n" == told.out
    assert f"let it go on with `pyxcsr recover {domid}`" in told.err and notes_on(caught.value) != []


def test_a_save_that_is_not_live_is_cancelled_in_its_pause(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    """It is one long pause: after its first second others are listened to."""
    domid = hv.stub.create(GUEST)
    ends: list[dict[str, Any]] = []
    with Beside(lambda: ends.append(the_save(run_dir).cancel())), pytest.raises(pyxcsr.Cancelled):
        save(hv, domid, tmp_path / "s", run_dir, live=False, bandwidth="1M", bandwidth_while_paused=True)
    assert ends[0]["result"] == "cancelled" and runs(hv, domid)


def test_nothing_is_done_for_others_in_the_pause(
    hv: StubBackend, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its first second, which is a minute here. What has come up is told afterwards."""
    monkeypatch.setattr("pyxcsr.control.control.QUIET", 60.0)
    domid = hv.stub.create(GUEST)
    calls: list[tuple[str, bool]] = []
    control = Control(str(run_dir), tmp_path.joinpath("events").as_posix())
    suspended = lambda: hv.stub.guest(domid).suspended  # noqa: E731
    begin = control.begin

    def spied(*args: Any) -> None:
        begin(*args)
        server, feed = control._server, control._feed
        assert server is not None and feed is not None and feed.file is not None
        write = feed.file.outlet._write
        feed.file.outlet._write = lambda data: calls.append(("write", suspended())) or write(data)
        control._server = Spy(server, lambda: calls.append(("serve", suspended())))  # type: ignore[assignment]

    control_type = type(control)
    original = control_type.begin
    control_type.begin = lambda self, *args: spied(*args)  # type: ignore[method-assign]
    try:
        report = save(hv, domid, tmp_path / "s", None, control=control)
    finally:
        control_type.begin = original  # type: ignore[method-assign]
    assert report.warnings == [] and report.seconds_paused < 60
    assert ("serve", False) in calls and ("write", False) in calls
    in_the_pause = [what for what, paused in calls if paused]
    assert in_the_pause.count("serve") == 0 and set(in_the_pause) <= {"write"}
    first = next(i for i, (_, paused) in enumerate(calls) if paused)
    assert all(paused for _, paused in calls[first:]), "only at the end, when the stream is complete"


class Spy:
    """A server that tells when it serves."""

    def __init__(self, server: Any, told: Any) -> None:
        self._server, self._told = server, told

    def serve(self) -> None:
        self._told()
        self._server.serve()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def test_too_late(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    """The stream is complete: nothing can be changed, and nobody may believe that the guest runs here only."""
    domid = hv.stub.create(GUEST)
    control = Control(str(run_dir))
    answers: list[bytes] = []

    def complete(_report: pyxcsr.SaveReport) -> None:
        with sock(run_dir) as client:
            client.sendall(b'{"pyxcsr": 1, "do": "cancel"}\n{"pyxcsr": 1, "do": "tune", "timeout": "9h"}\n')
            control._next = 0.0
            control.serve()
            answers.append(client.recv(4096))

    with open(tmp_path / "s", "wb") as out:
        pyxcsr.save(hv, domid, out, control=control, complete=complete)
    assert answers[0].count(b"the stream is complete already") == 2 and not control.cancelled


class Asks:
    """A callback for progress that sends a request at once, whenever ``when`` is true, and has the save look at it."""

    def __init__(self, run_dir: Path, when: Callable[[pyxcsr.Progress], bool], line: bytes) -> None:
        self.control, self.answers = Control(str(run_dir)), list[bytes]()
        self._run_dir, self._when, self._line = run_dir, when, line

    def __call__(self, now: pyxcsr.Progress) -> None:
        if self._when(now):
            with sock(self._run_dir) as client:
                client.sendall(self._line)
                self.control._next = 0.0
                self.control.serve()
                self.answers.append(client.recv(4096))


TUNE = b'{"pyxcsr": 1, "do": "tune", '
LATE = TUNE + b'"max_downtime": "9h", "target_dirty": "100000"}\n'


@pytest.mark.parametrize("phase", ["suspend", "final", "tail"])
def test_what_can_have_no_effect_any_more_is_refused(
    hv: StubBackend, tmp_path: Path, run_dir: Path, phase: str
) -> None:
    """The report goes by what was asked for when the guest was suspended."""
    domid = hv.stub.create(GUEST)
    asks = Asks(run_dir, lambda now: now.phase == phase, LATE)
    with open(tmp_path / "s", "wb") as out:
        report = pyxcsr.save(
            hv, domid, out, max_downtime="1us", target_dirty=1, max_iterations=2, control=asks.control, progress=asks
        )
    assert asks.answers and all(b'"error"' in x and b"max_downtime, target_dirty say" in x for x in asks.answers)
    assert (report.max_downtime, report.downtime_kept) == (1e-6, False)
    assert (report.target_dirty, report.target_reached) == (1, False)


def test_once_the_last_live_pass_is_decided_on(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    """As libxenguest's policy does, with the bitmap known: nobody is asked after it. But the guest still runs."""
    domid = hv.stub.create(GUEST)

    def policy(stats: pyxcsr.PrecopyStats) -> pyxcsr.Decision:
        known = stats.dirty_count is not None
        return pyxcsr.Decision.STOP_AND_COPY if known else pyxcsr.Decision.CONTINUE

    line = TUNE + b'"policy": "adaptive", "max_downtime": "9h"}\n' + TUNE + b'"suspend_now": true}\n'
    asks = Asks(run_dir, lambda now: now.phase == "pass" and now.iteration == 1, line)
    with open(tmp_path / "s", "wb") as out:
        report = pyxcsr.save(hv, domid, out, policy=policy, control=asks.control, progress=asks)
    first, second = asks.answers[0].splitlines()
    assert b"the guest is about to be suspended, and policy, max_downtime say" in first and b'"tuned"' in second
    assert report.policy == "policy" and report.max_downtime is None


@pytest.mark.parametrize("words", [b'"suspend_now": true}\n', b'"max_downtime": "9h"}\n', b'"bandwidth": "1M"}\n'])
def test_once_the_first_checkpoint_is_made(hv: StubBackend, tmp_path: Path, run_dir: Path, words: bytes) -> None:
    """The guest runs between two of them, but what is about the live passes is over for ever."""
    domid = hv.stub.create(GUEST)
    asks = Asks(run_dir, lambda now: now.phase == "suspend" and now.iteration > 2, TUNE + words)
    with open(tmp_path / "s", "wb") as out:
        checkpointed = pyxcsr.Checkpointed("10ms", count=3)
        report = pyxcsr.save(
            hv, domid, out, policy="libxc", max_iterations=1, checkpointed=checkpointed, control=asks.control,
            progress=asks,
        )  # fmt: skip
    assert report.checkpoints is not None and report.checkpoints.count == 3
    assert asks.answers and all(b"the guest has been suspended already" in x for x in asks.answers)


def test_what_is_about_the_pause_is_changed_in_it(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)
    line = TUNE + b'"bandwidth": "1G", "bandwidth_while_paused": "yes", "timeout": "9h"}\n'
    asks = Asks(run_dir, lambda now: now.phase == "final", line)
    with open(tmp_path / "s", "wb") as out:
        report = pyxcsr.save(hv, domid, out, control=asks.control, progress=asks)
    assert asks.answers and all(b'"tuned"' in x for x in asks.answers) and report.bandwidth_limit == 1 << 30


def beside_the_end(hv: StubBackend, domid: int, tmp_path: Path, run_dir: Path, beside: Beside) -> None:
    """A save; what is done beside it begins when the stream is complete, while the save is busy with something else.

    That lasts until something has been asked.
    """
    asked, ask = threading.Event(), Connection.ask

    def noted(one: Connection, *words: Any) -> None:
        ask(one, *words)
        asked.set()

    def complete(_report: pyxcsr.SaveReport) -> None:
        beside.__enter__()
        asked.wait(20)

    with open(tmp_path / "s", "wb") as out, pytest.MonkeyPatch.context() as patched:
        patched.setattr(Connection, "ask", noted)
        pyxcsr.save(hv, domid, out, control=Control(str(run_dir)), complete=complete)
    beside.__exit__()
    assert asked.is_set()


@pytest.mark.parametrize("ask", [lambda one: one.tune(timeout="9h"), lambda one: one.status()])
def test_a_question_that_is_overtaken_by_the_end(
    hv: StubBackend, tmp_path: Path, run_dir: Path, ask: Callable[[RunningSave], Any]
) -> None:
    """The save ends before it has looked at it, and tells everybody of its end: that is no answer."""
    domid = hv.stub.create(GUEST)
    raised: list[pyxcsr.ControlError] = []

    def act() -> None:
        with pytest.raises(pyxcsr.ControlError, match=r"is over \(done\): it has not looked at the request") as error:
            ask(the_save(run_dir))
        raised.append(error.value)

    beside = Beside(act)

    beside_the_end(hv, domid, tmp_path, run_dir, beside)
    assert raised[0].untouched and raised[0].domid == domid


def test_who_watches_from_the_last_moment_on_is_told_of_the_end(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)
    told: list[dict[str, Any]] = []
    beside = Beside(lambda: told.extend(the_save(run_dir).events()))

    beside_the_end(hv, domid, tmp_path, run_dir, beside)
    assert [x["event"] for x in told] == ["end"]


def test_there_is_no_room_for_another(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    """Nobody may believe that the save is over, least of all who wants to end it."""
    domid = hv.stub.create(GUEST)

    def crowd() -> None:
        one = the_save(run_dir)
        with ExitStack() as stack:
            watchers = [stack.enter_context(one.connect()) for _ in range(16)]
            for watcher in watchers:
                watcher.ask("watch")
            assert all(x.next(time.monotonic() + 20)["event"] == "status" for x in watchers)
            for ask in (one.cancel, one.status, lambda: one.tune(timeout="9h"), lambda: next(one.events())):
                with pytest.raises(pyxcsr.UsageError, match="refuses: 16 clients are connected already"):
                    ask()
            with pytest.raises(pyxcsr.ControlError, match=r"not known whether 'x' .* does not answer"):
                running_save("x", str(run_dir))
        assert wait_for(lambda: cancelled(one))["result"] == "cancelled"

    def cancelled(one: RunningSave) -> Any:
        try:
            return one.cancel()
        except pyxcsr.UsageError:  # it has not seen yet that the others have gone
            return None

    with Beside(crowd), pytest.raises(pyxcsr.Cancelled):
        save(hv, domid, tmp_path / "s", run_dir, bandwidth="256K")


@pytest.mark.parametrize("early", [True, False])
def test_it_hangs_up_and_runs(run_dir: Path, early: bool) -> None:
    """As one that has lost its socket to a bug: it is over when its lock is."""
    with Folder(str(run_dir), make=True) as folder, socket.socket(socket.AF_UNIX) as listener:
        lock = GuestLock(folder, 7)
        listener.bind(f"{run_dir}/7.sock")
        listener.listen()
        one = the_save(run_dir)

        def hang_up() -> None:
            client = listener.accept()[0]
            if not early:
                client.recv(100)
            client.close()

        def ask() -> str:
            with Beside(hang_up), pytest.raises(pyxcsr.ControlError) as error:
                one.status()
            return str(error.value)

        assert "the save of domain 7 has hung up, but runs" in ask()
        lock.release()
        assert ("is over" in ask()) if not early else ("hung up" not in ask())


def test_a_name_that_a_save_does_not_tell(run_dir: Path) -> None:
    """It may be that guest's save: nobody is told that there is none."""
    with Folder(str(run_dir), make=True) as folder:
        lock = GuestLock(folder, 7)
        with pytest.raises(pyxcsr.ControlError, match=r"not known whether 'db1' .*: the save of domain 7") as e:
            running_save("db1", str(run_dir))
        assert e.value.untouched and e.value.pid == os.getpid()
        with pytest.raises(pyxcsr.UsageError, match=r"8 is not being saved .* \(domain 7 is\)"):
            running_save(8, str(run_dir))
        lock.release()


# -- two saves of one guest


def test_a_second_save_is_refused(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid, other = hv.stub.create(GUEST), hv.stub.create(GUEST)
    tried: list[str] = []

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == "pass" and not tried:
            calls = hv.stub.calls()
            with pytest.raises(pyxcsr.BeingSaved, match=f"process {os.getpid()} ") as error:
                save(hv, domid, tmp_path / "second", run_dir)
            assert error.value.untouched and error.value.errno == errno.EBUSY and error.value.pid == os.getpid()
            assert hv.stub.calls().get("xc_logdirty_control") == calls.get("xc_logdirty_control")
            save(hv, other, tmp_path / "other", run_dir)  # another guest
            tried.append("both")

    report = save(hv, domid, tmp_path / "s", run_dir, progress=progress, bandwidth=None)
    assert tried and report.warnings == []
    judge(hv, domid, tmp_path / "s")
    save(hv, domid, tmp_path / "again", run_dir, live=False)


def test_after_a_failure_it_may_be_saved_again(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)
    for _ in range(2):
        with pytest.raises(pyxcsr.OutputError), open("/dev/full", "wb") as full:
            pyxcsr.save(hv, domid, full, control=Control(str(run_dir)))
        assert list(run_dir.iterdir()) == []


# -- where there can be no socket


def refused(hv: StubBackend, tmp_path: Path, run_dir: Path) -> str:
    """The one warning of a save that goes well all the same."""
    domid = hv.stub.create(GUEST)
    report = save(hv, domid, tmp_path / "s", run_dir, bandwidth=None)
    judge(hv, domid, tmp_path / "s")
    (warning,) = report.warnings
    return warning


def test_a_folder_that_cannot_be_made(hv: StubBackend, tmp_path: Path) -> None:
    assert "does not see this save" in refused(hv, tmp_path, Path("/proc/pyxcsr"))
    assert "No such file" in refused(hv, tmp_path, tmp_path / "nothing/run")
    assert "begins with /" in refused(hv, tmp_path, Path("run"))
    assert "does not see" in refused(hv, tmp_path, Path("/tmp/a\0b"))


def test_a_folder_that_is_not_ours(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    run_dir.mkdir()
    run_dir.chmod(0o777)
    warning = refused(hv, tmp_path, run_dir)
    assert "can be written to by others" in warning and "a second save of the guest would not be noticed" in warning
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["1.sock", "1.lock"])
def test_something_else_is_in_the_way(hv: StubBackend, tmp_path: Path, run_dir: Path, name: str) -> None:
    run_dir.mkdir(mode=0o700)
    (tmp_path / "precious").write_text("precious")
    (run_dir / name).symlink_to(tmp_path / "precious")
    warning = refused(hv, tmp_path, run_dir)
    assert "left alone" in warning or "symbolic links" in warning
    assert ("a second save of the guest would not be noticed" in warning) is (name == "1.lock")
    assert (tmp_path / "precious").read_text() == "precious" and (run_dir / name).is_symlink()


def test_a_dead_saves_socket_is_swept_up(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    import socket

    run_dir.mkdir(mode=0o700)
    (run_dir / "1.lock").write_text("4711 pyxcsr\n")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run_dir / "1.sock"))
    domid = hv.stub.create(GUEST)
    with Beside(lambda: the_save(run_dir).status() and None):
        (warning,) = save(hv, domid, tmp_path / "s", run_dir).warnings
    assert warning.startswith(f"a save of domain {domid} was killed: `pyxcsr recover {domid}`")
    hv.domain_resume(domid)
    assert list(run_dir.iterdir()) == [] and save(hv, domid, tmp_path / "s", run_dir).warnings == []


def test_none_is_wanted(hv: StubBackend, tmp_path: Path, run_dir: Path) -> None:
    domid = hv.stub.create(GUEST)
    for name in ("", "none"):
        with open(tmp_path / "s", "wb") as out:
            assert pyxcsr.save(hv, domid, out, control=Control(name), live=False).warnings == []
    assert not run_dir.exists() and not Path("none").exists()


def test_a_bug_in_the_control_does_not_fail_the_save(
    hv: StubBackend, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyxcsr.control.server import Server

    def fail(self: Server) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Server, "serve", fail)
    warning = refused(hv, tmp_path, run_dir)
    assert "does not see this save any more: RuntimeError: no" in warning and list(run_dir.iterdir()) == []
