"""The receiving end of a compressed migration: chunks in, xl's stream out."""

from __future__ import annotations

import os
import select
import subprocess
from typing import Optional

from pyxcsr.migrate.chunks import END, FRAME_END, HEAD, LARGEST, MAGIC, PACKED, PLAIN, RelayError, write_all
from pyxcsr.migrate.packing import died


class ReceiverGone(RelayError):
    """Nobody reads what is written."""


class Unpacker:
    """Reads ``source`` and writes to ``sink``. ``command``: zstd, from standard input to standard output.

    zstd writes to ``sink`` itself. Another one is started for each frame: zstd gives out all of a frame only when its
    input ends.
    """

    def __init__(self, source: int, sink: int, command: list[str]) -> None:
        self._source, self._sink, self._command = source, sink, command
        self._zstd: Optional[subprocess.Popen[bytes]] = None

    def run(self) -> None:
        """Until END, or until the receiver ends while all that has come is passed on. Raises RelayError."""
        try:
            self._check_magic()
            while True:
                kind, length = HEAD.unpack(self._exactly(HEAD.size))
                if kind == END and not length and self._zstd is None:
                    return
                if length > LARGEST:
                    raise RelayError(f"a chunk of {length} bytes: what arrives does not come from a relay")
                self._take(kind, self._exactly(length))
        except ReceiverGone:
            if self._zstd is not None:
                raise
        finally:
            if self._zstd is not None:
                self._zstd.kill()

    def _check_magic(self) -> None:
        found = self._exactly(len(MAGIC))
        if found != MAGIC:
            raise RelayError(f"what arrives does not come from a relay of this kind: it begins with {found!r}")

    def _take(self, kind: int, data: bytes) -> None:
        if kind == PACKED and data:
            self._unpack(data)
        elif kind == FRAME_END and not data and self._zstd is not None:
            self._end_frame(self._zstd)
        elif kind == PLAIN and self._zstd is None:
            self._pass_on(data)
        else:
            raise RelayError(f"a chunk of kind {kind} in a wrong place: what arrives does not come from a relay")

    def _pass_on(self, data: bytes) -> None:
        try:
            write_all(self._sink, data)
        except OSError as error:
            raise RelayError(f"the receiver has stopped reading: {error.strerror}") from None

    def _unpack(self, data: bytes) -> None:
        if self._zstd is None:
            try:
                self._zstd = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=self._sink, bufsize=0)
            except OSError as error:
                raise RelayError(f"{self._command[0]} cannot be started: {error.strerror}") from None
        assert self._zstd.stdin is not None
        try:
            write_all(self._zstd.stdin.fileno(), data)
        except BrokenPipeError:
            raise died(self._zstd) from None

    def _end_frame(self, zstd: subprocess.Popen[bytes]) -> None:
        assert zstd.stdin is not None
        zstd.stdin.close()
        if zstd.wait():
            raise died(zstd)
        self._zstd = None

    def _exactly(self, nr_bytes: int) -> bytes:
        """So many bytes. Raises RelayError if they do not come, or if nobody reads what we write any more."""
        parts, left = [], nr_bytes
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        poll.register(self._sink, 0)  # POLLERR is told unasked: its reader has gone
        while left:
            if any(fd == self._sink for fd, _ in poll.poll()):
                raise ReceiverGone("the receiver has stopped reading")
            part = os.read(self._source, left)
            if not part:
                raise RelayError("the connection was cut off before the end of the stream")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
