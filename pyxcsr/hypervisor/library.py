"""The compiled core's functions, one thread at a time.

C refuses a handle that another thread uses, but cannot keep its memory from being freed between a
caller's look at the handle and its call. This lock covers the call as a whole, so that a thread that
closes the hypervisor waits for the call in progress, and one that comes after finds it closed.
"""

from __future__ import annotations

import os

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor import faults
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import RLock
    from typing import Any, Callable
else:
    from _thread import RLock  # what threading has, without the rest of it


class Library:
    """Has each of the module's names; calling one that reaches a handle holds the lock."""

    def __init__(self, lib: Any) -> None:
        self._lock, self._pid, self._closed, self._lib = RLock(), os.getpid(), False, lib

    def __getattr__(self, name: str) -> Any:
        """A name of the module's, made ready when it is first used: there are hundreds, and few are."""
        value = getattr(vars(self)["_lib"], name)
        if name.startswith("xcsr_") and callable(value):
            value = self._guarded(value)
        setattr(self, name, value)
        return value

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            lock = self._lock
            if not lock.acquire(blocking=False):
                # in a forked child the thread that held the lock does not exist; C names that mistake too
                raise faults.misuse(-faults.OTHER_THREAD if os.getpid() == self._pid else -faults.OTHER_PROCESS)
            try:
                if self._closed:
                    raise UsageError("this hypervisor has been closed")
                return function(*args)
            finally:
                lock.release()

        return call

    @contextmanager
    def releasing(self) -> Iterator[None]:
        """Waits for the call in progress: what is released inside is used by nobody."""
        if os.getpid() != self._pid:
            self._lock, self._pid = RLock(), os.getpid()
        with self._lock:
            yield

    def closed(self) -> None:
        """From now on every call is refused. To be told inside :meth:`releasing`."""
        self._closed = True
