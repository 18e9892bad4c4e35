"""What has come of a checkpoint that is not whole yet, held back in memory of the kernel's (memfd)."""

from __future__ import annotations

import os
from array import array

from pyxcsr.errors import HypervisorError, StreamError
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.stream.format import PAGE_DATA_HEADER, RECORD_HEADER, RecordType, padding_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyxcsr.stream.incoming import Head, IncomingStream

KEPT = 64 << 20
"""Bytes of memory that are kept for the next checkpoint; what is more goes back at once."""


def _no_room(op: str, error: OSError) -> HypervisorError:
    text = f"a checkpoint cannot be held back, in memory of this host's: {error.strerror}"
    return HypervisorError(text, op=op, errno=error.errno or 0)


class Spool:
    """Records, as they stand in the stream. ``limit``: how many bytes there may be. Its owner closes it."""

    def __init__(self, limit: int) -> None:
        """Raises HypervisorError if this host has no memory for it."""
        self._limit = limit
        try:
            self.fd = os.memfd_create("pyxcsr-checkpoint", os.MFD_CLOEXEC)
        except OSError as error:
            raise _no_room("memfd_create", error) from error
        self.size = 0
        self.offset = 0
        """Where in the stream the first of them began."""

    def add(self, stream: IncomingStream, head: Head) -> None:
        """Takes a record, whose header has been read, out of the stream.

        Raises StreamError where it is too much, and HypervisorError where this host has no memory for it. That is no
        reason to take over: the sender's guest runs, and goes on when this end gives up.
        """
        if not self.size:
            self.offset = head.offset
        if self.size + RECORD_HEADER.size + head.length > self._limit:
            raise StreamError(
                f"{head.name} at offset {head.offset}: the checkpoint that begins at {self.offset} has more than "
                f"{self._limit} bytes, which is more than the domain can change",
                offset=head.offset,
                record=head.name,
                length=head.length,
            )
        self._put(RECORD_HEADER.pack(head.code, head.length))
        stream.pass_on(head, self._put)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except OSError as error:
                raise _no_room("write", error) from error
        self.size += len(data)

    def pages(self) -> Iterator[Sequence[int]]:
        """The entries of each PAGE_DATA record."""
        at = 0
        while at < self.size:
            code, length = RECORD_HEADER.unpack(os.pread(self.fd, RECORD_HEADER.size, at))
            if code == RecordType.PAGE_DATA:
                yield self.entries(at, length)
            at += RECORD_HEADER.size + length + padding_of(length)

    def entries(self, at: int, length: int) -> Sequence[int]:
        """The entries of a PAGE_DATA record that was added at ``at``; none if it says more than it has room for.

        ``length``: of its body.
        """
        begin = at + RECORD_HEADER.size
        count = int.from_bytes(os.pread(self.fd, 4, begin), "little") if length >= PAGE_DATA_HEADER.size else 0
        room = max(length - PAGE_DATA_HEADER.size, 0) // 8
        return array("Q", os.pread(self.fd, 8 * count, begin + PAGE_DATA_HEADER.size) if count <= room else b"")

    def body(self, at: int, length: int) -> bytes:
        """The body of a record that was added at ``at``. ``length``: of it."""
        return os.pread(self.fd, length, at + RECORD_HEADER.size)

    def rewind(self) -> None:
        """So that reading begins at the first record."""
        os.lseek(self.fd, 0, os.SEEK_SET)

    def clear(self) -> None:
        """Forgets all of them."""
        self.rewind()
        if self.size > KEPT:
            os.ftruncate(self.fd, 0)
        self.size = 0

    def close(self) -> None:
        """Gives the memory back."""
        os.close(self.fd)
