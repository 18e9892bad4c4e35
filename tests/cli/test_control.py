"""`pyxcsr watch`, `tune` and `cancel`, on a save in another process; `pyxcsr save --events`."""

from __future__ import annotations

import importlib
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from control.scene import wait_for
from support.judge import judge_rules, looks_complete
from support.on_xen import OnXen
from support.processes import only_processes

import pyxcsr
from cli.programs import COMMAND, SAVE, environment, run
from pyxcsr import StubGuest
from pyxcsr.cli import dirty_rate, figures, main, recover
from pyxcsr.control.names import folder_name
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer import recovery

GUEST = "pv64:mem=8M,writes=60,seed=5"
SLOW = ("--bandwidth", "1M")
HOLD = """
import sys, time
from pyxcsr.control.folder import Folder
from pyxcsr.control.lock import GuestLock
lock = GuestLock(Folder(sys.argv[1], make=True), int(sys.argv[2]))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def saving(run_dir: Path, out: Path, *more: str, guest: str = GUEST) -> Iterator[subprocess.Popen[bytes]]:
    """A save that is under way, in a process of its own."""
    words = [*SAVE, "--run-dir", run_dir, *(more or SLOW), guest, out]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_for((run_dir / "1.sock").exists)
            yield process
        finally:
            process.kill()


@contextmanager
def holding(run_dir: Path, domid: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a guest's lock, and no socket."""
    words = [sys.executable, "-c", HOLD, run_dir, str(domid)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def on(run_dir: Path, *words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return run(words[0], "--run-dir", run_dir, *words[1:], **options)


def test_nothing_is_saved(run_dir: Path, tmp_path: Path) -> None:
    done = on(run_dir, "watch", "--once")
    assert (done.returncode, done.stdout) == (0, b"nothing is being saved\n")
    done = on(run_dir, "watch", "--once", "--json")
    assert (done.returncode, done.stdout) == (0, b"")
    for words in (("watch", "db1"), ("watch", "--once", "5"), ("tune", "db1", "--timeout", "5m"), ("cancel", "5")):
        done = on(run_dir, *words)
        assert done.returncode == 2 and b"is not being saved by pyxcsr on this machine" in done.stderr
    done = on(run_dir, "cancel", "--json", "5")
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["class"] == "UsageError"
    for words in (("watch", "--once", "--run-dir", "none"), ("cancel", "5", "--run-dir", "none")):
        assert run(*words).returncode == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("tune", "1"), b"say what is to be changed"),
        (("tune", "1", "--max-downtime", "500"), b"--max-downtime is '500': '500' has no unit"),
        (("tune", "1", "--bandwidth", "fast"), b"--bandwidth is 'fast'"),
        (("tune",), b"GUEST"), (("cancel",), b"GUEST"), (("cancel", "1", "--wait", "0"), b"--wait must be more than 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(run_dir: Path, words: tuple[str, ...], why: bytes) -> None:
    done = on(run_dir, *words)
    assert done.returncode == 2 and why in done.stderr


def test_seen(run_dir: Path, tmp_path: Path) -> None:
    with saving(run_dir, tmp_path / "s") as process:
        done = on(run_dir, "watch", "--once")
        head, row = done.stdout.decode().splitlines()
        assert head.split() == ["ID", "GUEST", "PHASE", "PASS", "SENT", "LEFT", "DIRTY/S", "SPEED", "PAUSE", "TIME"]
        assert row.split()[:2] == ["1", "stub-1"] and max(len(head), len(row)) <= 79
        for guest in ("1", "stub-1"):
            told = json.loads(on(run_dir, "watch", "--once", "--json", guest).stdout)
            assert (told["event"], told["domid"], told["pid"]) == ("status", 1, process.pid)


def test_tuned_and_watched_to_its_end(run_dir: Path, tmp_path: Path) -> None:
    with saving(run_dir, tmp_path / "s") as process:
        watches = [
            subprocess.Popen([*COMMAND, "watch", "--run-dir", run_dir, *more, "stub-1"], stdout=subprocess.PIPE)
            for more in ((), ("--json",))
        ]
        first = [x.stdout.readline() for x in watches if x.stdout is not None]
        done = on(run_dir, "tune", "1", "--max-downtime", "20s", "--bandwidth", "none")
        assert (done.returncode, done.stdout) == (0, b"stub-1: policy adaptive, max_downtime 20 s\n")
        lines, events = (a + x.stdout.read() for a, x in zip(first, watches) if x.stdout is not None)
        assert process.wait(60) == 0 and [x.wait(60) for x in watches] == [0, 0]
    told = [json.loads(x) for x in events.splitlines()]
    assert told[0]["event"] == "status" and told[-1]["result"] == "done" and told[-1]["downtime_kept"]
    assert re.search(rb"\nstub-1: done, \d+M in .*, paused ", b"\n" + lines)
    judge_rules(tmp_path / "s")


def test_there_is_no_room_for_another(run_dir: Path, tmp_path: Path) -> None:
    """What it says to the seventeenth is no end of the save."""
    with saving(run_dir, tmp_path / "s", "--bandwidth", "256K"), ExitStack() as stack:
        (one,) = pyxcsr.running(str(run_dir))
        watchers = [stack.enter_context(one.connect()) for _ in range(16)]
        for watcher in watchers:
            watcher.ask("watch")
        assert all(x.next(time.monotonic() + 20)["event"] == "status" for x in watchers)
        for words in (("cancel", "1"), ("tune", "1", "--timeout", "9h")):
            done = on(run_dir, *words)
            assert done.returncode == 2 and b"refuses: 16 clients are connected already" in done.stderr
        done = on(run_dir, "watch", "1")
        assert done.returncode == 1 and b"has hung up, but runs: 16 clients are connected" in done.stderr
        done = on(run_dir, "watch", "--once")
        assert done.returncode == 0 and done.stdout.splitlines()[1].split()[:3] == [b"1", b"-", b"silent"]
        (told,) = map(json.loads, on(run_dir, "watch", "--once", "--json").stdout.splitlines())
        assert (told["event"], told["domid"]) == ("silent", 1)


def test_a_limit_that_the_save_refuses(run_dir: Path, tmp_path: Path) -> None:
    with saving(run_dir, tmp_path / "s", "--timeout", "9m", *SLOW):
        done = on(run_dir, "tune", "1", "--max-downtime", "10m")
        assert done.returncode == 2 and b"refuses: max_downtime (10 min) is not shorter than timeout" in done.stderr
        done = on(run_dir, "tune", "1", "--json", "--suspend-now")
        assert json.loads(done.stdout)["limits"]["suspend_now"] is True


def test_cancelled(run_dir: Path, tmp_path: Path) -> None:
    with saving(run_dir, tmp_path / "s") as process:
        watch = subprocess.Popen([*COMMAND, "watch", "--run-dir", run_dir, "1"], stdout=subprocess.PIPE)
        assert watch.stdout is not None
        watch.stdout.readline()
        done = on(run_dir, "cancel", "stub-1")
        assert (done.returncode, done.stdout) == (0, b"stub-1: the save was cancelled; the guest runs on\n")
        assert process.wait(20) == 1 and process.stderr is not None
        assert b"was cancelled by somebody else: `pyxcsr cancel`" in process.stderr.read()
        assert b"stub-1: cancelled: " in watch.stdout.read() and watch.wait(20) == 1
    assert list(tmp_path.iterdir()) == [] and list(run_dir.iterdir()) == []


def test_cancelled_while_it_waits_for_the_guest(run_dir: Path, tmp_path: Path) -> None:
    with saving(run_dir, tmp_path / "s", "--no-progress", guest=f"{GUEST},suspend=ignore") as process:
        wait_for(lambda: b'"suspend"' in on(run_dir, "watch", "--once", "--json").stdout)
        assert on(run_dir, "cancel", "1").returncode == 0
        assert process.wait(20) == 1


def test_a_second_save_of_the_guest(run_dir: Path, tmp_path: Path) -> None:
    with saving(run_dir, tmp_path / "s") as process:
        done = run(GUEST, tmp_path / "t", "--run-dir", run_dir, "--json", command=SAVE)
        error = json.loads(done.stdout)["error"]
        assert done.returncode == 2 and error["class"] == "BeingSaved" and error["facts"]["pid"] == process.pid
        assert error["facts"]["program"] == "pyxcsr" and not (tmp_path / "t").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert sorted(os.listdir(run_dir)) == ["1.lock", "1.sock"]
        assert run(GUEST, tmp_path / "t", "--run-dir", run_dir, "--quiet", command=SAVE).stderr == b""
    assert looks_complete(tmp_path / "t") and list(run_dir.iterdir()) == []


def test_a_save_that_is_killed_while_it_is_watched(run_dir: Path, tmp_path: Path) -> None:
    words = [*COMMAND, "watch", "--run-dir", run_dir, "1"]
    with saving(run_dir, tmp_path / "s") as process, subprocess.Popen(words, stdout=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        watch.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = watch.stdout.read()
        assert b"is gone without a word\na save of domain 1 was killed: `pyxcsr recover 1`" in told
        assert watch.wait(20) == 1 and list(run_dir.iterdir()) == []
    done = on(run_dir, "watch", "--once")
    assert (done.stdout, done.stderr) == (b"nothing is being saved\n", b""), "it is said once"


@pytest.mark.parametrize(
    "words",
    [("watch", "--once"), ("watch", "--once", "stub-1"), ("tune", "1", "--timeout", "9h"), ("cancel", "stub-1"),
     ("watch", "--once", "--json"), ("cancel", "7"), ("watch", "--once", "7", "--json")],
)  # fmt: skip
def test_a_save_that_was_killed_is_told_of(run_dir: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """By whoever removes what it has left: nothing else would tell that the guest may need to be recovered. Also by who
    looks for the save of another guest."""
    with saving(run_dir, tmp_path / "s") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert sorted(os.listdir(run_dir)) == ["1.lock", "1.sock"]
    with ExitStack() as stack:
        if "7" in words:
            stack.enter_context(holding(run_dir, 7))
        done = on(run_dir, *words)
        assert os.listdir(run_dir) == (["7.lock"] if "7" in words else [])
    if "--json" in words and "7" not in words:
        (event,) = map(json.loads, done.stdout.splitlines())
        assert (event["event"], event["domid"], done.returncode) == ("killed", 1, 0) and event["time"] > 0
    elif "--json" in words:  # it cannot be reached, which is an error
        assert "`pyxcsr recover 1`" in "".join(json.loads(done.stdout)["error"]["notes"])
    else:
        assert b"a save of domain 1 was killed: `pyxcsr recover 1` undoes what it has left" in done.stderr


def test_a_save_that_is_killed_while_it_is_cancelled(run_dir: Path, tmp_path: Path) -> None:
    guest = f"{GUEST},suspend=ack-only"  # the guest is waited for then
    with saving(run_dir, tmp_path / "s", "--no-live", guest=guest) as process:
        with subprocess.Popen([*COMMAND, "cancel", "--run-dir", run_dir, "1"], stderr=subprocess.PIPE) as cancel:
            time.sleep(2)
            process.send_signal(signal.SIGKILL)
            assert cancel.stderr is not None
            assert b"is over; a save of domain 1 was killed: `pyxcsr recover 1`" in cancel.stderr.read()
        assert cancel.returncode == 1 and list(run_dir.iterdir()) == []


def test_a_save_without_a_socket(run_dir: Path) -> None:
    """It is a save all the same: nobody is told that nothing is being saved."""
    with holding(run_dir, 7) as other:
        rows = on(run_dir, "watch", "--once").stdout.decode().splitlines()
        assert rows[1].split()[:3] == ["7", "-", "silent"]
        told = json.loads(on(run_dir, "watch", "--once", "--json").stdout)
        assert (told["event"], told["domid"], told["pid"]) == ("silent", 7, other.pid)
    assert on(run_dir, "watch", "--once").stdout == b"nothing is being saved\n"


@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal(run_dir: Path, tmp_path: Path, columns: int) -> None:
    """Drawn anew in its place, and no line longer than the terminal is wide."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with saving(run_dir, tmp_path / "s", "--bandwidth", "4M"):
        env = environment(TERM="xterm")
        watch = subprocess.Popen([*COMMAND, "watch", "--run-dir", run_dir, "1"], stdout=theirs, env=env)
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        assert watch.wait(20) == 0
    os.close(ours)
    text = shown.decode().replace("\r\n", "\n")
    pictures = re.split(r"\x1b\[\d+F\x1b\[J", text)
    lines = [x for picture in pictures for x in picture.split("\n") if " done, " not in x]
    assert len(pictures) > 3 and max(map(len, lines)) < columns and "\x1b" not in "".join(lines)
    assert ("GUEST" in text) is (columns == 80) and "stub-1: done, " in pictures[-1]
    rows = 2 if columns == 80 else 3
    assert f"\x1b[{rows}F\x1b[J" in text


@pytest.mark.parametrize("columns", [80, 40])
def test_throttling_is_shown(run_dir: Path, tmp_path: Path, columns: int) -> None:
    guest = "pv64:mem=8M,writes=300,seed=3,vcpus=2"
    words = ("--throttle", "--max-downtime", "1us", "--policy", "adaptive", "--bandwidth", "16M", "--timeout", "1h")
    with saving(run_dir, tmp_path / "s", *words, guest=guest):
        told = wait_for(lambda: throttled(on(run_dir, "watch", "--once", "--json").stdout))
        assert 0.2 <= told["throttled"] <= 0.99
        shown = on(run_dir, "watch", "--once").stdout.decode()
    percent = re.search(r"\n  throttled: lacks (\d+) % of its processor time\n", shown)
    assert percent is not None and int(percent[1]) >= round(100 * told["throttled"])
    narrow = figures.table([(told, False)], columns)
    assert max(map(len, narrow)) < columns and narrow[-1].startswith("  throttled: lacks ")
    assert narrow[-1].endswith("% of its processor time" if columns == 80 else "% of its time")
    assert figures.text(told).endswith("% of its processor time") and "throttled" not in figures.text({"domid": 1})


@pytest.mark.parametrize("columns", [120, 80, 78, 40])
def test_two_guests_of_nearly_one_name(columns: int) -> None:
    """Whoever cancels one of them has to know which is which: by name where there is room, and by id."""
    state = {"phase": "suspend", "iteration": 12, "bytes_written": 5e9, "seconds": 3723.0, "predicted_pause": 0.000123,
             "dirty_rate": 123456.0, "bandwidth": 9.9e8, "remaining": 79000}  # fmt: skip
    saves = [({**state, "domid": x, "guest": f"production-database-0{x % 10}"}, False) for x in (1, 12342)]
    lines = figures.table([*saves, ({"domid": 9, "pid": 4711}, True)], columns - 1)
    assert max(map(len, lines)) < columns
    (first,) = (x for x in lines if re.match(r" *1 prod", x))
    (second,) = (x for x in lines if x.startswith("12342 prod"))
    assert ("production-database-02" in second) is (columns == 120) is ("production-database-01" in first)
    assert ("…" in second) is (columns != 120), "it is seen that there is more of it"
    assert [x.split()[:2] for x in lines if " 9" in x[:9]] == [["9", "-"] if columns > 40 else ["domain", "9:"]]
    short = figures.table([({**state, "domid": 7, "guest": "db1"}, False)], columns - 1)
    assert short[0 if columns == 40 else 1].startswith("7 db1:" if columns == 40 else " 7 db1 ")


def throttled(lines: bytes) -> Any:
    """A save's state, once time has been taken from its guest."""
    told = [json.loads(x) for x in lines.splitlines()]
    return told[0] if told and told[0].get("throttled") else None


def test_events_of_a_save(run_dir: Path, tmp_path: Path) -> None:
    done = run(GUEST, tmp_path / "s", "--quiet", "--events", tmp_path / "e", command=SAVE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    told = [json.loads(x) for x in (tmp_path / "e").read_bytes().splitlines()]
    assert (told[0]["event"], told[-1]["event"]) == ("begin", "end") and not run_dir.exists()
    done = run(GUEST, tmp_path / "t", "--quiet", "--events", "1", command=SAVE)
    assert [json.loads(x)["event"] for x in done.stdout.splitlines()][-1] == "end" and done.returncode == 0


def test_events_that_cannot_be_written(tmp_path: Path) -> None:
    done = run(GUEST, tmp_path / "s", "--events", "/nothing/there", command=SAVE)
    assert done.returncode == 2 and b"events cannot be written to /nothing/there: No such file" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = run(GUEST, tmp_path / "s", "--json", "--events", "/dev/full", command=SAVE)
    assert done.returncode == 0 and "No space left" in json.loads(done.stdout)["warnings"][0]
    env = environment(PYXCSR_EVENTS="/nothing/there")
    done = run(GUEST, tmp_path / "t", "--quiet", command=SAVE, env=env)
    assert done.returncode == 0 and b"events cannot be written to /nothing/there" in done.stderr


def test_the_settings_file(run_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "conf"
    config.write_text(f"[guests]\nbandwidth = 1M\n[control]\nrun_dir = {run_dir}\nevents = {tmp_path / 'e'}\n")
    env = environment(PYXCSR_CONFIG=str(config))
    with subprocess.Popen([*SAVE, GUEST, tmp_path / "s"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        wait_for((run_dir / "1.sock").exists)
        assert run("cancel", "1", env=env).returncode == 0
    assert b'"cancelling"' in (tmp_path / "e").read_bytes()
    config.write_text("[control]\nrundir = /run\n")
    done = run("watch", "--once", env=env)
    assert done.returncode == 2 and b"line 2: there is no setting 'rundir' in [control]" in done.stderr


@pytest.mark.parametrize("line", ["events = 7", "run_dir = relative/dir", "run_dir ="])
def test_wrong_values_of_the_settings_file(tmp_path: Path, line: str) -> None:
    """All programs say it alike, with file and line, and no guest is touched."""
    config = tmp_path / "conf"
    config.write_text(f"[control]\n{line}\n")
    env = environment(PYXCSR_CONFIG=str(config))
    for words in (("save", "--backend", "stub", GUEST, tmp_path / "s"), ("watch", "--once"), ("cancel", "1")):
        done = run(*words, env=env)
        assert done.returncode == 2 and f"{config}, line 2: {line.split(maxsplit=1)[0]} is ".encode() in done.stderr
    assert sorted(tmp_path.iterdir()) == [config]


def test_an_option_that_can_be_no_folder(tmp_path: Path) -> None:
    save = ("save", "--backend", "stub", GUEST, tmp_path / "s")
    for words in (save, ("watch", "--once"), ("tune", "1", "--throttle")):
        done = run(*words, "--run-dir", "relative/dir")
        assert done.returncode == 2 and b"--run-dir is 'relative/dir': give a path that begins with /" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_folder_can_be_had(tmp_path: Path) -> None:
    done = run(GUEST, tmp_path / "s", "--run-dir", "/proc/pyxcsr", command=SAVE)
    assert done.returncode == 0 and b"warning: `pyxcsr watch` does not see this save" in done.stdout


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without other processes: those of other tests save a domain of the same number."""
    only_processes(tmp_path / "proc", monkeypatch)


def test_a_save_beside_another_program_s(
    hv: StubBackend, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Nothing was done, as the exit status says; and nothing is left where the stream was to go."""
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    only_processes(tmp_path / "proc", monkeypatch).helper(50, domid)
    monkeypatch.setattr(importlib.import_module("pyxcsr.cli.save"), "opened", lambda *_: OnXen(hv))
    to = tmp_path / "to"
    to.mkdir()
    assert main.main(["save", str(domid), str(to / "s"), "--run-dir", str(run_dir), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["class"], error["facts"]["pid"]) == ("BeingSaved", 50) and "libxl-save-helper" in error["message"]
    assert list(to.iterdir()) == list(run_dir.iterdir()) == [] and hv.stub.guest(domid).state().running


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("command", ["recover", "dirty-rate"])
@pytest.mark.parametrize("how", ["option", "variable", "file"])
def test_a_save_elsewhere_is_not_harmed(
    hv: StubBackend, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], command: str, how: str,
) -> None:  # fmt: skip
    """Its lock is where all programs of this machine have agreed to have it, and its name tells nothing."""
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    module = importlib.import_module(f"pyxcsr.cli.{command.replace('-', '_')}")
    monkeypatch.setattr(module, "opened", lambda *_: OnXen(hv))
    (tmp_path / "conf").write_text(f"[control]\nrun_dir = {run_dir}\n")
    if how != "option":
        name, value = ("PYXCSR_RUN_DIR", run_dir) if how == "variable" else ("PYXCSR_CONFIG", tmp_path / "conf")
        monkeypatch.setenv(name, str(value))
    words = [command, str(domid), *(["--run-dir", str(run_dir)] if how == "option" else [])]
    words += ["--seconds", "1"] if command == "dirty-rate" else []
    with holding(run_dir, domid) as other:
        before = hv.stub.calls().get("xc_logdirty_control")
        assert main.main(words) in (1, 2)
        assert f"(process {other.pid}) saves it; wait until that is over" in capsys.readouterr().err
        assert hv.stub.calls().get("xc_logdirty_control") == before


@pytest.mark.usefixtures("alone")
def test_no_save_begins_while_a_guest_is_recovered(
    hv: StubBackend, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    monkeypatch.setattr(recover, "opened", lambda *_: OnXen(hv))
    refused: list[BaseException] = []

    def meanwhile(_hv: object, _domid: int) -> bool:
        with pytest.raises(pyxcsr.BeingSaved, match=f"process {os.getpid()}") as caught, open("/dev/null", "wb") as out:
            pyxcsr.save(hv, domid, out, live=False, control=pyxcsr.Control(str(run_dir)))
        refused.append(caught.value)
        return False

    monkeypatch.setattr(recovery, "withdraw", meanwhile)
    assert main.main(["recover", "--run-dir", str(run_dir), str(domid)]) == 0 and hv.stub.guest(domid).running
    assert len(refused) == 1 and os.listdir(run_dir) == [], "the lock is gone"


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("place", ["of another kind", "open to all", "none"])
def test_a_guest_is_recovered_where_there_can_be_no_lock(
    hv: StubBackend, run_dir: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    monkeypatch.setattr(recover, "opened", lambda *_: OnXen(hv))
    if place == "of another kind":
        run_dir.write_text("")
    elif place == "open to all":
        run_dir.mkdir()
        run_dir.chmod(0o777)
    where = "none" if place == "none" else str(run_dir)
    assert main.main(["recover", "--run-dir", where, str(domid)]) == 0 and hv.stub.guest(domid).running


@pytest.mark.usefixtures("alone")
def test_a_settings_file_that_is_wrong_does_not_keep_a_guest_from_being_recovered(
    hv: StubBackend, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    monkeypatch.setattr(recover, "opened", lambda *_: OnXen(hv))
    (tmp_path / "conf").write_text("[control]\nrundir = /run\n")
    monkeypatch.setenv("PYXCSR_CONFIG", str(tmp_path / "conf"))
    monkeypatch.setattr(folder_name, "__defaults__", (str(run_dir),))  # in place of /run/pyxcsr, which all tests share
    assert main.main(["recover", str(domid)]) == 0 and hv.stub.guest(domid).running
    assert os.listdir(run_dir) == []
    assert "no setting 'rundir'" in capsys.readouterr().err


def test_no_such_guest_to_measure(
    hv: StubBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dirty_rate, "opened", lambda *_: OnXen(hv))
    assert main.main(["dirty-rate", "4711"]) == 2 and "4711" in capsys.readouterr().err
