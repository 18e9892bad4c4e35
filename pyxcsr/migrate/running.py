"""Running `xl migrate`, and ending it so that the guest runs on here.

xl dies of SIGINT and leaves a guest that it has suspended as it is. So it is started with SIGINT, SIGQUIT and SIGHUP
ignored, which the programs that it starts inherit, and a wish to cancel goes to the save helper: that ends the save, xl
is told, and lets the guest go on. Where there is a terminal it stays theirs: ssh may ask for a password. Where there is
none they get a session of their own, since timeout(1), for one, sends SIGTERM to a whole group, and xl would die of it,
too.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from typing import Callable, Optional

from pyxcsr.errors import XcsrError
from pyxcsr.migrate.transcript import Transcript
from pyxcsr.processes import descendants, send, words_of

DEAF = ["sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh"]
SAVING = b"--save-domain"

LOOK = 0.1
PATIENCE = 3.0
"""Seconds without a helper that could be told to stop, after which the other end is what keeps xl waiting."""
ENDED, CLOSED, NOT_BEGUN = "the save was ended", "the connection was closed", "nothing had been sent"
TOO_LATE = "too late"
"""What became of a wish to cancel."""

DRAIN = 5.0
"""Seconds for what is still said when xl has ended."""


class Ended:
    """How it went. ``status``: xl's; ``cancelled``: what was done about a wish to cancel, "": there was none."""

    __slots__ = ("cancelled", "seconds", "status", "transcript")

    def __init__(self, status: int, seconds: float, transcript: Transcript, cancelled: str) -> None:
        self.status, self.seconds, self.transcript, self.cancelled = status, seconds, transcript, cancelled


def run_xl(
    words: list[str],
    environ: Mapping[str, str],
    show: Callable[[str], None],
    cancel: Callable[[], bool],
    tick: Callable[[], None] = lambda: None,
) -> Ended:
    """Runs it to its end. ``show`` gets what is printed; ``cancel`` and ``tick``: called ten times a second. Raises
    XcsrError."""
    began = time.monotonic()
    try:
        xl = subprocess.Popen(
            [*DEAF, *words],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=not _has_terminal(),
        )
    except OSError as error:
        raise XcsrError(f"sh cannot be started: {error.strerror}", errno=error.errno or 0) from None
    run = _Run(xl, show)
    while xl.poll() is None:
        run.listen(LOOK)
        tick()
        if cancel():
            run.cancel()
    until = time.monotonic() + DRAIN
    while not run.silent and time.monotonic() < until:
        run.listen(LOOK)
    show(run.transcript.end())
    return Ended(xl.returncode, time.monotonic() - began, run.transcript, run.cancelled)


def _has_terminal() -> bool:
    """Whether this process may read from a terminal, as ssh does for a password. No terminal sends SIGTERM."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


class _Run:
    def __init__(self, xl: subprocess.Popen[bytes], show: Callable[[str], None]) -> None:
        assert xl.stdout is not None
        self._xl, self._pipe, self._show = xl, xl.stdout.fileno(), show
        self.transcript = Transcript()
        self.silent, self.cancelled = False, ""
        self._since: Optional[float] = None  # there was a helper, or the wish came
        self._helped = False  # there has been a helper: the guest may be suspended, and xl has to let it go on

    def listen(self, seconds: float) -> int:
        """Takes what is said within some time; how many bytes."""
        if self.silent:
            time.sleep(seconds)
            return 0
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if not poll.poll(1000 * seconds):
            return 0
        data = os.read(self._pipe, 1 << 16)
        self.silent = not data
        self._show(self.transcript.take(data))
        return len(data)

    def cancel(self) -> None:
        """Once it is wished for, again and again until xl ends: what can be done depends on the stage."""
        said, now = self.transcript, time.monotonic()
        if said.received or self.cancelled in (TOO_LATE, CLOSED, NOT_BEGUN):
            if not self.cancelled or said.received:
                self.cancelled = TOO_LATE
            return
        family = descendants(self._xl.pid)
        helpers = [x for x in family if SAVING in words_of(x)]
        if helpers or self._since is None:
            self._since = now
        self._helped = self._helped or bool(helpers)
        if helpers and not self.cancelled:
            send(helpers, signal.SIGTERM)
            self.cancelled = ENDED
        elif not (self._helped or said.begun):
            send([self._xl.pid, *family], signal.SIGTERM)
            self.cancelled = NOT_BEGUN
        elif now - self._since > PATIENCE:
            self._hang_up(family)

    def _hang_up(self, family: list[int]) -> None:
        """xl waits for the other end, which may never answer. As long as xl has not given the guest away it lets the
        guest go on when the link is cut; so it is stopped first, and it is looked whether it has. Should the answer
        come in that very moment, xl gives up with the guest suspended here: it runs nowhere then, but never twice."""
        self._xl.send_signal(signal.SIGSTOP)
        if self._xl.returncode is not None:  # it has ended by itself meanwhile
            return
        os.waitid(os.P_PID, self._xl.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._hear_all()
        if self.transcript.received:
            self.cancelled = TOO_LATE
        else:
            send(family, signal.SIGTERM)
            self.cancelled = CLOSED
        self._xl.send_signal(signal.SIGCONT)

    def _hear_all(self) -> None:
        """What had been said by now. Nobody waits for one who goes on talking, such as the other end."""
        left = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)))[0]
        while left > 0 and (heard := self.listen(0)):
            left -= heard
