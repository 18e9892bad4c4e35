"""A process that waits for its children elsewhere, too, as daemons with many of them do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reaping() -> Iterator[list[int]]:
    """A thread that waits for any child. What it has had the end of."""
    had: list[int] = []
    over = threading.Event()

    def reap() -> None:
        while not over.is_set():
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid = 0
            if pid:
                had.append(pid)
            else:
                time.sleep(0.0001)

    thread = threading.Thread(target=reap)
    thread.start()
    try:
        yield had
    finally:
        over.set()
        thread.join()
