"""Where a stream goes, and where one comes from."""

from __future__ import annotations

from typing import Callable, Optional, Protocol

Again = Callable[[], None]
"""Called at least ten times a second while the output is slow; may raise to give up (cancel)."""


class SinkHandle(Protocol):
    """Where the stream goes: an open file descriptor that the caller keeps open."""

    @property
    def offset(self) -> int:
        """Bytes written so far."""

    def write(self, data: bytes, again: Again) -> None:
        """Writes all of it. Raises OutputError, or what ``again`` raises."""

    def durable(self, expected: int) -> None:
        """Before the first write: the caller will fsync. A regular file is brought to the disk while it is written,
        after room for ``expected`` bytes was asked for; with any other output nothing changes."""

    def limit(self, bytes_per_second: Optional[int]) -> None:
        """From now on at most so many bytes a second are written; None: as many as the output takes."""

    @property
    def seconds_held(self) -> float:
        """For how long that limit has kept writes waiting."""

    @property
    def seconds_waited(self) -> float:
        """For how long writes have waited for the output to take anything."""

    @property
    def room(self) -> Optional[int]:
        """How many bytes the output holds before its reader has taken them, as a pipe and a socket do; None: it is
        neither, or does not say. (Of a socket that is half of SO_SNDBUF: the other half is the kernel's own.)"""

    def close(self) -> None:
        """Forgets the descriptor, without closing it."""


class SourceHandle(Protocol):
    """Where a stream comes from: an open file descriptor that the caller keeps open."""

    @property
    def offset(self) -> int:
        """Bytes read so far."""

    def read(self, length: int, again: Again) -> bytes:
        """So many bytes; fewer only where the input ends. Raises InputError, or what ``again`` raises."""

    def close(self) -> None:
        """Forgets the descriptor, without closing it."""


class Streams(Protocol):
    """Descriptors, prepared for streams."""

    def open_sink(self, fd: int) -> SinkHandle:
        """Prepares a descriptor for writing a stream. Raises OutputError if it is not writable."""

    def open_source(self, fd: int) -> SourceHandle:
        """Prepares a descriptor for reading a stream. Raises InputError if it is not readable."""
