"""``pyxcsr save --receiver COMMAND``: the stream goes to a program whose exit status says whether it has it.

A pipe takes bytes that nobody may ever read, so that a stream written into one has not arrived. Here the program is
waited for: it has the stream if it has read every byte, up to the end of the pipe, and then ended with status 0.
"""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyxcsr.errors import Cancelled, OutputError
from pyxcsr.programs import Fed, how_it_ended

POLL = 0.005
"""Seconds between two looks at the program: the guest may be suspended meanwhile."""


class Receiver(Fed):
    """The program, started, and the pipe to it."""

    def __init__(self, command: str, timeout: float, cancel: Callable[[], bool]) -> None:
        self._command, self._timeout, self._cancel = command, timeout, cancel
        self.told_to_end = False
        """It was ended, with all of the stream in its pipe. If it ends well all the same, it may have the stream, or
        have given up in good order: nobody can tell."""
        out = subprocess.DEVNULL if sys.stderr is None else 2  # ours is for the report
        try:
            super().__init__(["/bin/sh", "-c", command], stdout=out)
        except OSError as error:
            raise OutputError(f"the receiver cannot be started: {error.strerror}", errno=error.errno or 0) from error

    @contextmanager
    def stream(self) -> Iterator[int]:
        """A descriptor for the stream. Leaving waits for the program to have it. Raises OutputError if it has not.

        Whatever is raised, the program has ended by then: the guest goes on here next, and a program that had all of
        the stream could still let a copy of it run. One that ends well while it is being ended may have it.
        """
        try:
            with self._stops_early():
                yield self.fd
            deadline = time.monotonic() + self._timeout
            self._read_to_the_end(deadline)
            self.close()
            self._ended_well(deadline)
        except BaseException:
            has_all = self.fd < 0
            self.told_to_end = self.process.poll() is None
            self.end()
            if not has_all or self.process.returncode:
                raise

    @contextmanager
    def _stops_early(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            if error.facts.get("errno") not in (errno.EPIPE, errno.ECONNRESET):
                raise
            raise self._failed("stopped reading before the end of the stream") from error

    def _read_to_the_end(self, deadline: float) -> None:
        while self.unread():
            if self.process.poll() is not None or self.nobody_reads():
                raise self._failed(f"left {self.unread()} bytes of the stream unread")
            self._wait(deadline, "has not read all of the stream")

    def _ended_well(self, deadline: float) -> None:
        while self.process.poll() is None:
            self._wait(deadline, "has not ended")
        if self.process.returncode:
            raise self._failed("does not have the stream")

    def _wait(self, deadline: float, what: str) -> None:
        if self._cancel():
            raise Cancelled("cancelled while the receiver was waited for")
        if time.monotonic() >= deadline:
            raise self._failed(f"{what} {self._timeout:g} seconds after it was complete (--receiver-timeout)")
        time.sleep(POLL)

    def _failed(self, what: str) -> OutputError:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)  # one that has closed its input is likely to end now, and its status tells why
        status = self.process.returncode
        how = "still runs" if status is None else how_it_ended(status)
        return OutputError(
            f"the receiver ({self._command}: {how}) {what}; the guest stays here",
            errno=errno.EPIPE,
            command=self._command,
            status=status,
        )


@contextmanager
def started(command: str, timeout: float, cancel: Callable[[], bool]) -> Iterator[Receiver]:
    """A receiver for the time of a save. Raises OutputError."""
    receiver = Receiver(command, timeout, cancel)
    try:
        yield receiver
    finally:
        receiver.end()
