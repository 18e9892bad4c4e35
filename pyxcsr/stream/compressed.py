"""Reading through a compression, which is recognised by the input's first bytes and undone by a program of its own.

Nothing that was looked at is lost: of a file it is read at its place, of a socket with MSG_PEEK, of a pipe with tee(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple, Optional

from pyxcsr.errors import InputError, StreamError, UsageError
from pyxcsr.processes import must_be_heard
from pyxcsr.programs import Program, what_it_said
from pyxcsr.stream.source import LOOKS, wait_for_input

HEAD = 6
"""The first bytes that tell a compression."""

BETWEEN = 0.01
"""Seconds between two looks at a pipe that has begun like a compression, and has not got as far as to tell."""

PIPE_SIZE = 1 << 20
STEP = 1 << 20
ENDING = 2.0
"""Seconds that a program has to end after its output has ended."""

XZ_MEMORY = 256 << 20
"""Bytes that xz may take. Files of `xz -9` need 65 MiB, and a made-up one 4 GiB; zstd has such a limit of its own."""

_F_SETPIPE_SZ = 1031  # <linux/fcntl.h>; Python's fcntl has it since 3.10


class Compression(NamedTuple):
    """A compression: how files of it begin, the program that undoes it, and the package that has the program.

    ``early``: what the program says, among other things, of a file that is cut off, and of no other.
    """

    name: str
    magic: bytes
    command: tuple[str, ...]
    package: str
    early: str


_ZSTD = (("zstd", "-dcq"), "zstd", "premature end")

COMPRESSIONS = (
    Compression("zstd", b"\x28\xb5\x2f\xfd", *_ZSTD),
    *(Compression("zstd", bytes([0x50 + at]) + b"\x2a\x4d\x18", *_ZSTD) for at in range(16)),
    Compression("lz4", b"\x04\x22\x4d\x18", ("lz4", "-dcq"), "lz4", "Unfinished stream"),
    Compression("gzip", b"\x1f\x8b", ("gzip", "-dcq"), "gzip", "unexpected end of file"),
    Compression("xz", b"\xfd7zXZ\0", ("xz", "-dcq", "-T0", "-M", str(XZ_MEMORY)), "xz-utils", "Unexpected end"),
    Compression("bzip2", b"BZh", ("bzip2", "-dc"), "bzip2", "ends unexpectedly"),  # with -q it would not say so
)
"""Each by its magic number; those of zstd with 0x5. begin a skippable frame, as pzstd writes one first."""

_FIRST = frozenset(x.magic[0] for x in COMPRESSIONS)


def compression_of(head: bytes) -> Optional[Compression]:
    """What an input that begins like this is compressed with, if with anything that is known here."""
    return next((x for x in COMPRESSIONS if head.startswith(x.magic)), None)


Poll = Callable[[], object]
Cut = Callable[[str], bool]


@contextmanager
def plain(
    fd: int,
    poll: Poll = lambda: None,
    rest: Callable[[], bool] = lambda: True,
    cut: Cut = lambda text: False,
) -> Iterator[int]:
    """``fd`` itself or, if what it gives is compressed, a pipe that gives what comes out of it.

    ``fd`` stays the caller's. Where the block has ended well, the rest is read, so that the program's own checks have
    been made; unless ``rest``, which is asked then, says that it is of no use: then the program is ended at once, and
    whether it has failed is not asked. If it has failed because the input is cut off, ``cut`` is told, in words, and
    returns whether that is no error, as of a stream whose sender has died. ``poll`` is called again and again while
    anything is waited for here; what it raises ends the wait. Raises UsageError where the program is not installed,
    InputError where it failed.
    """
    found = compression_of(_peek(fd, poll))
    if found is None:
        yield fd
        return
    if shutil.which(found.command[0]) is None:
        text = f"the input is compressed with {found.name}, and the program {found.command[0]} is not installed"
        raise UsageError(f"{text}: apt-get install {found.package}")
    must_be_heard(found.command[0])
    with tempfile.TemporaryFile() as said:
        yield from _through(fd, found, said, poll, rest, cut)


def _through(
    fd: int, found: Compression, said: IO[bytes], poll: Poll, rest: Callable[[], bool], cut: Cut
) -> Iterator[int]:
    english = {**os.environ, "LC_ALL": "C"}  # in which ``early`` is
    process = Program(found.command, stdin=fd, stdout=subprocess.PIPE, stderr=said, start_new_session=True, env=english)
    assert process.stdout is not None
    out = process.stdout.fileno()
    with suppress(OSError):  # a wish: an unprivileged user may have used up what pipes may take
        fcntl.fcntl(out, _F_SETPIPE_SZ, PIPE_SIZE)
    status = 0
    try:
        yield out
        if rest():
            status = _status_at_the_end(process, out, poll)
    except StreamError as error:
        with suppress(subprocess.TimeoutExpired):  # if its output has ended, it has failed, or will be done at once
            status = process.wait(ENDING) if _has_ended(out) else 0
            if status:
                error.args = (f"{error} ({what_it_said(said, found.command[0], status)})", *error.args[1:])
        raise
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.kill()
        process.wait()
    if status:
        why = what_it_said(said, found.command[0], status)
        if found.early not in why or not cut(f"the {found.name} file is cut off: its checksum could not be compared"):
            raise InputError(f"it cannot be decompressed: {why}", errno=errno.EIO)


def _status_at_the_end(process: Program, out: int, poll: Poll) -> int:
    """Reads what is left, and waits for the program's end."""
    wait_for_input(out, poll)
    while os.read(out, STEP):
        poll()
        wait_for_input(out, poll)
    while True:
        try:
            return process.wait(LOOKS / 1000)
        except subprocess.TimeoutExpired:
            poll()


# The first bytes


def _peek(fd: int, poll: Poll) -> bytes:
    """The first bytes of an input, which stay to be read; as many as are needed to tell. Empty where that cannot be."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return os.pread(fd, HEAD, os.lseek(fd, 0, os.SEEK_CUR))
    if stat.S_ISFIFO(mode):
        return _of_pipe(fd, poll)
    return _of_socket(fd, poll) if stat.S_ISSOCK(mode) else b""


def _enough(head: bytes) -> bool:
    return len(head) >= HEAD or (head != b"" and head[0] not in _FIRST)


def _of_socket(fd: int, poll: Poll) -> bytes:
    with socket.socket(fileno=os.dup(fd)) as peer:
        before = -1
        while True:
            wait_for_input(fd, poll)
            head = peer.recv(HEAD, socket.MSG_PEEK)
            if _enough(head) or not head or (len(head) == before and _has_ended(fd)):
                return head
            before = len(head)
            time.sleep(BETWEEN)
            poll()


def _of_pipe(fd: int, poll: Poll) -> bytes:
    """By tee(2), which Python has no name for: bytes go into a second pipe, and stay in the first."""
    try:
        import ctypes
    except ImportError:  # a Python without it: what is compressed is then told by the reader, with advice
        return b""
    tee = ctypes.CDLL(None, use_errno=True).tee
    tee.restype = ctypes.c_ssize_t
    while True:
        wait_for_input(fd, poll)
        ended = _has_ended(fd)
        read, write = os.pipe()
        try:
            got = tee(fd, write, ctypes.c_size_t(HEAD), 0)
            head = os.read(read, HEAD) if got > 0 else b""
        finally:
            os.close(read)
            os.close(write)
        if got < 0 and ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            return b""
        if _enough(head) or ended:
            return head
        time.sleep(BETWEEN)
        poll()


def _has_ended(fd: int) -> bool:
    """Whether nothing will be added to what is there."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLRDHUP)
    return any(event & (select.POLLHUP | select.POLLRDHUP) for _, event in poll.poll(0))
