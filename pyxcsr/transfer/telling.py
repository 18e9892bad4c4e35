"""Tells a caller where a save or a restore stands: at each change of phase, and a few times a second in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Optional

from pyxcsr.report import Progress, ProgressCallback

SECONDS_BETWEEN = 0.1


class Telling:
    """Calls the caller's callback, and not too often."""

    def __init__(self, callback: Optional[ProgressCallback]) -> None:
        self._callback, self._told = callback, 0.0
        self.began = time.monotonic()

    def seconds(self) -> float:
        """How long ago the work began."""
        return time.monotonic() - self.began

    def tell(self, progress: Callable[[float], Progress], often: bool = False) -> None:
        """Calls back with what ``progress`` makes of the seconds so far. ``often``: not if it was done just before."""
        now = time.monotonic()
        if self._callback is None or (often and now - self._told < SECONDS_BETWEEN):
            return
        self._told = now
        self._callback(progress(now - self.began))
