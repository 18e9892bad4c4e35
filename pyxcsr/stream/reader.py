"""A libxc stream as an iterator of typed records.

The reader takes what a receiver would take: it insists on what it needs to find its way (headers, record
lengths), and leaves rules about contents and order to ``verify``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional, Union

from pyxcsr.errors import NotAStream, StreamError, StreamTruncated, UsageError
from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.stream import format as fmt
from pyxcsr.stream import sniff
from pyxcsr.stream.after_end import AfterEnd, look
from pyxcsr.stream.format import DomainType, RecordType, record_name
from pyxcsr.stream.origin import Origin
from pyxcsr.stream.records import DomainHeader, ImageHeader, PageData, Record, decode
from pyxcsr.stream.source import Input, Source

IMAGE_HEADER_NAME = "image header"
DOMAIN_HEADER_NAME = "domain header"


class RawRecord(NamedTuple):
    """A record whose body has not been looked at. ``offset`` is that of its header.

    Of one that was read sparsely ``body`` ends where its pages begin, which are ``nr_passed`` bytes. ``tables`` are the
    page tables among them, by which of the pages with data they are; None if all of the body is in ``body``.
    """

    offset: int
    code: int
    body: memoryview
    padding: memoryview
    tables: Optional[dict[int, memoryview]] = None
    nr_passed: int = 0

    @property
    def name(self) -> str:
        """The record type's name."""
        return record_name(self.code)

    def decode(self) -> Record:
        """The typed record, of one that was read sparsely without its pages. Raises StreamError."""
        if self.tables is None:
            return decode(self.code, self.body, self.offset)
        return PageData.without_pages(self.body, self.offset)

    @property
    def size(self) -> int:
        """Bytes that the whole record takes in the stream."""
        return fmt.RECORD_HEADER.size + len(self.body) + self.nr_passed + len(self.padding)


class StreamReader:
    """Reads a stream from a file descriptor or binary file object, which may be a pipe.

    Iterating gives typed records (``pyxcsr.stream.records``), END the last; each has ``.offset``. What
    follows END is not read, so a stream within another can be read too. Memory is bounded by one record, and
    by what has really arrived of it. Raises NotAStream, StreamTruncated, StreamError, each with offset and
    record; after such an error the reader raises it again, since it has lost its place. Iterating once more goes on
    where it was left: to read a stream again, as ``verify`` does, takes another reader, of the file at its beginning.

    A Source that has been read from may be given, too: the stream begins where that stands (``start``), and all
    offsets are counted as the Source counts.
    """

    def __init__(self, source: Union[Input, Source]) -> None:
        """Raises UsageError for what cannot be read from, like a path."""
        self._source = source if isinstance(source, Source) else Source(source)
        self.start = self._source.offset
        self._image: ImageHeader | None = None
        self._domain: DomainHeader | None = None
        self._begun = self._ended = False
        self._failure: StreamError | None = None

    def __repr__(self) -> str:
        where = "after END" if self._ended else "failed" if self._failure is not None else "reading"
        return f"<{type(self).__name__}: {where}, at byte {self.offset}>"

    @property
    def offset(self) -> int:
        """Where the reader stands: bytes of the input read so far."""
        return self._source.offset

    @property
    def ended(self) -> bool:
        """True once END has been read."""
        return self._ended

    def check_not_begun(self, what: str) -> None:
        """Raises UsageError if records have been read already. ``what`` has to see all of them."""
        if self._begun:
            raise UsageError(
                f"{what} has to read the whole stream, and of this reader records were read already ({self!r}): give "
                "another StreamReader, of the file opened anew or after seek() to where the stream begins"
            )

    @property
    def image_header(self) -> ImageHeader:
        """The image header, read when first asked for. Raises NotAStream, StreamTruncated."""
        if self._image is None:
            if self._failure is not None:
                raise self._failure
            try:
                self._image = self._read_image_header()
            except StreamError as failure:
                self._failure = failure
                raise
        return self._image

    @property
    def domain_header(self) -> DomainHeader:
        """The domain header, read when first asked for. Raises StreamError if no such guest can be read."""
        _ = self.image_header
        if self._domain is None:
            body = self._exactly(fmt.DOMAIN_HEADER.size, self.start + fmt.IMAGE_HEADER.size, DOMAIN_HEADER_NAME)
            self._domain = DomainHeader.decode(body)
        self._check_domain(self._domain, self.start + fmt.IMAGE_HEADER.size)
        return self._domain

    @property
    def origin(self) -> Origin:
        """Where the stream says that it comes from. Raises as the headers do."""
        domain = self.domain_header
        return Origin(self.image_header.version, (domain.xen_major, domain.xen_minor))

    def raw_records(self, *, pages: bool = True) -> Iterator[RawRecord]:
        """Records as they stand, bodies unread; for programs that look at the framing.

        Without ``pages``, those of PAGE_DATA whose length agrees with its entries are passed over, but for page tables.
        Where the input can seek they are not even read, so that a disk's errors in them are not seen.
        """
        _ = self.domain_header
        while not self._ended:
            record = self._checked_record(pages)
            self._ended = record.code == RecordType.END
            yield record

    def __iter__(self) -> Iterator[Record]:
        for raw in self.raw_records():
            yield decode(raw.code, raw.body, raw.offset)

    def after_end(self) -> AfterEnd | None:
        """What follows the stream in its input, which is read to its end but for a block device. Raises OSError."""
        return look(self._source)

    def _read_image_header(self) -> ImageHeader:
        head = bytes(self._source.read(fmt.IMAGE_HEADER.size))
        marker = fmt.IMAGE_MARKER.to_bytes(8, "big")
        if not head or head[:8] != marker[: len(head)]:
            raise NotAStream(sniff.describe(head), offset=self.start, record=IMAGE_HEADER_NAME)
        if len(head) < fmt.IMAGE_HEADER.size:
            raise self._truncated(self.start, IMAGE_HEADER_NAME, fmt.IMAGE_HEADER.size, len(head))
        _, image_id, version, options, reserved1, reserved2 = fmt.IMAGE_HEADER.unpack(head)
        problem = sniff.describe_header(image_id, version, options)
        if problem is not None:
            raise NotAStream(problem, offset=self.start, record=IMAGE_HEADER_NAME)
        return ImageHeader(version, options, reserved1 << 32 | reserved2)

    @staticmethod
    def _check_domain(header: DomainHeader, offset: int) -> None:
        if header.type not in (DomainType.PV, DomainType.HVM):
            raise StreamError(
                f"domain type 0x{header.type:x} is neither x86 PV (1) nor x86 HVM (2)",
                offset=offset,
                record=DOMAIN_HEADER_NAME,
            )
        if header.page_shift != PAGE_SHIFT:
            raise StreamError(
                f"page shift {header.page_shift}: x86 pages have {PAGE_SHIFT}",
                offset=offset,
                record=DOMAIN_HEADER_NAME,
            )

    def _checked_record(self, pages: bool) -> RawRecord:
        self._begun = True
        if self._failure is not None:
            raise self._failure
        try:
            return self._next_record(pages)
        except StreamError as failure:
            self._failure = failure
            raise

    def _next_record(self, pages: bool) -> RawRecord:
        offset = self.offset
        head = self._source.read(fmt.RECORD_HEADER.size)
        if not len(head):
            raise StreamTruncated(
                f"the stream ends at byte {offset} without an END record: it is not complete",
                offset=offset,
                record=None,
                wanted=fmt.RECORD_HEADER.size,
                got=0,
            )
        if len(head) < fmt.RECORD_HEADER.size:
            raise self._truncated(offset, "record header", fmt.RECORD_HEADER.size, len(head))
        code, length = fmt.RECORD_HEADER.unpack(head)
        if length > fmt.RECORD_LENGTH_MAX:
            raise StreamError(
                f"length {length} is above the limit of {fmt.RECORD_LENGTH_MAX} bytes",
                offset=offset,
                record=record_name(code),
                length=length,
            )
        if code == RecordType.PAGE_DATA and not pages:
            return self._sparse_record(offset, length)
        whole = self._exactly(length + fmt.padding_of(length), offset, record_name(code))
        return RawRecord(offset, code, whole[:length], whole[length:])

    def _sparse_record(self, offset: int, length: int) -> RawRecord:
        from pyxcsr.stream import sparse

        code = RecordType.PAGE_DATA
        try:
            start, tables, nr_passed, padding = sparse.take(self._source, length)
        except sparse.CutOff as error:
            wanted = length + fmt.padding_of(length)
            raise self._truncated(offset, record_name(code), wanted, error.got) from None
        return RawRecord(offset, code, start, padding, tables, nr_passed)

    def _exactly(self, wanted: int, offset: int, record: str) -> memoryview:
        got = self._source.read(wanted)
        if len(got) < wanted:
            raise self._truncated(offset, record, wanted, len(got))
        return got

    def _truncated(self, offset: int, record: str, wanted: int, got: int) -> StreamTruncated:
        return StreamTruncated(
            f"the stream ends at byte {self.offset}: {got} of {wanted} bytes are there",
            offset=offset,
            record=record,
            wanted=wanted,
            got=got,
        )
