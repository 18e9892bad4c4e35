"""Processes that others have started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from pyxcsr.errors import UsageError


def hear_of_children() -> None:
    """Undoes that SIGCHLD is ignored, which a program may inherit from the one that started it.

    The kernel keeps no status of a child then, and Python takes what it cannot get for 0: success.
    """
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def must_be_heard(program: str) -> None:
    """Raises UsageError where SIGCHLD is ignored: whether the program has failed could not be told then."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        raise UsageError(
            f"SIGCHLD is ignored in this process, so that nobody could tell whether {program} has failed; "
            "set it to SIG_DFL, or to a handler, while pyxcsr runs"
        )


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def words_of(pid: int) -> list[bytes]:
    """A process's command line; empty for one that has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    return []


def send(pids: list[int], number: int) -> None:
    """Sends a signal to each that still exists and may be sent one."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
