"""The other end of a save's socket: lines out, events in."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Optional

from pyxcsr.control.events import VERSION
from pyxcsr.control.folder import Folder, socket_name

LONGEST = 1 << 16
"""Bytes of an event's line; a save's are a few hundred."""

Event = dict[str, Any]


class NoAnswer(Exception):
    """Nothing that could be understood came in time, or the other end is gone: ``hung_up``."""

    def __init__(self, text: str, hung_up: bool = False) -> None:
        super().__init__(text)
        self.hung_up = hung_up


class Connection:
    """A connection to the save of one domain. Raises OSError if nobody listens there."""

    def __init__(self, folder: Folder, domid: int) -> None:
        self.domid = domid
        self._read = bytearray()
        self._come: list[Event] = []
        self.at_end = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(folder.address(socket_name(domid)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Again: nothing happens."""
        self._socket.close()

    def fileno(self) -> int:
        """For select()."""
        return self._socket.fileno()

    def ask(self, action: str, words: Optional[Mapping[str, Any]] = None) -> None:
        """Sends a request. Raises NoAnswer if the save is gone, unless it has left a word: that is the next event."""
        line = json.dumps({"pyxcsr": VERSION, "do": action, **(words or {})}).encode() + b"\n"
        try:
            self._socket.sendall(line, socket.MSG_NOSIGNAL)
        except OSError as error:
            self._come = self.events()
            if not self._come:
                text = f"the save of domain {self.domid} does not take it: {error.strerror}"
                raise NoAnswer(text, hung_up=True) from None

    def events(self) -> list[Event]:
        """What has come by now. ``at_end`` afterwards: nothing more will. Raises NoAnswer for what is no event."""
        while not self.at_end:
            try:
                data = self._socket.recv(LONGEST)
            except BlockingIOError:
                break
            except OSError:  # it ended with a request of ours unread
                data = b""
            self.at_end = not data
            self._read += data
            if len(self._read) > 4 * LONGEST:
                break
        come, self._come = self._come, []
        return come + self._whole_lines()

    def _whole_lines(self) -> list[Event]:
        *lines, rest = self._read.split(b"\n")
        self._read = bytearray(rest)
        if len(rest) > LONGEST:
            raise NoAnswer(f"what listens for domain {self.domid} sends no events")
        return [self._event(bytes(x)) for x in lines]

    def _event(self, line: bytes) -> Event:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("event"), str):
            raise NoAnswer(f"what listens for domain {self.domid} sends no events")
        if told.get("pyxcsr") != VERSION:
            other = f"by another release of pyxcsr (schema {told.get('pyxcsr')}, not {VERSION})"
            raise NoAnswer(f"the save of domain {self.domid} is {other}")
        return told

    def next(self, until: float) -> Event:
        """The next event. ``until``: by time.monotonic(). Raises NoAnswer at the end, or too late."""
        import select

        while True:
            self._come = self.events()
            if self._come:
                return self._come.pop(0)
            left = until - time.monotonic()
            if self.at_end or left <= 0:
                what = "is over" if self.at_end else "does not answer"
                raise NoAnswer(f"the save of domain {self.domid} {what}", hung_up=self.at_end)
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.poll(min(left, 3600) * 1000)


def listeners(folder: Folder) -> list[int]:
    """The domains for which there is a socket. Raises OSError."""
    names = (x[: -len(".sock")] for x in os.listdir(folder.fd) if x.endswith(".sock"))
    return sorted(int(x) for x in names if x.isascii() and x.isdigit() and len(x) <= 5)
