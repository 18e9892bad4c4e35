"""The save behind `xl migrate`, seen by its own socket. Nothing here waits, fails, or decides anything."""

from __future__ import annotations

import os
import time
from typing import Any, Optional

from pyxcsr.control.connection import Connection, NoAnswer
from pyxcsr.control.folder import Folder, Unusable
from pyxcsr.control.names import folder_name
from pyxcsr.control.requests import WATCH
from pyxcsr.errors import UsageError
from pyxcsr.limits.file import read_settings_file
from pyxcsr.limits.sources import control_words
from pyxcsr.report import Progress

TRIED = 0.5
"""Seconds between two attempts to find its socket, which is there once the save has begun."""

NUMBERS = ("iteration", "pages_done", "pages_total", "bytes_written", "dirty_count")


class Sending:
    """The save of one domain. ``found``: it has said something of itself, at some time."""

    def __init__(self, domid: int, run_dir: Optional[str]) -> None:
        """``run_dir``: the folder of sockets; None: there is none."""
        self._domid, self._run_dir = domid, run_dir
        self._connection: Optional[Connection] = None
        self._next_try = 0.0
        self.found = False

    def look(self) -> Optional[Progress]:
        """The newest of what it has told since the last look; None: nothing."""
        if self._connection is None and not self._connected():
            return None
        assert self._connection is not None
        try:
            told = self._connection.events()
            over = self._connection.at_end
        except NoAnswer:  # by another release of pyxcsr, or by something that is none
            told, over = [], True
        if over:
            self.close()
        shown = [x for x in map(progress_of, told) if x is not None]
        self.found = self.found or bool(shown)
        return shown[-1] if shown else None

    def close(self) -> None:
        """Lets go of it. Again: nothing happens."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> bool:
        if self._run_dir is None or time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + TRIED
        try:
            with Folder(self._run_dir) as folder:
                self._connection = Connection(folder, self._domid)
            self._connection.ask(WATCH)
        except (OSError, Unusable, NoAnswer):
            self.close()
            return False
        return True


def progress_of(event: dict[str, Any]) -> Optional[Progress]:
    """What an event says of how far the save is; None: nothing that could be shown."""
    phase, share = event.get("phase"), event.get("throttled")
    numbers = [event.get(x) for x in NUMBERS]
    if not isinstance(phase, str) or not phase.isalpha() or not all(type(x) is int for x in numbers):
        return None
    facts: dict[str, Any] = {"phase": phase, **dict(zip(NUMBERS, numbers)), "seconds": 0.0}
    return Progress(**facts, throttled=float(share) if isinstance(share, (int, float)) else 0.0)


def folder_of_saves() -> Optional[str]:
    """Where the helper puts its socket, by the environment and the settings file, which it goes by itself."""
    try:
        return folder_name(control_words(os.environ, read_settings_file(os.environ)).get("run_dir"))
    except UsageError:  # then there will be no save either, and the helper says why
        return None
