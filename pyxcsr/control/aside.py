"""A file that a thread writes to, because its disk may be another machine's, which does not answer.

The thread lives for one piece: a save tells little. Who waits for a dead server is that thread alone.
"""

from __future__ import annotations

import os

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional


class Aside:
    """Writes to ``fd``, which belongs to the caller until :meth:`leave` says otherwise."""

    __slots__ = ("_fd", "_left", "_lock", "_pieces", "_problem")

    def __init__(self, fd: int) -> None:
        import _thread  # threading itself takes long to load

        self._fd, self._lock = fd, _thread.allocate_lock()
        self._pieces = 0  # lines in the thread's hand
        self._problem: Optional[OSError] = None
        self._left = False

    @property
    def busy(self) -> bool:
        """Whether a piece is still being written."""
        return self._pieces > 0

    def write(self, data: bytes) -> int:
        """Has it written, and returns at once. Raises BlockingIOError while the piece before is being written, and
        the OSError of a piece that could not be."""
        import _thread

        with self._lock:
            if self._problem is not None:
                raise self._problem
            if self._pieces:
                raise BlockingIOError
            self._pieces = max(data.count(b"\n"), 1)
        try:
            _thread.start_new_thread(self._run, (data,))
        except RuntimeError:  # there can be no thread just now
            self._pieces = 0
            raise BlockingIOError from None
        return len(data)

    def finish(self) -> int:
        """How many lines are still being written. Raises the OSError of a piece that could not be."""
        with self._lock:
            if self._problem is not None:
                raise self._problem
            return self._pieces

    def leave(self) -> bool:
        """Nothing more will come. True: the descriptor is the caller's to close; False: the thread closes it."""
        with self._lock:
            self._left = self._pieces > 0
            if not self._left:
                self._fd = -1  # the number may soon be another file's
            return not self._left

    def _run(self, data: bytes) -> None:
        problem: Optional[OSError] = None
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            problem = error
        with self._lock:
            self._problem, self._pieces = problem, 0
            if self._left:
                os.close(self._fd)
