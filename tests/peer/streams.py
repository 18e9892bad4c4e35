"""Taking streams apart, and making streams that no saver writes."""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path
from typing import Callable

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import PageData, Record

HEADER = 8
Page = tuple[int, PageType, bytes]


def records(path: Path) -> list[tuple[Record, bytes]]:
    """Each record with its bytes in the file: header, body and padding."""
    data = path.read_bytes()
    with open(path, "rb") as stream:
        found = list(StreamReader(stream))
    starts = [x.offset or 0 for x in found] + [len(data)]
    return [(x, data[begin:end]) for x, begin, end in zip(found, starts, starts[1:])]


def pages(path: Path) -> dict[int, tuple[int, bytes]]:
    """pfn -> (type, content) of all pages sent with one."""
    batches = [x for x, _ in records(path) if isinstance(x, PageData)]
    return {pfn: (kind, bytes(page)) for x in batches for pfn, kind, page in x.items() if page is not None}


def rewrite(source: Path, target: Path, change: Callable[[list[Page]], list[Page]]) -> None:
    """Copies a stream; ``change`` is given the pages of each PAGE_DATA record, and returns what it shall hold."""
    found = records(source)
    with open(target, "wb") as out:
        out.write(source.read_bytes()[: found[0][0].offset or 0])
        for record, raw in found:
            if not isinstance(record, PageData):
                out.write(raw)
                continue
            body = PageData.build(change(_listed(record))).encode()
            out.write(raw[:4] + struct.pack("<I", len(body)) + body)


def _listed(record: PageData) -> list[Page]:
    return [(pfn, PageType(kind), bytes(page or b"")) for pfn, kind, page in record.items()]


def without(pfns: Collection[int]) -> Callable[[list[Page]], list[Page]]:
    """A change for :func:`rewrite`: leaves pages out."""
    return lambda listed: [x for x in listed if x[0] not in pfns]


def with_entry(table: int, index: int, value: int) -> Callable[[list[Page]], list[Page]]:
    """A change for :func:`rewrite`: another entry in a page table."""

    def change(listed: list[Page]) -> list[Page]:
        return [(pfn, kind, _patched(page, index, value) if pfn == table else page) for pfn, kind, page in listed]

    return change


def _patched(page: bytes, index: int, value: int) -> bytes:
    assert len(page) == PAGE_SIZE
    return page[: index * 8] + struct.pack("<Q", value) + page[index * 8 + 8 :]
