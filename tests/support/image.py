"""The memory that a stream leaves behind, found in the plainest way, to judge pyxcsr.MemoryImage and savers by."""

from __future__ import annotations

import os
from typing import NamedTuple, Optional

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import PageData


class Entry(NamedTuple):
    """A pfn's last entry: its type bits, and the offset of its content in the stream (None: without)."""

    type: int
    offset: Optional[int]


_WITHOUT_CONTENT = tuple(Entry(kind, None) for kind in range(16))


class MemoryImage:
    """What a complete stream in a seekable file says of each pfn, in the end. Contents stay in the file."""

    def __init__(self, fd: int) -> None:
        """Reads the whole stream. Raises StreamError."""
        self._fd = fd
        self.entries: dict[int, Entry] = {}
        os.lseek(fd, 0, os.SEEK_SET)
        for record in StreamReader(fd):
            if isinstance(record, PageData):
                self._take(record)

    def _take(self, record: PageData) -> None:
        if not record.nr_pages:  # as most of an HVM guest's records are: there are a million holes in a PC's memory
            self.entries.update(zip(record.pfns, map(_WITHOUT_CONTENT.__getitem__, record.type_bits)))
            return
        at = (record.offset or 0) + fmt.RECORD_HEADER.size + fmt.PAGE_DATA_HEADER.size + 8 * len(record.entries)
        for pfn, kind, content in record.items():
            self.entries[pfn] = Entry(kind, at if content is not None else None)
            if content is not None:
                at += PAGE_SIZE

    def page(self, pfn: int) -> Optional[bytes]:
        """A pfn's content, or None if its last entry has none (or there is no entry)."""
        entry = self.entries.get(pfn)
        if entry is None or entry.offset is None:
            return None
        return os.pread(self._fd, PAGE_SIZE, entry.offset)

    def type_of(self, pfn: int) -> PageType:
        """A pfn's type; XTAB if it has no entry."""
        entry = self.entries.get(pfn)
        return PageType(entry.type) if entry else PageType.XTAB
