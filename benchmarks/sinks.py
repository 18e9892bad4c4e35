"""Where streams go: the outputs that are compared, each with a process at its other end where it needs one."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.native import pump

F_SETPIPE_SZ = 1031
PIPE_BYTES = 1 << 20
SOCKET_BYTES = 4 << 20
KINDS = ("null", "pipe", "socketpair", "tmpfs")


@contextmanager
def _drained(fd: int, rate: float = 0) -> Iterator[None]:
    """A process that reads and drops what comes out of ``fd``, and ends when nothing can come any more.

    ``rate``: bytes a second at most; 0: as fast as it can.
    """
    with subprocess.Popen([str(pump()), "drain", *([str(rate)] if rate else [])], stdin=fd) as process:
        os.close(fd)
        try:
            yield
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


@contextmanager
def null() -> Iterator[int]:
    """/dev/null."""
    fd = os.open("/dev/null", os.O_WRONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def pipe() -> Iterator[int]:
    """A pipe of 1 MiB, read by another process."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, PIPE_BYTES)
    with _drained(reader):
        try:
            yield writer
        finally:
            os.close(writer)


@contextmanager
def link(rate: float) -> Iterator[int]:
    """A pipe whose reader takes so many bytes a second. A save makes it hold 1 MiB, about as much as a network's send
    buffer holds; what lies in it when the stream is complete is not part of the pause."""
    reader, writer = os.pipe()
    with _drained(reader, rate):
        try:
            yield writer
        finally:
            os.close(writer)


@contextmanager
def socketpair() -> Iterator[int]:
    """One end of a pair of stream sockets with buffers of 4 MiB if the system lets us; another process reads."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    with _drained(theirs.detach()), ours:
        yield ours.fileno()


@contextmanager
def tmpfs() -> Iterator[int]:
    """A file in memory that has all its pages already; :func:`rewind` before each run."""
    path = Path(f"/dev/shm/pyxcsr-benchmark-{os.getpid()}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened(kind: str) -> Iterator[int]:
    """The output of that kind."""
    with {"null": null, "pipe": pipe, "socketpair": socketpair, "tmpfs": tmpfs}[kind]() as fd:
        yield fd


def rewind(fd: int, kind: str) -> None:
    """Goes back to the beginning of an output that has one."""
    if kind == "tmpfs":
        os.lseek(fd, 0, os.SEEK_SET)
