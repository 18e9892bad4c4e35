"""The compiled core's functions, one thread at a time.

C refuses a handle that another thread uses, but cannot keep its memory from being freed between a
caller's look at the handle and its call. This lock covers the call as a whole, so that a thread that
closes the hypervisor waits for the call in progress, and one that comes after finds it closed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor import faults


class Library:
    """Has each of the module's names; calling one that reaches a handle holds the lock."""

    def __init__(self, lib: Any) -> None:
        self._lock, self._pid, self._closed = threading.RLock(), os.getpid(), False
        for name in dir(lib):
            value = getattr(lib, name)
            setattr(self, name, self._guarded(value) if name.startswith("xcsr_") and callable(value) else value)

    def __getattr__(self, name: str) -> Any:  # for type checkers: the names are the module's
        raise AttributeError(name)

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
            self._lock, self._pid = threading.RLock(), os.getpid()
        with self._lock:
            yield

    def closed(self) -> None:
        """From now on every call is refused. To be told inside :meth:`releasing`."""
        self._closed = True
