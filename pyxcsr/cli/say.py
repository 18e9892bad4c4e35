"""All that a command prints goes through here, and never decides what becomes of its work.

A *report* is what a command was run for. It is written completely, however slowly its reader takes it, and if that is
impossible the program says so by its exit status once the work is done. *Notes* and progress are a courtesy: what
cannot be written in time is dropped. sys.stdout and sys.stderr are not written to, because they lose text on a
descriptor in non-blocking mode and raise once more when Python ends.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Optional

PATIENCE = 2.0
"""Seconds that a note waits for a reader that does not take it: a guest may be waiting, too."""

STEP = 4096
"""A pipe that poll() calls writable takes so many bytes at once (PIPE_BUF) without blocking."""

GATHERED = 1 << 16
"""Characters of a report that are written together."""


class Undelivered(Exception):
    """The report's reader has gone, or has no room: for a command that does nothing but report, a reason to end."""


class _Said:
    """What the program has to say but has not written yet, and what became of what it has."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.size = 0
        self.beside = False
        self.lost: Optional[OSError] = None


_said = _Said()


def begin() -> None:
    """Begins anew: nothing is said yet, and nothing is lost."""
    global _said  # noqa: PLW0603 - one program, one mouth
    _said = _Said()


def report(text: str, *, beside: bool = False) -> None:
    """A part of the report, with a newline; ``beside``: on standard error, because a stream goes to standard output."""
    if _said.beside != beside:
        flush()
        _said.beside = beside
    _said.waiting.append(text + "\n")
    _said.size += len(text) + 1
    if _said.size >= GATHERED:
        flush()


def flush() -> None:
    """Writes what is gathered of the report. A failure is remembered, and what follows is dropped."""
    text, _said.waiting, _said.size = "".join(_said.waiting), [], 0
    if not text or _said.lost:
        return
    try:
        write(sys.stderr if _said.beside else sys.stdout, text)
    except OSError as problem:
        _said.lost = problem


def check_delivered() -> None:
    """Raises Undelivered if the report is lost already."""
    if _said.lost:
        raise Undelivered


def lost() -> Optional[OSError]:
    """Why the report could not be written, after all of it has been tried; None if it was."""
    flush()
    return _said.lost


def note(text: str) -> None:
    """A line on standard error, with the program's name. It never fails; a reader that does not read loses it."""
    attempt(sys.stderr, f"pyxcsr: {text}\n", PATIENCE)


def attempt(stream: Any, text: str, patience: float) -> bool:
    """Writes ``text`` if it can be written within ``patience`` seconds; whether it was."""
    try:
        write(stream, text, patience)
    except OSError:
        return False
    return True


def write(stream: Any, text: str, patience: Optional[float] = None) -> None:
    """Writes all of ``text``. Raises OSError: EBADF if the stream is closed, EAGAIN if ``patience`` was not enough."""
    if stream is None:
        raise OSError(errno.EBADF, "it is closed")
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):  # no file: a program that calls main() has put something there
        _hand_over(stream, text)
        return
    _write_all(fd, encoded(text, getattr(stream, "encoding", None) or "utf-8"), patience)


def _hand_over(stream: Any, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except ValueError as error:
        raise OSError(errno.EBADF, "it is closed") from error


def encoded(text: str, encoding: str) -> bytes:
    """For an output: file names come out as the bytes that they are, and no character is an error."""
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace")


def _write_all(fd: int, data: bytes, patience: Optional[float]) -> None:
    until = None if patience is None else time.monotonic() + patience
    view = memoryview(data)
    while view:
        if until is not None:
            _wait(fd, until)
        try:
            view = view[os.write(fd, view if until is None else view[:STEP]) :]
        except BlockingIOError:  # in non-blocking mode, which somebody else wanted
            _wait(fd, until)


def _wait(fd: int, until: Optional[float]) -> None:
    """Until it takes something, or shows by an error that it never will. Raises BlockingIOError when time is up."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    left = None if until is None else max(0.0, until - time.monotonic()) * 1000
    if not poll.poll(left):
        raise BlockingIOError(errno.EAGAIN, "nobody reads it")


def occupy_closed() -> None:
    """Where descriptor 0, 1 or 2 is closed, puts one there that can be used for nothing.

    Else a guest's image might be opened as number 2, and libxenctrl would write its messages into it.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != fd:  # descriptors are given out from the lowest: only if 0 could not be taken
                os.dup2(opened, fd)
                os.close(opened)
