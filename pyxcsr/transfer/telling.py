"""Telling a caller where a save or a restore stands: at each change of phase, and a few times a second in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Optional

from pyxcsr.report import Progress, ProgressCallback

SECONDS_BETWEEN = 0.1


class Telling:
    """The caller's callback, and how often it is called."""

    def __init__(self, callback: Optional[ProgressCallback]) -> None:
        self._callback, self._told = callback, 0.0
        self.began = time.monotonic()

    def seconds(self) -> float:
        """Since this was made: since the work began."""
        return time.monotonic() - self.began

    def tell(self, progress: Callable[[float], Progress], often: bool = False) -> None:
        """Calls back with what ``progress`` makes of the seconds so far; called ``often``, it does so now and then."""
        now = time.monotonic()
        if self._callback is None or (often and now - self._told < SECONDS_BETWEEN):
            return
        self._told = now
        self._callback(progress(now - self.began))
