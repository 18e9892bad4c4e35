"""A stream that goes through a compressor on its way out.

The program writes to the output itself. What it has not taken yet must not prolong the pause: the saver waits for it
before it has the guest suspended (``settle``), for SETTLE seconds at most. As far as one can know, a program has taken
and worked off everything when the pipe is empty and all its threads sleep.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Optional

from pyxcsr.errors import OutputError, UsageError
from pyxcsr.programs import Fed, Packing, packing, what_it_said
from pyxcsr.transfer.descriptor import output_descriptor

if TYPE_CHECKING:
    from pyxcsr.transfer.descriptor import Stream

SETTLE = 2.0
"""Seconds for which a compressor is waited for before the guest is suspended."""

POLL = 0.002
"""Seconds between two looks at the program."""

CALM = 3
"""Looks that must find the program asleep one after the other: it may sleep for a moment between two pieces of work."""

ENDING = 2.0
"""Seconds that a program which has stopped reading has to end."""

Poll = Callable[[], object]
"""Called again and again while something is waited for; raises to end that."""


class Compressor:
    """A running compressor, as an output for :func:`pyxcsr.save`.

    ``whole``: what it is given is one save's stream and nothing else: the save ends the program, and its stream is
    complete when the program has ended well. Else the owner calls ``finish``.
    """

    def __init__(self, program: Fed, command: str, out: int, said: IO[bytes], whole: bool):
        self._program, self._command, self._said, self.whole = program, command, said, whole
        self._out, self._start = out, _position(out)
        self.finished = False
        self.bytes_out: Optional[int] = None
        """What the program has written, once it has finished; None where the output is no file."""

    def fileno(self) -> int:
        """The descriptor to write to."""
        return self._program.fd

    @property
    def out(self) -> int:
        """The descriptor that the program writes to."""
        return self._out

    def settle(self, poll: Poll) -> float:
        """Waits until the program seems to have worked off what it was given. Returns the seconds."""
        began, calm = time.monotonic(), 0
        while calm < CALM and time.monotonic() - began < SETTLE:
            poll()
            if self._program.process.poll() is not None:
                raise self.failed("ended before the stream did")
            calm = calm + 1 if not self._program.unread() and _sleeps(self._program.process.pid) else 0
            time.sleep(POLL)
        return time.monotonic() - began

    def finish(self, poll: Poll) -> None:
        """Ends the program's input and waits for its end. Raises OutputError if it has failed, and what poll raises."""
        self._program.close()
        try:
            while self._program.process.poll() is None:
                poll()
                time.sleep(POLL)
        except BaseException:  # the guest goes on next, and by then nobody may be about to make the stream whole
            self._program.kill()
            self.finished = self._program.process.returncode == 0  # it was whole by now: then the guest stays suspended
            raise
        if self._program.process.returncode:
            raise self.failed("has not compressed all of the stream")
        end = _position(self._out)
        self.bytes_out = None if end is None or self._start is None else end - self._start
        self.finished = True

    def failed(self, what: str) -> OutputError:
        """The error that says so, and how the program has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._program.process.wait(ENDING)
        status = self._program.process.returncode
        text = f"{self._command} {what}"
        if status is not None:
            text += f" ({what_it_said(self._said, self._command, status)})"
        return OutputError(text, errno=errno.EPIPE, command=self._command, status=status)


@contextmanager
def compressing(out: Stream, words: str, *, whole: bool = False) -> Iterator[Compressor]:
    """A compressor that writes to ``out``. Unless it has been finished, the program is killed at the end.

    ``words``: zstd, zstd:LEVEL, lz4 or lz4:LEVEL. Raises UsageError for others, for an output that such a program
    cannot write to, and where it is not installed (with the name of its package), OutputError if it cannot be started
    or fails.
    """
    how = check(words)
    fd = output_descriptor(out)
    _check_output(fd)
    with tempfile.TemporaryFile() as said:
        program = _started(how, fd, said)
        compressor = Compressor(program, how.words[0], fd, said, whole)
        try:
            yield compressor
        except OutputError as error:
            if error.facts.get("errno") != errno.EPIPE or "command" in error.facts:
                raise
            raise compressor.failed("stopped reading before the end of the stream") from error
        finally:
            program.kill()


def check(words: str) -> Packing:
    """What is to be run. Raises UsageError for words that mean nothing, and for a program that is not installed."""
    if not isinstance(words, str):
        raise UsageError(f'compress is {words!r}: give "zstd", "zstd:LEVEL", "lz4" or "lz4:LEVEL"')
    how = packing(words)
    if shutil.which(how.words[0]) is None:
        raise UsageError(f"compressing with {words} needs the program {how.words[0]}: apt-get install {how.package}")
    return how


def _check_output(fd: int) -> None:
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        raise UsageError(
            "a compressed stream cannot be written to a block device: nothing would tell where it ends. Give a file"
        )
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK:
        raise UsageError("a compressor cannot write to a descriptor in non-blocking mode")


def _started(how: Packing, fd: int, said: IO[bytes]) -> Fed:
    try:
        return Fed(how.words, stdout=fd, stderr=said, start_new_session=True)
    except OSError as error:
        raise OutputError(f"{how.words[0]} cannot be started: {error.strerror}", errno=error.errno or 0) from error


def _position(fd: int) -> Optional[int]:
    return os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(fd).st_mode) else None


def _sleeps(pid: int) -> bool:
    """Whether none of its threads runs or waits for a disk."""
    try:
        tasks = [(x / "stat").read_bytes() for x in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # a thread has ended meanwhile
        return False
    return all(x.rpartition(b")")[2].split()[:1] == [b"S"] for x in tasks)
