"""One pass through a stream: its records are read, its pages only looked up, or kept elsewhere if asked."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional, Protocol

from pyxcsr.container.enter import enter
from pyxcsr.container.reader import Kind
from pyxcsr.errors import StreamError
from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.image.contents import KEPT, Contents, Place
from pyxcsr.image.pagemap import WITH_CONTENT, PageMap
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.incoming import Head, IncomingStream
from pyxcsr.stream.records import nr_with_data, types_of, words
from pyxcsr.stream.runs import row_of
from pyxcsr.stream.source import Input, Source

SLICE = 1 << 14
"""Entries looked at together: a hostile record can hold 16 million."""

_DATA = bytes(kind for kind in PageType if kind.has_data)
_KNOWN = bytes(PageType)

Tick = Callable[[int], None]


class Keep(Protocol):
    """Where pages go whose input cannot be read again."""

    def take(self, pfns: Sequence[int], read: Callable[[int], memoryview]) -> Sequence[int]:
        """The pages of these pfns, which ``read`` gives one after the other; their places."""

    def forget(self, pfns: Sequence[int]) -> None:
        """These pfns had content, and have none any more, by the same entries that ``take`` was called for last."""


class Skipping(Source):
    """A Source that passes over bytes without reading them where its input can seek. ``start``: where it began."""

    def __init__(self, file: Input) -> None:
        super().__init__(file)
        self._fd = file if isinstance(file, int) and seekable(file) else None
        self.start = os.lseek(self._fd, 0, os.SEEK_CUR) if self._fd is not None else 0
        self._end = _end(self._fd, self.start) if self._fd is not None else 0

    def skip(self, wanted: int) -> int:
        """As Source's."""
        if self._fd is None or wanted <= len(self._ahead):
            return super().skip(wanted)
        self.check_open()
        there = min(wanted, max(self._end - self.start - self.offset, 0))
        self._ahead = b""
        self.offset += there
        os.lseek(self._fd, self.start + self.offset, os.SEEK_SET)
        return there


def seekable(fd: int) -> bool:
    """Whether a descriptor is of a file or a block device."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _end(fd: int, back: int) -> int:
    end = os.lseek(fd, 0, os.SEEK_END)
    os.lseek(fd, back, os.SEEK_SET)
    return end


class Taken(NamedTuple):
    """What a pass has found: each pfn's last word, the records, and what was around the stream."""

    map: PageMap
    contents: Contents
    kind: Kind


def take(source: Skipping, keep: Optional[Keep] = None, tick: Optional[Tick] = None) -> Taken:
    """Reads one stream, in a container or not, up to its END.

    ``keep``: where the pages go; without it they are passed over. ``tick`` is called now and then with the bytes read
    so far; it may raise. Raises StreamError, NotAStream, StreamTruncated, OSError.
    """
    kind = enter(source)
    stream = _Pass(source, keep, source.start)
    contents = Contents(stream.image_header.version, stream.domain_header)
    while stream.take_record(contents):
        if tick is not None:
            tick(source.offset)
    return Taken(stream.map, contents, kind)


class _Pass(IncomingStream):
    """A reader that takes records one by one, and looks up the pages."""

    def __init__(self, source: Source, keep: Optional[Keep], began: int) -> None:
        super().__init__(source)
        self._keep, self._began = keep, began
        self.map = PageMap()
        self._comparing = False

    def take_record(self, contents: Contents) -> bool:
        """One record; False if it was END."""
        head = self.head()
        if head.code == RecordType.PAGE_DATA:
            self._page_data(head)
        elif head.code in KEPT:
            if head.length > KEPT[head.code]:
                raise _wrong(head, f"{head.length} bytes; no guest has more than {KEPT[head.code]}")
            contents.learn(Place(head.code, self._began + self.offset, head.length), self.record(head))
        elif head.code == RecordType.CHECKPOINT:
            raise _wrong(head, "this is a checkpointed stream (Remus, COLO), which has no single guest image in it")
        elif head.code not in RecordType._value2member_map_ and not head.code & fmt.RECORD_OPTIONAL:
            raise _wrong(head, "a mandatory record that this release does not know; what it says would be lost")
        else:
            self._comparing |= head.code == RecordType.VERIFY
            self._pass_over(head, head.length + fmt.padding_of(head.length))
        return head.code != RecordType.END

    def _page_data(self, head: Head) -> None:
        entries, types = self._entries(head)
        if self._comparing:
            self._pass_over(head, nr_with_data(types) * PAGE_SIZE)
        else:
            for at in range(0, len(types), SLICE):
                self._slice(head, entries[8 * at : 8 * (at + SLICE)], types[at : at + SLICE])
        self._pass_over(head, fmt.padding_of(head.length))

    def _entries(self, head: Head) -> tuple[memoryview, bytes]:
        """The entries, and their types; that the pages fit them has been checked."""
        fixed = fmt.PAGE_DATA_HEADER.size
        if head.length < fixed:
            raise _wrong(head, f"{head.length} bytes are too few")
        count = fmt.PAGE_DATA_HEADER.unpack(self._exactly(fixed, head.offset, head.name))[0]
        left = head.length - fixed - 8 * count
        if left < 0:
            raise _wrong(head, f"{head.length} bytes are too few for {count} entries")
        entries = self._exactly(8 * count, head.offset, head.name)
        types = types_of(entries)
        wanted = nr_with_data(types) * PAGE_SIZE
        if left != wanted:
            raise _wrong(head, f"{left} bytes of pages, must be {wanted} by its entries' types")
        unknown = types.translate(None, _KNOWN)
        if unknown:
            raise _wrong(head, f"the unknown page type 0x{unknown[0]:x}")
        return entries, types

    def _slice(self, head: Head, entries: memoryview, types: bytes) -> None:
        """Some entries; the source stands at their contents, and behind those afterwards."""
        pfns = _pfns(words(entries))
        highest = pfns[-1] if isinstance(pfns, range) else max(pfns)
        if highest >= fmt.PFN_LIMIT:
            raise _wrong(head, f"pfn 0x{highest:x}: no x86 guest has such a page")
        self.map.note(pfns, types, self._contents(head, pfns, types))
        if self.map.scattered:
            raise _wrong(head, "the pfns up to here are too far apart to keep track of: this is no guest's memory")

    def _contents(self, head: Head, pfns: Sequence[int], types: bytes) -> Sequence[int]:
        """The places of the pages that follow."""
        if self._keep is None:
            place = self._began + self.offset
            length = nr_with_data(types) * PAGE_SIZE
            self._pass_over(head, length)
            return range(place, place + length, PAGE_SIZE)
        kept = [pfn for pfn, kind in zip(pfns, types) if kind in _DATA]
        places = self._keep.take(kept, lambda wanted: self._exactly(wanted, head.offset, head.name))
        if len(kept) < len(pfns):
            last, here = dict(zip(pfns, types)), set(kept)  # a record can name a pfn twice
            gone = (pfn for pfn, kind in last.items() if kind not in _DATA)
            self._keep.forget([x for x in gone if x in here or self.map.word(x) & 0xFF in WITH_CONTENT])
        return places

    def _pass_over(self, head: Head, wanted: int) -> None:
        got = self._source.skip(wanted)
        if got < wanted:
            raise self._truncated(head.offset, head.name, wanted, got)


def _pfns(entries: array[int]) -> Sequence[int]:
    """The pfns of entries: a range if they are in a row, as they mostly are, and all of one type."""
    row = row_of(entries)
    if row is not None:
        first = row[0] & fmt.ENTRY_PFN_MASK
        return range(first, first + len(row))
    return [x & fmt.ENTRY_PFN_MASK for x in entries]


def _wrong(head: Head, text: str) -> StreamError:
    return StreamError(f"{head.name}: {text}", offset=head.offset, record=head.name)
