"""Bytes of a stream, from a descriptor or a file object: in bounded steps, never more than asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Union

from pyxcsr.errors import UsageError

READ_STEP = 8 << 20
"""Bytes allocated at most before any of them has arrived; an ordinary PAGE_DATA record fits in."""

SKIP_STEP = 1 << 20

Input = Union[int, BinaryIO, io.RawIOBase, io.BufferedIOBase]


class Source:
    """Counted reads. ``offset`` is the number of bytes read so far; the input need not be seekable.

    A file descriptor stays the caller's: it is not closed here, and nothing is read ahead from it but by ``peek``.
    """

    def __init__(self, file: Input) -> None:
        self.offset = 0
        self._ahead = b""
        self._file = io.FileIO(file, closefd=False) if isinstance(file, int) else file

    def read(self, wanted: int) -> memoryview:
        """``wanted`` bytes, or fewer where the input ends. Raises OSError, UsageError (non-blocking)."""
        pieces: list[bytearray] = []
        left = wanted
        while left:
            step = min(left, READ_STEP)
            piece = self._step(step)
            pieces.append(piece)
            left -= len(piece)
            if len(piece) < step:
                break
        self.offset += wanted - left
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return memoryview(whole).toreadonly()

    def peek(self, wanted: int) -> bytes:
        """The next ``wanted`` bytes, or fewer where the input ends; they stay to be read. For some few bytes."""
        if len(self._ahead) < wanted:
            self._ahead += self._step(wanted - len(self._ahead), fresh=True)
        return self._ahead[:wanted]

    def skip(self, wanted: int) -> int:
        """Reads so many bytes in bounded steps and forgets them; how many there were."""
        start = self.offset
        while self.offset - start < wanted:
            step = min(wanted - (self.offset - start), SKIP_STEP)
            if len(self.read(step)) < step:
                break
        return self.offset - start

    def _step(self, wanted: int, *, fresh: bool = False) -> bytearray:
        buffer = bytearray(wanted)
        filled = 0
        if not fresh and self._ahead:
            filled = min(wanted, len(self._ahead))
            buffer[:filled] = self._ahead[:filled]
            self._ahead = self._ahead[filled:]
        with memoryview(buffer) as view:
            while filled < wanted:
                got = self._file.readinto(view[filled:])  # type: ignore[union-attr]
                if got is None:
                    raise UsageError("the input is in non-blocking mode and has nothing to read now")
                if got == 0:
                    break
                filled += got
        del buffer[filled:]
        return buffer


@contextmanager
def open_input(name: str) -> Iterator[int]:
    """A file descriptor for a file's name, or standard input for ``-``; closed afterwards if opened here."""
    if name == "-":
        yield 0
        return
    fd = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        yield fd
    finally:
        os.close(fd)
