"""The sending end of a compressed migration: xl's stream in, chunks out.

xl writes a stream and then waits for an answer, several times. zstd keeps back what it has until its input ends, so
that somebody has to end it whenever xl may be waiting. The relay does so as soon as nothing has come for some
milliseconds: it ends that zstd, which finishes its frame, and starts another one for what comes then. A short message,
such as the one by which xl gives the guest away, is sent as it is and need not wait for that.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import Optional

from pyxcsr.migrate.chunks import END, FRAME_END, HEAD, LARGEST, MAGIC, PACKED, PLAIN, RelayError, write_all
from pyxcsr.programs import how_it_ended

IDLE = 0.005
"""Seconds without input after which what was written must get through."""

SHORT = 4096
"""Bytes that are not worth a zstd of their own, if no more are waiting."""

GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Figures:
    """What was carried: bytes of xl's stream, bytes that went over the link instead, and the seconds in which zstd, the
    link, and more of the stream were waited for."""

    __slots__ = ("link_seconds", "nr_in", "nr_out", "source_seconds", "zstd_seconds")

    def __init__(self) -> None:
        self.nr_in = self.nr_out = 0
        self.zstd_seconds = self.link_seconds = self.source_seconds = 0.0

    def __str__(self) -> str:
        seconds = (self.zstd_seconds, self.link_seconds, self.source_seconds)
        return " ".join([str(self.nr_in), str(self.nr_out), *(f"{x:.3f}" for x in seconds)])


class Packer:
    """Reads ``source`` and writes to ``sink``. ``command``: zstd, from standard input to standard output."""

    def __init__(self, source: int, sink: int, command: list[str]) -> None:
        self._source, self._sink, self._command = source, sink, command
        self._zstd: Optional[subprocess.Popen[bytes]] = None
        self.figures = Figures()

    def run(self) -> None:
        """Until the input ends. Raises RelayError."""
        try:
            self._send(MAGIC)
            while data := self._read():
                self.figures.nr_in += len(data)
                if self._zstd is None and len(data) <= SHORT and not self._ready(0):
                    self._chunk(PLAIN, data)
                else:
                    self._pack(data)
            self._end_frame()
            self._chunk(END, b"")
        finally:
            if self._zstd is not None:
                self._zstd.kill()

    def _read(self) -> bytes:
        """What comes next, b"" at the end. While nothing comes the frame is ended."""
        began, others = time.monotonic(), self.figures.zstd_seconds + self.figures.link_seconds
        while not self._ready(IDLE):
            if self._zstd is not None and time.monotonic() - began >= IDLE:
                self._end_frame()
        others = self.figures.zstd_seconds + self.figures.link_seconds - others
        self.figures.source_seconds += time.monotonic() - began - others
        return os.read(self._source, LARGEST)

    def _ready(self, seconds: float) -> bool:
        """Whether there is input. What zstd has ready is sent meanwhile."""
        poll = self._polled((self._source, select.POLLIN))
        for fd, _ in poll.poll(1000 * seconds if self._zstd is not None or not seconds else None):
            if fd == self._source:
                return True
            self._heard(fd)
        return False

    def _polled(self, *wanted: tuple[int, int]) -> select.poll:
        poll = select.poll()
        for fd, events in ((self._sink, 0), *wanted):
            poll.register(fd, events)
        if self._zstd is not None and self._zstd.stdout is not None:
            poll.register(self._zstd.stdout, select.POLLIN)
        return poll

    def _heard(self, fd: int) -> bool:
        """Sends what zstd has made. False at its end. Raises RelayError if the link has gone."""
        if fd == self._sink:
            raise RelayError("the connection to the other end has closed")
        data = os.read(fd, LARGEST)
        if data:
            self._chunk(PACKED, data)
        elif self._zstd is not None and self._zstd.stdin is not None and not self._zstd.stdin.closed:
            raise self._died()
        return bool(data)

    def _pack(self, data: bytes) -> None:
        """Gives all of it to zstd, and sends what zstd has ready."""
        began, sending = time.monotonic(), self.figures.link_seconds
        zstd = self._started()
        assert zstd.stdin is not None
        into, view = zstd.stdin.fileno(), memoryview(data)
        while view:
            for fd, events in self._polled((into, select.POLLOUT)).poll():
                if fd != into:
                    self._heard(fd)
                elif events & GONE:
                    raise self._died()
                else:
                    view = view[self._offer(into, view) :]
        self.figures.zstd_seconds += time.monotonic() - began - (self.figures.link_seconds - sending)

    def _offer(self, into: int, view: memoryview) -> int:
        try:
            return os.write(into, view)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise self._died() from None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._zstd is None:
            try:
                self._zstd = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            except OSError as error:
                raise RelayError(f"{self._command[0]} cannot be started: {error.strerror}") from None
            assert self._zstd.stdin is not None
            os.set_blocking(self._zstd.stdin.fileno(), False)
        return self._zstd

    def _end_frame(self) -> None:
        zstd = self._zstd
        if zstd is None:
            return
        began, sending = time.monotonic(), self.figures.link_seconds
        assert zstd.stdin is not None and zstd.stdout is not None
        zstd.stdin.close()
        while self._heard(zstd.stdout.fileno()):
            pass
        zstd.stdout.close()
        if zstd.wait():
            raise self._died()
        self._zstd = None
        self.figures.zstd_seconds += time.monotonic() - began - (self.figures.link_seconds - sending)
        self._chunk(FRAME_END, b"")

    def _died(self) -> RelayError:
        assert self._zstd is not None
        return died(self._zstd)

    def _chunk(self, kind: int, data: bytes) -> None:
        self._send(HEAD.pack(kind, len(data)) + data)

    def _send(self, data: bytes) -> None:
        began = time.monotonic()
        try:
            write_all(self._sink, data)
        except OSError as error:
            raise RelayError(f"the connection to the other end has closed: {error.strerror}") from None
        self.figures.nr_out += len(data)
        self.figures.link_seconds += time.monotonic() - began


def died(zstd: subprocess.Popen[bytes]) -> RelayError:
    """What to say of a zstd that has stopped reading or failed; it is waited for."""
    try:
        status = zstd.wait(2)
    except subprocess.TimeoutExpired:
        return RelayError("zstd stopped working before its input ended")
    return RelayError(f"zstd ended before its input did ({how_it_ended(status)})")
