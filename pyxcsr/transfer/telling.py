"""Tells a caller where a save or a restore stands: at each change of phase, and a few times a second in between."""

from __future__ import annotations

import time

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.report import Progress, ProgressCallback

SECONDS_BETWEEN = 0.1


class Telling:
    """Calls the caller's callback, and not too often; and before it ``also``, which may say that nobody listens."""

    def __init__(
        self,
        callback: Optional[ProgressCallback],
        also: Optional[ProgressCallback] = None,
        also_listens: Callable[[], bool] = lambda: True,
    ) -> None:
        self._callbacks, self._told = [x for x in (also, callback) if x is not None], 0.0
        self._wanted = callback is not None
        self._also_listens = also_listens
        self.began = time.monotonic()
        self.took = 0.0
        """Seconds for telling it last."""

    def seconds(self) -> float:
        """How long ago the work began."""
        return time.monotonic() - self.began

    def until(self, at: float) -> float:
        """The seconds from then until ``at``, by time.monotonic()."""
        return at - self.began

    def is_due(self, often: bool) -> bool:
        """Whether anybody would be told anything now. ``often``: as in :meth:`tell`."""
        listens = self._wanted or (bool(self._callbacks) and self._also_listens())
        return listens and not (often and time.monotonic() - self._told < SECONDS_BETWEEN)

    def tell(self, progress: Callable[[float], Progress], often: bool = False) -> None:
        """Calls back with what ``progress`` makes of the seconds so far. ``often``: not if it was done just before."""
        if not self.is_due(often):
            return
        now = time.monotonic()
        self._told, told = now, progress(now - self.began)
        for callback in self._callbacks:
            callback(told)
        self.took = time.monotonic() - now
