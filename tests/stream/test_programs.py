"""Program: how a program ended is told as it was, and never as success where somebody else has its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.reaper import reaping

import pyxcsr
from pyxcsr.programs import TAKEN, Program, how_it_ended
from pyxcsr.stream.compressed import plain

FAKE = "#!/bin/sh\ncat >/dev/null; exit {}\n"


@pytest.mark.parametrize("poll", [True, False])
@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", -9)])
def test_the_status_is_the_programs(command: str, status: int, poll: bool) -> None:
    program = Program(["/bin/sh", "-c", command])
    while poll and program.poll() is None:
        time.sleep(0.001)
    assert program.wait() == program.wait(1) == program.poll() == program.returncode == status
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # no zombie stays


def test_waiting_ends_in_time() -> None:
    program = Program(["sleep", "60"])
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.01)
    assert program.poll() is None
    program.kill()
    assert program.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("command", ["exit 0", "exit 1", "sleep 0.05; exit 1"])
@pytest.mark.parametrize("timeout", [None, 30])
def test_an_end_that_somebody_else_has_is_no_success(command: str, timeout: float) -> None:
    with reaping() as had:
        program = Program(["/bin/sh", "-c", command])
        until = time.monotonic() + 30
        while timeout and program.pid not in had and time.monotonic() < until:
            time.sleep(0.001)
        status = program.wait(timeout)
    its_own = int(command[-1])
    if timeout and program.pid in had:
        assert status == TAKEN
    else:  # it may have been told before the other thread had it
        assert status in (TAKEN, its_own)
    assert "not known" in how_it_ended(TAKEN)


def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A zstd that reads all and says so by its status alone."""
    (tmp_path / "zstd").write_text(FAKE.format(status))
    (tmp_path / "zstd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_a_save_through_a_program_that_fails(
    hv: pyxcsr.Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes(tmp_path, monkeypatch, 1)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))  # type: ignore[attr-defined]
    with reaping(), open(tmp_path / "s", "wb") as out, pytest.raises(pyxcsr.OutputError, match="zstd"):
        pyxcsr.save(hv, domid, out, compress="zstd")
    assert hv.stub.guest(domid).state().running  # type: ignore[attr-defined]


def test_an_input_through_a_program_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that finds that its content's checksum is wrong."""
    fakes(tmp_path, monkeypatch, 1)
    (tmp_path / "s").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    failing = pytest.raises(pyxcsr.InputError, match="decompressed")
    with reaping(), open(tmp_path / "s", "rb") as file, failing, plain(file.fileno()) as fd:
        assert os.read(fd, 1) == b""
