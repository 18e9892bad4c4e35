"""PAGE_DATA whose pages are passed over, but for page tables: nobody looks into the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream.records import nr_with_data, types_of
from pyxcsr.stream.source import Source

_LEVELS = {int(kind): kind.level for kind in PageType}
_IS_TABLE = bytes(_LEVELS.get(kind, 0) > 0 for kind in range(256))
_NOTHING = memoryview(b"")


class Table(NamedTuple):
    """A page table among the entries of a record: which entry it is, and which of the pages with data, from 0."""

    entry: int
    page: int


class Sparse(NamedTuple):
    """What was read of a body. ``start``: up to the pages; ``nr_passed`` bytes follow, of which only tables were read.

    ``tables``: which of the pages with data -> its content. ``padding``: what follows the body. ``start`` alone, with
    None for the tables, is all of a body that has another length than its entries say.
    """

    start: memoryview
    tables: Optional[dict[int, memoryview]]
    nr_passed: int
    padding: memoryview


class CutOff(Exception):
    """The input ended within the body: only so many bytes of it are there."""

    def __init__(self, got: int) -> None:
        super().__init__(got)
        self.got = got


def tables_among(types: bytes) -> Iterator[Table]:
    """The page tables among entries of these types, in order."""
    marks = types.translate(_IS_TABLE)
    page = after = 0
    at = marks.find(1)
    while at >= 0:
        page += nr_with_data(types[after:at])
        after = at
        yield Table(at, page)
        at = marks.find(1, at + 1)


def take(source: Source, length: int) -> Sparse:
    """Reads a PAGE_DATA body of ``length`` bytes and its padding. Raises OSError, CutOff."""
    taking = _Taking(source)
    whole = length + fmt.padding_of(length)
    fixed = fmt.PAGE_DATA_HEADER.size
    start = taking.read(min(length, fixed))
    count = fmt.PAGE_DATA_HEADER.unpack(start)[0] if length >= fixed else 0
    if length < fixed + 8 * count:
        return taking.all_of(start, length, whole)
    joined = b"".join((start, taking.read(8 * count)))
    start = memoryview(joined)
    types = types_of(joined, fixed)
    nr_pages = nr_with_data(types)
    if length != len(start) + nr_pages * PAGE_SIZE:
        return taking.all_of(start, length, whole)
    tables = {}
    at = 0
    for _, page in tables_among(types):
        taking.skip((page - at) * PAGE_SIZE)
        tables[page] = taking.read(PAGE_SIZE)
        at = page + 1
    taking.skip((nr_pages - at) * PAGE_SIZE)
    return Sparse(start, tables, nr_pages * PAGE_SIZE, taking.read(whole - length))


def apart(body: memoryview) -> tuple[memoryview, dict[int, memoryview]]:
    """A body with its pages, as long as its entries say: what ``take`` has of it, up to the pages and page tables."""
    end = fmt.PAGE_DATA_HEADER.size + 8 * fmt.PAGE_DATA_HEADER.unpack_from(body)[0]
    start, pages = body[:end], body[end:]
    types = types_of(start, fmt.PAGE_DATA_HEADER.size)
    return start, {page: pages[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] for _, page in tables_among(types)}


class _Taking:
    """Reads that count what they have of one body."""

    def __init__(self, source: Source) -> None:
        self._source, self._began = source, source.offset

    def read(self, wanted: int) -> memoryview:
        if not wanted:
            return _NOTHING
        got = self._source.read(wanted)
        self._check(len(got), wanted)
        return got

    def skip(self, wanted: int) -> None:
        if wanted:
            self._check(self._source.skip(wanted), wanted)

    def all_of(self, start: memoryview, length: int, whole: int) -> Sparse:
        rest = self.read(whole - len(start))
        body = memoryview(b"".join((start, rest))).toreadonly()
        return Sparse(body[:length], None, 0, body[length:])

    def _check(self, got: int, wanted: int) -> None:
        if got < wanted:
            raise CutOff(self._source.offset - self._began)
