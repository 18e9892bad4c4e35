"""A stream taken record by record, the bodies of pages left to whoever puts them into a guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyxcsr.errors import StreamError, StreamTruncated
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import record_name
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import Record, decode

PIECE = 1 << 18
"""Bytes of a body that are passed on at once."""


class Head(NamedTuple):
    """A record's header: where it stands, its type, and the length of its body."""

    offset: int
    code: int
    length: int

    @property
    def name(self) -> str:
        """The record type's name."""
        return record_name(self.code)


class IncomingStream(StreamReader):
    """A reader that gives a record's header first, and the body only when asked for it."""

    def head(self) -> Head:
        """The next record's header. Raises StreamTruncated, StreamError."""
        offset = self.offset
        got = self._source.read(fmt.RECORD_HEADER.size)
        if len(got) < fmt.RECORD_HEADER.size:
            raise StreamTruncated(
                f"the stream ends at byte {self.offset} without an END record: it is not complete",
                offset=offset,
                record=None,
                wanted=fmt.RECORD_HEADER.size,
                got=len(got),
            )
        code, length = fmt.RECORD_HEADER.unpack(got)
        if length > fmt.RECORD_LENGTH_MAX:
            raise StreamError(
                f"{record_name(code)} at offset {offset}: length {length} is above {fmt.RECORD_LENGTH_MAX} bytes",
                offset=offset,
                record=record_name(code),
                length=length,
            )
        return Head(offset, code, length)

    def record(self, head: Head) -> Record:
        """The record whose header was read last. The caller has checked that its length is acceptable."""
        body = self._exactly(head.length + fmt.padding_of(head.length), head.offset, head.name)
        return decode(head.code, body[: head.length], head.offset)

    def skip(self, head: Head) -> None:
        """Reads past the body whose header was read last, piece by piece."""
        self.pass_on(head, lambda piece: None)

    def pass_on(self, head: Head, take: Callable[[memoryview], object]) -> None:
        """Gives the body whose header was read last, with its padding, to ``take``, piece by piece."""
        left = head.length + fmt.padding_of(head.length)
        while left:
            piece = min(left, PIECE)
            take(self._exactly(piece, head.offset, head.name))
            left -= piece

    def skipped(self, nr_bytes: int) -> None:
        """Somebody else has taken so many bytes from the input: offsets count them."""
        self._source.offset += nr_bytes
