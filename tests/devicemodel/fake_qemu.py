"""A QEMU for tests: a thread that serves one client after the other at a socket, and does what its script says."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any, Callable, Optional

VERSION = (7, 2)


def greeting(version: tuple[int, int]) -> bytes:
    """What a QEMU of that release says first."""
    qemu = {"micro": 0, "minor": version[1], "major": version[0]}
    return json.dumps({"QMP": {"version": {"qemu": qemu}, "capabilities": []}}).encode() + b"\r\n"

Reply = Callable[[str, dict[str, Any]], Optional[list[bytes]]]
"""What to send for a command, instead of what QEMU would; None: what QEMU would."""


class FakeQemu:
    """Listens at ``path``; ``commands`` are those that it has got, with their arguments."""

    def __init__(
        self, path: Path, reply: Optional[Reply] = None, greet: bool = True, version: tuple[int, int] = VERSION
    ) -> None:
        self.path, self.commands = path, list[tuple[str, dict[str, Any]]]()
        self.tracking = False
        self.running = True
        self._reply, self.greets, self._version = reply, greet, version
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; the socket file goes, too."""
        self.path.unlink(missing_ok=True)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def names(self) -> list[str]:
        """The commands that it has got, but for the negotiation."""
        return [name for name, _ in self.commands if name != "qmp_capabilities"]

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        if self.greets:
            client.sendall(greeting(self._version))
        with client.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                for answer in self._answers(request["execute"], request.get("arguments", {})):
                    if not answer or not self._sent(client, answer):
                        return

    @staticmethod
    def _sent(client: socket.socket, answer: bytes) -> bool:
        try:
            client.sendall(answer)
        except (BrokenPipeError, ConnectionResetError):  # the client has had enough
            return False
        return True

    def _answers(self, name: str, arguments: dict[str, Any]) -> list[bytes]:
        self.commands.append((name, arguments))
        other = self._reply(name, arguments) if self._reply else None
        if other is not None:
            return other
        if name == "xen-set-global-dirty-log":
            self.tracking = arguments["enable"]
        elif name in ("stop", "cont"):
            self.running = name == "cont"
        elif name == "xen-save-devices-state":
            Path(arguments["filename"]).write_bytes(b"QEVM" + bytes(100))
        event = json.dumps({"event": "SOMETHING", "timestamp": {"seconds": 1, "microseconds": 0}}).encode() + b"\r\n"
        return [event, b'{"return": {}}\r\n']
