"""Limits that hold whatever the policy says: the time for the whole save, the bandwidth, a wish to suspend now."""

from __future__ import annotations

import errno
import time

from pyxcsr.errors import Cancelled
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.hypervisor.interface import SinkHandle
    from pyxcsr.limits.limits import Limits


class Deadline:
    """The time that a save has. It begins when this is made. ``clock``: seconds."""

    def __init__(self, limits: Limits, domid: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._domid, self._clock = limits, domid, clock
        self._began = clock()

    def _over(self) -> bool:
        timeout = self._limits.timeout
        return timeout is not None and self._clock() - self._began >= timeout

    def check(self) -> None:
        """Raises Cancelled if the time is over and the save is to end then."""
        limits = self._limits
        if limits.timeout is not None and limits.aborts_at_timeout and self._over():
            raise Cancelled(
                f"the save of domain {self._domid} took longer than its timeout of {format_seconds(limits.timeout)}",
                domid=self._domid,
                by="limit",
                limit="timeout",
                errno=errno.ETIMEDOUT,
            )

    def suspends(self) -> Optional[str]:
        """Why the guest is to be suspended now, whatever is still dirty; None if it is not."""
        limits = self._limits
        if limits.suspend_now:
            return "it was asked for while the save ran"
        if limits.timeout is not None and not limits.aborts_at_timeout and self._over():
            return f"timeout: {format_seconds(limits.timeout)} were over"
        return None


class Bandwidth:
    """Keeps an output to the bandwidth that the limits say, which may change."""

    def __init__(self, limits: Limits, sink: SinkHandle) -> None:
        self._limits, self._sink = limits, sink
        self._set: Optional[int] = None

    def held(self) -> float:
        """Seconds that a page takes at least while the guest is paused."""
        limit = self._wanted(paused=True)
        return PAGE_BYTES / limit if limit else 0.0

    def _wanted(self, paused: bool) -> Optional[int]:
        return None if paused and not self._limits.bandwidth_while_paused else self._limits.bandwidth

    def apply(self, paused: bool) -> None:
        """To be called now and then, and as soon as the guest is ``paused``."""
        wanted = self._wanted(paused)
        if wanted != self._set:
            self._sink.limit(wanted)
            self._set = wanted
