"""``pyxcsr save --receiver COMMAND``: the stream goes to a program whose exit status says whether it has it.

A pipe takes bytes that nobody may ever read, so that a stream written into one has not arrived. Here the program is
waited for: it has the stream if it has read every byte, up to the end of the pipe, and then ended with status 0.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyxcsr.errors import Cancelled, OutputError
from pyxcsr.processes import descendants, send

POLL = 0.005
"""Seconds between two looks at the program: the guest may be suspended meanwhile."""

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for a program that is no longer wanted."""


class Receiver:
    """The program, started, and the pipe to it."""

    def __init__(self, command: str, timeout: float, cancel: Callable[[], bool]) -> None:
        self._command, self._timeout, self._cancel = command, timeout, cancel
        theirs, self._fd = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=theirs,
                stdout=subprocess.DEVNULL if sys.stderr is None else 2,  # ours is for the report
            )
        except OSError as error:
            os.close(self._fd)
            raise OutputError(f"the receiver cannot be started: {error.strerror}", errno=error.errno or 0) from error
        finally:
            os.close(theirs)

    @contextmanager
    def stream(self) -> Iterator[int]:
        """A descriptor for the stream. Leaving waits for the program to have it. Raises OutputError if it has not."""
        try:
            yield self._fd
        except OutputError as error:
            if error.facts.get("errno") not in (errno.EPIPE, errno.ECONNRESET):
                raise
            raise self._failed("stopped reading before the end of the stream") from error
        deadline = time.monotonic() + self._timeout
        while self._unread():
            if self._process.poll() is not None or self._nobody_reads():
                raise self._failed(f"left {self._unread()} bytes of the stream unread")
            self._wait(deadline, "has not read all of the stream")
        self._close()
        while self._process.poll() is None:
            self._wait(deadline, "has not ended")
        if self._process.returncode:
            raise self._failed("does not have the stream")

    def end(self) -> None:
        """Ends the program and what it has started, if that still runs; then all of them are gone."""
        self._close()
        if self._process.poll() is None:
            family = [self._process.pid, *descendants(self._process.pid)]
            send(family, signal.SIGTERM)
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                send(family, signal.SIGKILL)
                self._process.wait()

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _unread(self) -> int:
        """Bytes in the pipe; the ioctl answers at the end that writes, too."""
        count = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, count)
        return count[0]

    def _nobody_reads(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, 0)  # POLLERR is told unasked: the other end is closed
        return bool(poll.poll(0))

    def _wait(self, deadline: float, what: str) -> None:
        if self._cancel():
            raise Cancelled("cancelled while the receiver was waited for")
        if time.monotonic() >= deadline:
            raise self._failed(f"{what} {self._timeout:g} seconds after it was complete (--receiver-timeout)")
        time.sleep(POLL)

    def _failed(self, what: str) -> OutputError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # one that has closed its input is likely to end now, and its status tells why
        status = self._process.returncode
        how = "still runs" if status is None else f"status {status}" if status >= 0 else f"signal {-status}"
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
