"""Lines that go out as far as their reader takes them, and never make the save wait."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Union

MOST = 1 << 16
"""Bytes that wait for a slow reader; what comes on top is left out."""

PIECE = 4096
"""What is written at once."""


class Outlet:
    """A descriptor that lines are written to. ``write``: takes bytes, without waiting; returns how many it took.

    A reader may be slow (lines are left out then, whole ones, and counted in ``dropped``), or gone (OSError).
    """

    __slots__ = ("_waiting", "_write", "dropped")

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write, self._waiting, self.dropped = write, bytearray(), 0

    def put(self, line: bytes) -> None:
        """Takes a line, for the next :meth:`flush`."""
        if len(self._waiting) + len(line) > MOST:
            self.dropped += 1
        else:
            self._waiting += line

    def flush(self) -> None:
        """Writes what the reader takes now. Raises OSError if it never will."""
        while self._waiting:
            try:
                taken = self._write(bytes(self._waiting[:PIECE]))
            except (BlockingIOError, InterruptedError):
                return
            del self._waiting[:taken]


class EventsFile:
    """Where a save's events go besides its clients: a file, to which they are appended, or a descriptor.

    ``where``: a path, or a descriptor's number, also as text. Raises OSError, ValueError. A pipe or a terminal is
    opened anew, so that it can be made non-blocking for us alone.
    """

    __slots__ = ("_fd", "_socket", "name", "outlet")

    def __init__(self, where: Union[str, int]) -> None:
        self.name = str(where)
        self._fd, self._socket = -1, False
        if isinstance(where, int) or (where.isascii() and where.isdigit()):
            self._fd = self._of(int(where))
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            self._fd = os.open(where, flags, 0o600)
        self.outlet = Outlet(self._send if self._socket else self._write)

    def _of(self, fd: int) -> int:
        mode = os.fstat(fd).st_mode
        self._socket = stat.S_ISSOCK(mode)
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            try:
                return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            except OSError:  # no /proc, or a terminal of another user: then each write is asked for first
                pass
        return os.dup(fd)

    def _write(self, data: bytes) -> int:
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self._fd, data)

    def _send(self, data: bytes) -> int:
        import socket

        borrowed = socket.socket(fileno=self._fd)
        try:
            return borrowed.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        finally:
            borrowed.detach()

    def is_same(self, fd: int) -> bool:
        """Whether ``fd`` leads to the same file, pipe or socket. (A device is not what is written to it.)"""
        try:
            mine, other = os.fstat(self._fd), os.fstat(fd)
        except OSError:  # it is not open, and whoever writes to it says so
            return False
        return os.path.samestat(mine, other) and not stat.S_ISCHR(mine.st_mode)

    def close(self) -> None:
        """Again: nothing happens."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
