"""A signal ends `pyxcsr restore` also before anything has come, and while a compressed input's end is waited for."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.programs import COMMAND, GUEST, SAVE, run
from pyxcsr.cli import checksum
from pyxcsr.errors import Cancelled

RESTORE = [*COMMAND, "restore", "--backend", "stub"]
WAIT = 30
"""Seconds, for a machine with much else to do. What did not hear a signal was waiting without end."""


def ends_by(process: subprocess.Popen[bytes], number: int) -> bytes:
    """Sends the signal once the program has installed its handlers; returns what it says."""
    until = time.monotonic() + WAIT
    while not caught(process.pid) & 1 << (signal.SIGTERM - 1):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=WAIT)
    finally:
        process.kill()
    assert process.returncode == 128 + number, said
    return said


def caught(pid: int) -> int:
    """The signals that a process has handlers for."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(x for x in text.splitlines() if x.startswith("SigCgt:")).split()[1], 16)


def pair(kind: str) -> tuple[int, int]:
    if kind == "pipe":
        return os.pipe()
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("begin", [b"", b"\x1f"], ids=["nothing", "the first byte of gzip's two"])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_while_the_first_byte_is_waited_for(kind: str, begin: bytes, number: int) -> None:
    read, write = pair(kind)
    os.write(write, begin)
    process = subprocess.Popen([*RESTORE, "-"], stdin=read, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(read)
    try:
        said = ends_by(process, number)
    finally:
        os.close(write)
    assert b"cancelled while its input was waited for; no domain was touched" in said


def test_while_a_fifo_has_no_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = subprocess.Popen([*RESTORE, tmp_path / "fifo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"no domain was touched" in ends_by(process, signal.SIGTERM)


def test_a_fifo_by_name_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert run(GUEST, tmp_path / "s", command=SAVE).returncode == 0
    process = subprocess.Popen([*RESTORE, tmp_path / "fifo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    with (tmp_path / "fifo").open("wb", buffering=0) as to:
        data = (tmp_path / "s").read_bytes()
        for at in range(0, len(data), 1 << 20):
            to.write(data[at : at + (1 << 20)])
    _, said = process.communicate(timeout=WAIT)
    assert process.returncode == 0, said


def test_while_the_end_of_a_compressed_input_is_waited_for(tmp_path: Path) -> None:
    """The stream is complete, and gzip is still given more; gzip waits for whole buffers."""
    assert run(GUEST, tmp_path / "s", command=SAVE).returncode == 0
    packed = gzip.compress((tmp_path / "s").read_bytes(), 1) + gzip.compress(os.urandom(1 << 19))
    read, write = os.pipe()
    words, pipes = [*RESTORE, "--progress", "-"], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, stdin=read, bufsize=0, **pipes)
    os.close(read)
    try:
        with open(write, "wb", buffering=0, closefd=False) as to:
            for at in range(0, len(packed), 1 << 16):
                to.write(packed[at : at + (1 << 16)])
        assert process.stderr is not None
        while not process.stderr.readline().startswith(b"completing the domain"):
            assert process.poll() is None
        said = ends_by(process, signal.SIGTERM)
    finally:
        os.close(write)
    assert b"is complete and paused, but whether its input was sound is not known" in said


def raising(after: int) -> Callable[[], None]:
    left = [after]

    def poll() -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Cancelled("enough")

    return poll


@pytest.mark.parametrize("after", [1, 3])
def test_while_a_checksum_is_made(tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xxhash")
    monkeypatch.setattr(checksum, "STEP", 1 << 16)
    (tmp_path / "s").write_bytes(bytes(1 << 20))
    with (tmp_path / "s").open("rb") as file, pytest.raises(Cancelled):
        checksum.digest(file.fileno(), raising(after))
