"""Progress of work that is told by the bytes it has moved."""

from __future__ import annotations

import time
from typing import Optional

from pyxcsr.cli import progress
from pyxcsr.report import Progress

BETWEEN = 0.1
"""Seconds between two pictures."""


class Told:
    """Takes the number of bytes moved so far; on a terminal, or where it is wanted, a line shows it."""

    def __init__(self, wanted: Optional[bool], quiet: bool, describe: progress.Describe) -> None:
        self._line = None if quiet else progress.progress_line(wanted, describe, "stalled: nothing read")
        self._began = self._told = time.monotonic()

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        if self._line is not None and now - self._told >= BETWEEN:
            self._told = now
            self._line(Progress("pass", 0, 0, 0, count, 0, now - self._began))

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.done()
