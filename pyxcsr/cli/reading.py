"""An input that is only read, with progress on a terminal."""

from __future__ import annotations

import io
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional, Union

from pyxcsr.cli import progress
from pyxcsr.report import Progress

BETWEEN = 0.1
"""Seconds between two pictures."""

WAIT = 500
"""Milliseconds that a read is waited for between two looks at the time."""


class Watched(io.FileIO):
    """A descriptor, which stays open, and a line that is told how much of it has been read."""

    def __init__(self, fd: int, line: progress.ProgressLine) -> None:
        super().__init__(fd, closefd=False)
        self._line, self._count, self._told = line, 0, 0.0
        self._began = time.monotonic()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def readinto(self, buffer: Any) -> Any:
        """As FileIO's; while nothing comes, the line says so."""
        while not self._poll.poll(WAIT):
            self._line.tick()
        got = super().readinto(buffer)
        self._move_on(got or 0)
        return got

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As FileIO's; what is passed over counts as if it had been read."""
        before = self.tell()
        after = super().seek(offset, whence)
        self._move_on(max(after - before, 0))
        return after

    def _move_on(self, nr_bytes: int) -> None:
        self._count += nr_bytes
        now = time.monotonic()
        if now - self._told >= BETWEEN:
            self._told = now
            self._line(Progress("pass", 0, 0, 0, self._count, 0, now - self._began))


@contextmanager
def watched(fd: int, name: str, quiet: bool, wanted: Optional[bool] = None) -> Iterator[Union[int, Watched]]:
    """The descriptor itself, or with progress if that is wanted or (None) standard error is a terminal."""
    what = progress.of_reading("standard input" if name == "-" else name, progress.left(fd))
    line = None if quiet else progress.progress_line(wanted, what, "stalled: nothing read")
    if line is None:
        yield fd
        return
    try:
        yield Watched(fd, line)
    finally:
        line.done()
