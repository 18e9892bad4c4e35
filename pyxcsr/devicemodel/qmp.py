"""QEMU's machine protocol, as far as a saver needs it: one command at a time over the socket that libxl has QEMU open.

QEMU serves one client at a time: while libxl has a connection of its own, a second one is accepted by the kernel but
not greeted. So connections here are short, and one that is not greeted in time is "busy".

Source: docs/interop/qmp-spec in QEMU's tree; the socket's name is libxl's (libxl_qmp.c).
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Optional

from pyxcsr.devicemodel.place import socket_path
from pyxcsr.errors import DeviceModelError

SECONDS = 10.0
"""How long a command may take; libxl allows QEMU's log-dirty command the same."""

BUSY_SILENCE = "is busy with another client (is an `xl` command at work on the domain?)"
BUSY = f"has a device model that {BUSY_SILENCE}"
_RETRY = 0.05

MAX_LINE = 1 << 20
"""The longest message that is read: QEMU's answers to these commands have some hundred bytes."""


class Qmp:
    """One connection, greeted and ready for commands; a context manager that closes it."""

    def __init__(self, domid: int, path: Optional[str] = None, seconds: float = SECONDS) -> None:
        """Raises DeviceModelError if nobody listens, or nobody answers within ``seconds``."""
        self._domid, self._path, self._seconds = domid, path or socket_path(domid), seconds
        self._until = time.monotonic() + seconds
        self._buffer = b""
        self.version: Optional[tuple[int, int]] = None
        """QEMU's, major and minor, as it greets; None if it does not say."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection, for the next client."""
        self._socket.close()

    def _connect(self) -> None:
        try:
            self._reach()
        except FileNotFoundError as error:
            raise self._error("has no device model that listens; has its QEMU ended?", "connect") from error
        except OSError as error:
            raise self._error(f"has a device model that cannot be reached: {error}", "connect") from error
        greeting = self._message("greeting", BUSY_SILENCE)
        if "QMP" not in greeting:
            raise self._error(f"has something at its socket that greets unlike QEMU: {greeting!r:.200}", "greeting")
        self.version = _version(greeting["QMP"])
        self.command("qmp_capabilities")

    def _reach(self) -> None:
        """Connects. As long as QEMU's queue of clients is full, the kernel says EAGAIN: then it is tried again."""
        while True:
            self._socket.settimeout(self._seconds)
            try:
                self._socket.connect(self._path)
                return
            except BlockingIOError as error:
                if time.monotonic() >= self._until:
                    raise self._error(BUSY, "connect") from error
                time.sleep(_RETRY)

    def command(self, name: str, **arguments: Any) -> Any:
        """Has QEMU do something, and returns what it answers. Raises DeviceModelError."""
        self._until = time.monotonic() + self._seconds
        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(json.dumps(request).encode() + b"\r\n", socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._error(f"has a device model that took no command: {error}", name) from error
        while True:
            answer = self._message(name, "does not answer")
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                why = answer["error"]
                text = why.get("desc", why) if isinstance(why, dict) else why
                raise self._error(f"has a device model that refused {name}: {text}", name)
            # anything else is an event

    def _message(self, op: str, silent: str) -> dict[str, Any]:
        line = self._line(op, silent)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._error(f"has a device model that sent what is no message: {line[:80]!r}", op) from error
        if not isinstance(message, dict):
            raise self._error(f"has a device model that sent what is no message: {line[:80]!r}", op)
        return message

    def _line(self, op: str, silent: str) -> bytes:
        while b"\n" not in self._buffer:
            left = self._until - time.monotonic()
            if left <= 0:
                raise self._error(f"has a device model that {silent} within {self._seconds:.0f} s", op)
            self._socket.settimeout(left)
            try:
                more = self._socket.recv(65536)
            except socket.timeout:  # TimeoutError since Python 3.10
                continue
            except OSError as error:
                raise self._error(f"has a device model that cannot be read from: {error}", op) from error
            if not more:
                raise self._error("has a device model that closed the connection", op)
            self._buffer += more
            if len(self._buffer) > MAX_LINE:
                raise self._error("has a device model whose message does not end", op)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _error(self, what: str, op: str) -> DeviceModelError:
        return DeviceModelError(
            f"domain {self._domid} {what} ({self._path})", domid=self._domid, op=op, path=self._path
        )


def _version(qmp: object) -> Optional[tuple[int, int]]:
    """Of a greeting."""
    try:
        said = qmp["version"]["qemu"]  # type: ignore[index]
        return int(said["major"]), int(said["minor"])
    except (TypeError, KeyError, ValueError):
        return None
