"""Programs that are given a stream by their standard input, and the compressors among them."""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple, Optional

from pyxcsr.errors import UsageError
from pyxcsr.processes import descendants, must_be_heard, send

LEAST, MOST = -50, 19
"""zstd's levels; those below 0 are its fast ones."""

LZ4_MOST = 12
"""lz4's levels are 1 to 12."""

FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where xl, and the programs of a migration, are looked for besides PATH, which cron, su and ssh may leave short."""

LOOK = 0.001
"""Seconds between two looks at a program that is waited for."""

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for a program that is no longer wanted."""


TAKEN = 256
"""A program's status, which no program has, where it is not known."""


class Program(subprocess.Popen[bytes]):
    """A program whose status is never taken for 0 because somebody else has it.

    A thread or a handler of this process may wait for any child, and the kernel tells each child's end once only.
    ``subprocess`` takes it for success if there is no end to be told. Here that is TAKEN.
    """

    def poll(self) -> Optional[int]:
        if self.returncode is not None:
            return self.returncode
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # its end stays to be told
        except ChildProcessError:
            self.returncode = TAKEN
            return TAKEN
        if found is None:
            return None
        super().wait()
        self.returncode = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is None:
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            elif time.monotonic() >= until:
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            else:
                time.sleep(LOOK)
        return status


def how_it_ended(status: int) -> str:
    """A program's status as Program gives it, in words."""
    if status == TAKEN:
        return "a status that is not known: this process waits for its children elsewhere, too"
    return f"status {status}" if status >= 0 else f"signal {-status}"


SAID = 300
"""Bytes of what a program says on standard error that are passed on."""


def what_it_said(said: IO[bytes], program: str, status: int) -> str:
    """A program's own words for its failure, out of the file that was its standard error."""
    said.seek(0)
    text = " ".join(said.read(SAID).decode("utf-8", "replace").split())
    return text if program in text else f"{program}, {how_it_ended(status)}: {text or 'it gave no reason'}"


class Fed:
    """A program, started with a pipe as its standard input. ``fd``: where to write; -1 once it is closed.

    ``options``: as of subprocess.Popen. Raises OSError if it cannot be started, UsageError where SIGCHLD is ignored.
    """

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        must_be_heard(words[0])
        theirs, self.fd = os.pipe()
        try:
            self.process = Program(words, stdin=theirs, **options)
        except OSError:
            self.close()
            raise
        finally:
            os.close(theirs)

    def close(self) -> None:
        """The program's input ends."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def unread(self) -> int:
        """Bytes in the pipe; the ioctl answers at the end that writes, too."""
        count = array.array("i", [0])
        fcntl.ioctl(self.fd, termios.FIONREAD, count)
        return count[0]

    def nobody_reads(self) -> bool:
        """Whether the pipe's other end is closed."""
        poll = select.poll()
        poll.register(self.fd, 0)  # POLLERR is told unasked
        return bool(poll.poll(0))

    def end(self) -> None:
        """Ends the program and what it has started, if that still runs; then all of them are gone.

        Only then does its input end: the end of what it is given must not look to it like the end of all.
        """
        if self.process.poll() is None:
            family = [self.process.pid, *descendants(self.process.pid)]
            send(family, signal.SIGTERM)
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                send(family, signal.SIGKILL)
                self.process.wait()
        self.close()

    def kill(self) -> None:
        """Ends the program before its input ends, so that it does not finish what it writes."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
        self.close()


# Compressors


class Packing(NamedTuple):
    """A way to compress: the program's words, and the package that has it."""

    words: tuple[str, ...]
    package: str


def zstd_level(text: str) -> int:
    """A level from text. Raises ValueError."""
    level = int(text)
    if not LEAST <= level <= MOST or not level:
        raise ValueError(text)
    return level


def zstd_option(level: int) -> str:
    """A level as an option of the zstd program."""
    return f"--fast={-level}" if level < 0 else f"-{level}"


JOB = "-B2M"
"""What one of zstd's threads takes at once. By default a high level takes up to 32 MiB, which would all be on its way
when the guest is suspended."""


def packing(text: str) -> Packing:
    """What ``zstd``, ``zstd:LEVEL``, ``lz4`` or ``lz4:LEVEL`` stands for; all cores. Raises UsageError for other words.

    (lz4 uses one core before its release 1.10, and all of them since without being told.)
    """
    name, colon, level = text.partition(":")
    try:
        if name == "zstd":
            number = zstd_level(level) if colon else 3
            return Packing(("zstd", "-cq", "-T0", JOB, zstd_option(number)), "zstd")
        if name == "lz4" and (not colon or 1 <= int(level) <= LZ4_MOST):
            return Packing(("lz4", "-cq", f"-{int(level) if colon else 1}"), "lz4")
    except ValueError:
        pass
    raise UsageError(
        f"there is no compression {text!r}: give zstd, zstd:LEVEL ({LEAST} to {MOST} without 0; 3), lz4 or lz4:LEVEL "
        f"(1 to {LZ4_MOST}; 1)"
    )
