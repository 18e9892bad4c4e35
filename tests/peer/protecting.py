"""One guest protected by either saver, by the same callbacks: what they cost it, measured in the same way."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Optional


class Protecting:
    """A checkpointed save of ``count`` checkpoints into ``out``. ``interval``: seconds between two."""

    def __init__(self, hv: Any, domid: int, out: Any, count: int, interval: float) -> None:
        self._hv, self._domid, self._out = hv, domid, out
        self._count, self._interval = count, interval
        self._made, self._offset, self._suspended_at, self._used = 0, 0, 0.0, 0.0
        self._take: Optional[Callable[[], None]] = None
        self._sleeper: Any = None
        self.pauses: list[float] = []
        self.processor: list[float] = []
        self.sizes: list[int] = []

    def by(self, who: str, peer: Any, sleeper: Any, model: Any, take: Optional[Callable[[], None]]) -> dict[str, Any]:
        """Does it; returns the result, and of each checkpoint but the first its pause, the processor time that this
        process used in it, and its bytes."""
        self._sleeper, self._take = sleeper, take
        rc = getattr(self, f"_by_{who}")(peer, model)
        seconds = {"pauses": self.pauses[1:], "processor": self.processor[1:]}
        return {"rc": rc, **seconds, "bytes": self.sizes[1:], "checkpoints": self._made}

    def _suspend(self) -> bool:
        self._sleeper()
        self._suspended_at, self._used = time.perf_counter(), time.process_time()
        return True

    def _postcopy(self) -> bool:
        self.pauses.append(time.perf_counter() - self._suspended_at)
        self.processor.append(time.process_time() - self._used)
        at = os.lseek(self._out.fileno(), 0, os.SEEK_CUR)
        self.sizes.append(at - self._offset)
        self._offset = at
        if self._take is not None:
            self._take()
        self._made += 1
        self._hv.domain_resume(self._domid)
        return True

    def _go_on(self) -> bool:
        if self._made >= self._count:
            return False
        time.sleep(self._interval)
        return True

    def _by_libxenguest(self, peer: Any, model: Any) -> int:
        peer.save(
            self._out.fileno(),
            self._domid,
            live=True,
            suspend=self._suspend,
            precopy=lambda iteration, written, dirty: int(iteration >= 5 or 0 <= dirty < 50),
            device_model=model.track if model else None,
            postcopy=self._postcopy,
            checkpoint=self._go_on,
        )
        return 0 if self._made == self._count else -1

    def _by_pyxcsr(self, peer: Any, model: Any) -> int:
        import pyxcsr

        def go_on(done: Any) -> None:
            if not self._go_on():
                raise pyxcsr.Cancelled("enough", domid=self._domid)

        asked = pyxcsr.Checkpointed(0, postcopy=self._postcopy, checkpoint=go_on)
        try:
            pyxcsr.save(
                *(self._hv, self._domid, self._out),
                suspend=self._suspend,
                policy="libxc",
                device_model=model,
                checkpointed=asked,
            )
        except pyxcsr.Cancelled:
            return 0 if self._made == self._count else -1
        return -1
