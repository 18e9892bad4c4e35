"""A guest is destroyed only when somebody has said that its image has arrived; else it runs on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support.judge import judge_rules

import pyxcsr
from cli.programs import GUEST, SAVE, run
from pyxcsr import programs
from pyxcsr.cli import main, receiver
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.hypervisor.open import StubBackend


@pytest.fixture
def ends(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has become of the guest when the command closes its hypervisor. The stub's machine is empty before."""
    seen: list[str] = []
    close = StubBackend.close

    def look(self: StubBackend) -> None:
        if self._handle is not None:
            left = [x for x in self.domains() if x.domid and not x.dying]
            seen.append("gone" if not left else "suspended" if left[-1].suspended else "runs")
        close(self)

    monkeypatch.setattr(StubBackend, "close", look)
    return seen


def save(*words: str) -> int:
    return main.main(["save", "--backend", "stub", "--quiet", "--then", "destroy", *words, GUEST])


def test_a_receiver_that_has_it(ends: list[str], tmp_path: Path) -> None:
    assert save("--receiver", f"cat > {tmp_path}/s") == 0
    assert ends == ["gone"]
    judge_rules(tmp_path / "s", xen=False)


def test_a_receiver_that_fails_while_sigchld_is_ignored() -> None:
    """A program inherits that from the one that started it, and the kernel keeps no status of a child then."""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    receiver = "cat > /dev/null; exit 1"
    words = ["save", "--backend", "stub", "--quiet", "--then", "destroy", "--receiver", receiver, GUEST]
    done = run(*words, preexec_fn=ignore)
    assert done.returncode == 1 and b"status 1) does not have the stream" in done.stderr, done.stderr


def test_a_program_of_a_process_that_ignores_sigchld(hv: StubBackend, tmp_path: Path) -> None:
    """By the package: whoever ignores the signal may mean it, so that it is an error before the guest is touched."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse(GUEST))
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with open(tmp_path / "s", "wb") as out, pytest.raises(pyxcsr.UsageError, match="SIGCHLD is ignored"):
            pyxcsr.save(hv, domid, out, compress="zstd")
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not hv.domain_info(domid).suspended and (tmp_path / "s").read_bytes() == b""
    hv.stub.destroy(domid)


@pytest.mark.parametrize("then", ["resume", "pause", "destroy"])
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cat > /dev/null; exit 1", "status 1) does not have the stream"),
        ("(cat >/dev/null; exit 1)", "status 1) does not have"),
        ("cat > /dev/null; kill -9 $$", "signal 9) does not have"),
        ("head -c 100000 > /dev/null", "status 0) stopped reading"),
        ("true", "stopped reading"),
        ("exec <&-; sleep 60", "still runs) stopped reading"),
        ("cat > /dev/null; sleep 60", "has not ended 0.5 seconds after"),
        ("there-is-no-such-program", "status 127)"),
    ],
)
def test_a_receiver_that_has_not(
    ends: list[str], command: str, words: str, then: str, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    assert save("--receiver", command, "--receiver-timeout", "0.5", "--then", then) == 1
    assert ends == ["runs"]
    assert words in capfd.readouterr().err and time.monotonic() - begun < 30


@pytest.mark.parametrize("left", [1, 4096, 60000])
def test_a_receiver_that_leaves_the_end_in_the_pipe(
    ends: list[str], tmp_path: Path, left: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """It ends with status 0, and what it has not read was taken by the pipe."""
    plain = tmp_path / "plain"
    assert save("--no-live", "--receiver", f"cat > {plain}") == 0
    size = plain.stat().st_size
    assert save("--no-live", "--receiver", f"head -c {size - left} > {tmp_path}/s") == 1
    assert ends == ["gone", "runs"]
    told = capfd.readouterr().err  # which of the two depends on who is faster
    assert f"left {left} bytes of the stream unread" in told or "stopped reading" in told


def test_a_receiver_that_reads_nothing_can_be_cancelled(tmp_path: Path) -> None:
    words = [*SAVE, "--then", "destroy", "--receiver", f"echo begun > {tmp_path}/begun; exec sleep 60", GUEST]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM, "and the pipe of its children is closed, or this hangs"
        assert process.stderr is not None and b"cancelled" in process.stderr.read()


def test_what_the_receiver_prints_is_not_in_the_report(tmp_path: Path) -> None:
    done = run("--json", "--receiver", "wc -c", GUEST, command=SAVE)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["ok"] is True and report["receiver"] == "wc -c" and report["file"] is None
    assert done.stderr.split() == [str(report["bytes"]).encode()]


def test_an_xl_file_is_given_whole(tmp_path: Path) -> None:
    from support import containers as c

    (tmp_path / "config").write_bytes(c.text_of(c.config()))
    guest = f"{GUEST},name=guest"
    words = ("--format", "xl", "--config", tmp_path / "config", "--receiver", f"cat > {tmp_path}/s", "--quiet")
    assert run(*words, guest, command=SAVE).returncode == 0
    assert run("verify", "--quiet", tmp_path / "s").returncode in (0, 1)
    assert (tmp_path / "s").read_bytes().startswith(b"Xen saved domain") and (
        json.loads(run("verify", "--json", tmp_path / "s").stdout)["container"]["complete"] is True
    )


@pytest.mark.parametrize("where", ["-", "/dev/null", "fifo"])
def test_without_one_the_guest_is_not_put_at_risk(ends: list[str], where: str, tmp_path: Path) -> None:
    if where == "fifo":
        os.mkfifo(tmp_path / "fifo")
        where = os.fspath(tmp_path / "fifo")
    done = run("--then", "destroy", GUEST, where, command=SAVE)
    assert done.returncode == 2 and done.stdout == b"" and b"--receiver COMMAND" in done.stderr


def test_a_socket_as_standard_output_is_refused() -> None:
    ours, theirs = socket.socketpair()
    done = run("--then", "destroy", GUEST, "-", command=SAVE, stdout=theirs)
    assert done.returncode == 2 and b"--receiver" in done.stderr
    ours.close()
    theirs.close()


def test_a_file_as_standard_output_is_synced_and_will_do(tmp_path: Path) -> None:
    with open(tmp_path / "s", "wb") as out:
        assert run("--then", "destroy", GUEST, "-", command=SAVE, stdout=out).returncode == 0
    judge_rules(tmp_path / "s", xen=False)


@pytest.mark.parametrize(
    "words", [(), ("f", "--receiver", "cat"), ("--receiver", "cat", "--checksum"),
              ("--receiver", "cat", "--receiver-timeout", "0")]
)  # fmt: skip
def test_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(GUEST, *words, command=SAVE, cwd=tmp_path)
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []


def test_the_guest_goes_on_before_its_receiver_is_waited_for(tmp_path: Path) -> None:
    """--then resume: what takes the stream may take its time."""
    done = run(GUEST, "--json", "--receiver", "cat > /dev/null; sleep 5", command=SAVE)
    assert done.returncode == 0 and json.loads(done.stdout)["seconds_paused"] < 4


@pytest.mark.parametrize("then", ["pause", "destroy"])
@pytest.mark.parametrize("ended", ["by its time", "by a signal"])
@pytest.mark.parametrize("compress", [(), ("--compress", "zstd")])
def test_no_copy_begins_once_the_guest_goes_on(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, ended: str, compress: tuple[str, ...]
) -> None:
    """It has all of the stream and is slow: it is ended first, and if that is not heeded, by force."""
    runs: list[int] = []
    resume = StubBackend.domain_resume

    def goes_on(self: StubBackend, domid: int) -> None:
        runs.append(len(alive(tmp_path)))
        resume(self, domid)

    monkeypatch.setattr(StubBackend, "domain_resume", goes_on)
    monkeypatch.setattr(programs, "GRACE", 0.2)
    command = f"trap '' TERM; echo $$ > {tmp_path}/pid; cat > /dev/null; touch {tmp_path}/has; sleep 60"
    words = [*compress, "--receiver-timeout", "0.5" if ended == "by its time" else "60", "--then", then]
    if ended == "by a signal":
        monkeypatch.setattr(receiver, "POLL", 0.05)
        monkeypatch.setattr(CancelBySignal, "__call__", lambda self: (tmp_path / "has").exists())
    assert save(*words, "--receiver", command) == 1
    assert runs == [0], "the receiver had ended when the guest went on"


def alive(folder: Path) -> list[Path]:
    return [x for x in [Path("/proc") / (folder / "pid").read_text().strip()] if x.exists()]


@pytest.mark.parametrize("trap", ["trap '' TERM", "trap 'echo given up >&2; exit 0' TERM"])
@pytest.mark.parametrize(("then", "guest"), [("destroy", "suspended"), ("resume", "runs"), ("pause", "runs")])
def test_a_receiver_that_ends_well_once_it_is_told_to_may_have_the_stream(
    ends: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], trap: str, then: str, guest: str
) -> None:
    """It may have let a copy run, or have given up in good order: the guest is not destroyed, and it is no success."""
    command = f"{trap}; cat > {tmp_path}/s; sleep 1 & wait; exit 0"
    assert save("--receiver-timeout", "0.3", "--receiver", command, "--then", then) == 1
    assert ends == [guest]
    assert "nobody can tell whether it has the stream" in capfd.readouterr().err
    judge_rules(tmp_path / "s", xen=False)


def test_the_end_of_a_stream_that_was_not_read_in_time_is_not_given(ends: list[str], tmp_path: Path) -> None:
    """One that reads on while it is being ended does not find the stream's end."""
    plain = tmp_path / "plain"
    assert save("--no-live", "--receiver", f"cat > {plain}") == 0
    most = plain.stat().st_size - 60000
    command = f"trap '' TERM; head -c {most} > {tmp_path}/s; sleep 1; cat >> {tmp_path}/s; touch {tmp_path}/end"
    assert save("--no-live", "--receiver-timeout", "0.3", "--receiver", command) == 1
    assert ends == ["gone", "runs"] and not (tmp_path / "end").exists()


def test_the_api_leaves_the_decision_to_its_caller(hv: StubBackend) -> None:
    """docs/api.md's example, with a receiver that fails."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with subprocess.Popen(["sh", "-c", "cat > /dev/null; exit 1"], stdin=subprocess.PIPE) as receiver:
        assert receiver.stdin is not None
        pyxcsr.save(hv, domid, receiver.stdin)
        assert hv.domain_info(domid).suspended
        receiver.stdin.close()
        assert receiver.wait() == 1
    hv.domain_resume(domid)
    assert hv.stub.guest(domid).running
