"""Lines that go out as far as their reader takes them, and never make the save wait."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Optional, Union

from pyxcsr.control.aside import Aside

MOST = 1 << 16
"""Bytes that wait for a slow reader; what comes on top is left out."""

PIECE = 4096
"""What is written at once to a reader: a pipe that takes anything takes so much."""

LAST_WAIT = 0.1
"""Seconds that the end of a save waits for the last lines to be taken."""

BETWEEN, AT_FIRST = 0.002, 0.0001
"""Seconds between two looks at what is still written; at first: behind xl a guest may be paused until the end is told,
and a line on a local disk is there at once."""


def sent(fd: int, data: bytes) -> int:
    """Sends to a socket, without waiting. Returns how much it took. Raises OSError.

    No SIGPIPE comes of it: a program may have left that at its default, and would be killed with the guest suspended.
    """
    import _socket  # socket itself takes 5 ms to load

    borrowed = _socket.socket(fileno=fd)
    try:
        return borrowed.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
    finally:
        borrowed.detach()


def written(fd: int, data: bytes) -> int:
    """Writes to what is no socket, and returns how much it took. Raises OSError.

    A pipe cannot be told to send no SIGPIPE. The signal is this thread's: it is held back, and taken away again unless
    it was pending before.
    """
    import signal

    sigpipe = {signal.SIGPIPE}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, sigpipe)
    try:
        pending = signal.SIGPIPE in signal.sigpending()
        try:
            return os.write(fd, data)
        except BrokenPipeError:
            if not pending:
                signal.sigtimedwait(sigpipe, 0)
            raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _closed(_data: bytes) -> int:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class Outlet:
    """A descriptor that lines are written to. ``write``: takes bytes, without waiting; returns how many it took.

    A reader may be slow (lines are left out then, whole ones, and counted in ``dropped``), or gone (OSError).
    """

    __slots__ = ("_piece", "_waiting", "_write", "dropped")

    def __init__(self, write: Callable[[bytes], int], piece: int = PIECE) -> None:
        self._write, self._piece, self._waiting, self.dropped = write, piece, bytearray(), 0

    @property
    def waiting(self) -> int:
        """Lines that have not been taken yet, or not to their end."""
        return self._waiting.count(b"\n")

    def put(self, line: bytes, last: bool = False) -> None:
        """Takes a line, for the next :meth:`flush`. ``last``: it is the one line for which there is always room."""
        if len(self._waiting) + len(line) > MOST and not last:
            self.dropped += 1
        else:
            self._waiting += line

    def flush(self) -> None:
        """Writes what the reader takes now. Raises OSError if it never will."""
        while self._waiting:
            try:
                taken = self._write(bytes(self._waiting[: self._piece]))
            except (BlockingIOError, InterruptedError):
                return
            del self._waiting[:taken]

    def close(self) -> None:
        """Nothing goes out any more. Again: nothing happens.

        ``write`` is mostly a method of the one who has this: each would keep the other until somebody looks for
        garbage, and the save helper never does.
        """
        self._write = _closed


class EventsFile:
    """Where a save's events go besides its clients: a file, to which they are appended, or a descriptor.

    ``where``: a path, or a descriptor's number, also as text. Raises OSError, ValueError. A pipe or a terminal is
    opened anew, so that it can be made non-blocking for us alone. To a file of a disk, which may be another machine's
    and not answer, a thread writes.
    """

    __slots__ = ("_aside", "_fd", "name", "outlet")

    def __init__(self, where: Union[str, int]) -> None:
        self.name = str(where)
        self._fd = -1
        self._aside: Optional[Aside] = None
        self.outlet = Outlet(_closed)
        if isinstance(where, int) or (where.isascii() and where.isdigit()):
            self._fd = _of(int(where))
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            self._fd = os.open(where, flags, 0o600)
        try:
            mode = os.fstat(self._fd).st_mode
        except OSError:
            self.close()
            raise
        if stat.S_ISREG(mode):
            aside = self._aside = Aside(self._fd)
            self.outlet = Outlet(aside.write, MOST)
        else:
            self.outlet = Outlet(self._send if stat.S_ISSOCK(mode) else self._write)

    def _write(self, data: bytes) -> int:
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return written(self._fd, data)

    def _send(self, data: bytes) -> int:
        return sent(self._fd, data)

    def finish(self, seconds: float = LAST_WAIT) -> int:
        """Waits so long at most until all is written. Returns how many lines are not. Raises OSError."""
        began = time.monotonic()
        self.outlet.flush()
        while (self.outlet.waiting or self._writes()) and (now := time.monotonic() - began) < seconds:
            time.sleep(AT_FIRST if now < BETWEEN else BETWEEN)
            self.outlet.flush()
        in_hand = 0 if self._aside is None else self._aside.finish()
        return self.outlet.dropped + self.outlet.waiting + in_hand

    def _writes(self) -> bool:
        return self._aside is not None and self._aside.busy

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
            self.outlet.close()
            if self._aside is None or self._aside.leave():
                os.close(fd)


def _of(fd: int) -> int:
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:  # no /proc, or a terminal of another user: then each write is asked for first
            pass
    return os.dup(fd)
