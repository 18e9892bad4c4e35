"""Found in review: what the save command did to files, to signals and to the guest afterwards."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge_rules

import pyxcsr
from pyxcsr.cli import main, output
from pyxcsr.errors import OutputError
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.pause import Pause

GUEST = "pv64:mem=8M,writes=20"
SAVE = [sys.executable, "-m", "pyxcsr.cli.main", "save", "--backend", "stub", GUEST]


def test_dev_stdout_is_standard_output(tmp_path: Path) -> None:
    """A pipe: what is printed besides must not end up behind the stream."""
    done = subprocess.run([*SAVE, "/dev/stdout"], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0 and b"live save of domain" in done.stderr
    (tmp_path / "s").write_bytes(done.stdout)
    judge_rules(tmp_path / "s", xen=False)


def test_dev_stdout_redirected_to_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "name").symlink_to("/dev/stdout")
    with open(tmp_path / "s", "wb") as out:
        command = [*SAVE, str(tmp_path / "name"), "--force"]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "name").is_symlink()
    judge_rules(tmp_path / "s", xen=False)


def test_standard_output_closed(tmp_path: Path) -> None:
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *SAVE, "-"], stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 2 and b"Traceback" not in done.stderr and b"closed" in done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_followed(tmp_path: Path, there: bool) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    if there:
        (tmp_path / "disk").write_bytes(b"old")
    done = subprocess.run([*SAVE, str(tmp_path / "link"), *["--force"] * there], check=False, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "disk").is_symlink()
    judge_rules(tmp_path / "disk", xen=False)
    assert {x.name for x in tmp_path.iterdir()} == {"link", "disk"}


def no_links(source: Any, target: Any) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "image"
    with output.stream_output(os.fspath(path), False) as fd:
        os.write(fd, b"ours")
    assert path.read_bytes() == b"ours" and list(tmp_path.iterdir()) == [path]


def test_without_hard_links_a_file_that_came_into_being_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "image"
    with pytest.raises(pyxcsr.OutputError, match="meanwhile"), output.stream_output(os.fspath(path), False) as fd:
        os.write(fd, b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_synced_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, []

    def second_fails(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(OutputError), output.stream_output(os.fspath(tmp_path / "image"), False):
        pass
    assert len(calls) == 2 and list(tmp_path.iterdir()) == []


def test_what_is_kept_has_been_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "image", []

    def look(fd: int) -> None:
        seen.append(path.exists())

    monkeypatch.setattr(os, "fsync", look)
    with output.stream_output(os.fspath(path), False):
        pass
    assert seen == [False, True]


def test_a_partial_file_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    partial = tmp_path / f".image.{os.getpid()}.partial"
    partial.write_bytes(b"theirs")
    with pytest.raises(OutputError, match="cannot be created"), output.stream_output(str(tmp_path / "image"), False):
        pytest.fail("not reached")
    assert partial.read_bytes() == b"theirs"


def test_standard_output_that_is_a_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with open(tmp_path / "s", "wb") as out:
        output._sync(out.fileno(), "standard output")
        assert synced == [out.fileno()]
    reader, writer = os.pipe()
    output._sync(writer, "standard output")
    assert len(synced) == 1
    os.close(reader)
    os.close(writer)


def wait_until_caught(pid: int, number: int) -> None:
    """Until the process has a handler for a signal: how long its start takes depends on the machine."""
    for _ in range(600):
        status = Path(f"/proc/{pid}/status").read_text()
        caught = next(x for x in status.splitlines() if x.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (number - 1) & 1:
            return
        time.sleep(0.1)
    raise AssertionError(f"no handler for signal {number}")


def test_a_fifo_that_nobody_reads_can_be_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen([*SAVE, str(tmp_path / "fifo")], stderr=subprocess.PIPE) as process:
        wait_until_caught(process.pid, signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert process.stderr is not None and b"fifo" in process.stderr.read()


def test_a_fifo_with_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen([*SAVE, str(tmp_path / "fifo"), "--quiet"]) as process:
        (tmp_path / "s").write_bytes((tmp_path / "fifo").read_bytes())
        assert process.wait(10) == 0
    judge_rules(tmp_path / "s", xen=False)


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """As nohup does with SIGHUP: the save must survive the end of the session."""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
               "os.execv(sys.executable, sys.argv[1:])", *SAVE, "-"]  # fmt: skip
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        got = os.read(reader, 1000)  # the save has begun, and now waits for its reader
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        with open(reader, "rb") as stream:
            got += stream.read()
        assert process.wait(20) == 0
    (tmp_path / "s").write_bytes(got)
    judge_rules(tmp_path / "s", xen=False)


def states_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """(paused, suspended) of the guest when the command closes its hypervisor."""
    seen: list[tuple[bool, bool]] = []
    close = StubBackend.close

    def look(self: StubBackend) -> None:
        if self._handle is not None:
            newest = self.domains()[-1]
            seen.append((newest.paused, newest.suspended))
        close(self)

    monkeypatch.setattr(StubBackend, "close", look)
    return seen


@pytest.mark.parametrize("then", ["resume", "pause", "destroy"])
def test_a_file_that_cannot_be_kept_costs_no_guest(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sync(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    seen = states_seen(monkeypatch)
    monkeypatch.setattr(os, "fsync", no_sync)
    words = ["save", "--backend", "stub", GUEST, os.fspath(tmp_path / "s"), "--then", then, "--quiet"]
    assert main.main(words) == 1
    assert seen == [(False, False)]
    assert list(tmp_path.iterdir()) == []


def test_the_first_error_is_told_even_if_the_guest_cannot_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyxcsr.cli import save as command

    def fail(hv: StubBackend, domid: int, fd: int, **options: Any) -> Any:
        options["suspend"]()
        for n in range(1, 9):
            hv.stub.fail("xc_domain_resume", n, errno.EBUSY)
        raise OutputError("the first error", errno=errno.EIO, offset=0)

    monkeypatch.setattr(command, "save", fail)
    assert main.main(["save", "--backend", "stub", GUEST, os.fspath(tmp_path / "s"), "--quiet"]) == 1
    with pyxcsr.open_hypervisor("stub") as hv:
        hv.stub.reset()  # type: ignore[union-attr]
    told = capsys.readouterr().err
    assert "the first error" in told and "stays suspended: let it go on with `pyxcsr recover" in told


def test_nobody_is_told_to_resume_a_guest_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Pause.begin

    def destroyed(pause: Pause, *args: Any, **words: Any) -> None:
        real(pause, *args, **words)
        pause._hv.domain_destroy(pause._domid)
        pause.check_begun()

    monkeypatch.setattr(Pause, "begin", destroyed)
    assert main.main(["save", "--backend", "stub", GUEST, os.fspath(tmp_path / "s"), "--quiet"]) == 1
    with pyxcsr.open_hypervisor("stub") as hv:
        hv.stub.reset()  # type: ignore[union-attr]
    told = capsys.readouterr().err
    assert "domain" in told and "suspended: let it" not in told


def test_a_timeout_that_is_no_number(tmp_path: Path) -> None:
    done = subprocess.run([*SAVE, str(tmp_path / "s"), "--suspend-timeout", "nan"], capture_output=True, check=False)
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []
