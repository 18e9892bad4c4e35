"""A save's socket: it is looked at when the save has time for it, and takes what is there without waiting.

All is bounded: clients, the length of a line, requests at a time, what waits for a slow reader. Whoever goes beyond
that is shown out; the save does not notice.
"""

from __future__ import annotations

import os
import time

from pyxcsr.control.folder import socket_name
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pyxcsr.control.folder import Folder

LONGEST = 4096
"""Bytes of a request's line, newline included."""

MOST_CLIENTS = 16
BACKLOG = 16
ACCEPTED = 8
"""New clients at a time."""

REQUESTS = 4
"""Lines of one client at a time."""

IDLE = 10.0
"""Seconds for which a client that has not asked to be told of events may say nothing."""

if TYPE_CHECKING:
    Answer = Callable[["Client", bytes], None]
    """Takes a client's line, and puts the answer into its outlet."""


class Client:
    """Somebody at the other end of a connection. ``watches``: is told of events, too; ``gone``: to be closed."""

    __slots__ = ("_fd", "_read", "gone", "heard", "out", "watches")

    def __init__(self, fd: int, now: float) -> None:
        from pyxcsr.control.outlet import Outlet  # which a save without clients does without

        self._fd, self._read = fd, bytearray()
        self.out = Outlet(self._write)
        self.watches, self.gone, self.heard = False, False, now

    def _write(self, data: bytes) -> int:
        from pyxcsr.control.outlet import sent

        return sent(self._fd, data)

    def lines(self, now: float) -> list[bytes]:
        """What it has asked, a few lines at most. A line that is too long, or its end, makes it ``gone``."""
        try:
            data = os.read(self._fd, LONGEST) if len(self._read) <= LONGEST else b""
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data is not None and not data and len(self._read) <= LONGEST:
            self.gone = True
        if data:
            self.heard = now
            self._read += data
        return self._taken()

    def _taken(self) -> list[bytes]:
        lines: list[bytes] = []
        while len(lines) < REQUESTS:
            end = self._read.find(b"\n")
            if end < 0:
                self.gone = self.gone or len(self._read) >= LONGEST
                break
            lines.append(bytes(self._read[:end]))
            del self._read[: end + 1]
        return lines

    def flush(self) -> None:
        """What it takes; if it does not read at all, it is ``gone``."""
        try:
            self.out.flush()
        except OSError:
            self.gone = True
        if self.out.dropped:
            self.gone = True

    def close(self) -> None:
        """Again: nothing happens."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self.out.close()
            os.close(fd)


def _refuse(new: socket.socket) -> None:
    """There is no room: says so, without waiting. A connection that just ends looks like a save that is over."""
    from pyxcsr.control import events
    from pyxcsr.control.outlet import sent

    told = events.event("error", {"message": f"{MOST_CLIENTS} clients are connected already"})
    try:
        sent(new.fileno(), events.line(told))
    except OSError:
        return  # it has gone already, and wants to know nothing


class Server:
    """The socket of one save, and its clients. The caller holds the domain's lock.

    Raises Unusable if something that is not ours stands in its place, and OSError.
    """

    __slots__ = ("_answer", "_clients", "_clock", "_domid", "_fd", "_folder", "_inode")

    def __init__(
        self, folder: Folder, domid: int, answer: Answer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        import _socket  # socket itself takes 5 ms to load, which a save without clients need not wait for

        self._folder, self._domid, self._answer, self._clock = folder, domid, answer, clock
        self._clients: list[Client] = []
        folder.remove_socket(socket_name(domid))
        made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            os.fchmod(made.fileno(), 0o600)  # which bind() goes by
            made.bind(folder.address(socket_name(domid)))
            made.listen(BACKLOG)
            self._inode = os.stat(socket_name(domid), dir_fd=folder.fd, follow_symlinks=False)
        except BaseException:
            made.close()
            raise
        self._fd = made.detach()

    @property
    def watched(self) -> bool:
        """Whether anybody wants to be told of events."""
        return any(x.watches for x in self._clients)

    def serve(self) -> None:
        """Takes new clients, answers what they ask, and writes what they take."""
        now = self._clock()
        if self._waits():
            self._accept(now)
        for client in self._clients:
            for line in client.lines(now):
                self._answer(client, line)
            client.flush()
            if not client.watches and now - client.heard > IDLE:
                client.gone = True
        self._show_out()

    def tell(self, line: bytes) -> None:
        """An event, for all who watch."""
        for client in self._clients:
            if client.watches:
                client.out.put(line)

    def flush(self) -> None:
        """Writes what the clients take."""
        for client in self._clients:
            client.flush()
        self._show_out()

    def close(self, last: Callable[[], bytes]) -> None:
        """Tells everybody ``last``, those who wait to be let in, too, and ends. Again: nothing happens."""
        if self._fd < 0:
            return
        try:
            if self._waits():
                self._accept(self._clock())
            for client in self._clients:
                client.out.put(last())
                client.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends without a word. Again: nothing happens."""
        if self._fd < 0:
            return
        for client in self._clients:
            client.close()
        self._clients = []
        fd, self._fd = self._fd, -1
        self._remove()
        os.close(fd)

    def _remove(self) -> None:
        try:
            there = os.stat(socket_name(self._domid), dir_fd=self._folder.fd, follow_symlinks=False)
            if os.path.samestat(there, self._inode):
                os.unlink(socket_name(self._domid), dir_fd=self._folder.fd)
        except OSError:  # gone already, or to be swept up by the next save
            pass

    def _waits(self) -> bool:
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def _accept(self, now: float) -> None:
        import socket

        listening = socket.socket(fileno=self._fd)
        try:
            for _ in range(ACCEPTED):
                try:
                    new, _address = listening.accept()
                except OSError:  # nobody more; or no descriptor left, and they wait
                    return
                with new:  # if anything goes wrong with it, it is closed
                    if len(self._clients) < MOST_CLIENTS:
                        new.setblocking(False)
                        self._clients.append(Client(new.detach(), now))
                    else:
                        _refuse(new)
        finally:
            listening.detach()

    def _show_out(self) -> None:
        for client in [x for x in self._clients if x.gone]:
            client.close()
        self._clients = [x for x in self._clients if not x.gone]
