"""What a stream said last of each pfn: its type, and where its content stands. Eight bytes a pfn."""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Union

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream.runs import in_a_row, pieces, row

CHUNK = 512
"""Pfns that are kept together: 4096 bytes."""

KNOWN = 0x80
"""Set in the low byte of a word of which anything was said; its low half is the type. The rest is the place."""

PLACE_SHIFT = 8
WITH_CONTENT = frozenset(KNOWN | kind for kind in PageType if kind.has_data)
_DATA_BITS = frozenset(int(kind) for kind in PageType if kind.has_data)
_RUNS = re.compile(b"[" + re.escape(bytes(sorted(WITH_CONTENT))) + b"]+")
SLACK = 64 << 20
"""Bytes that chunks may take, besides those that the entries took in the stream."""

_BYTES_PER_ENTRY = 8
_STRIDE = PAGE_SIZE << PLACE_SHIFT
_FEW = 8
_LOW = 0 if sys.byteorder == "little" else 7


def chunk_of(chunks: dict[int, array[int]], index: int) -> array[int]:
    """A chunk of words, made of zeros if there was none."""
    chunk = chunks.get(index)
    if chunk is None:
        chunk = chunks[index] = array("Q", bytes(CHUNK * 8))
    return chunk


class Run(NamedTuple):
    """``nr_pages`` pfns from ``pfn`` on, whose contents stand one after the other from ``place`` on."""

    pfn: int
    place: int
    nr_pages: int


class PageMap:
    """pfn -> (type, place of its content). ``entries`` counts all that was ever said."""

    def __init__(self) -> None:
        self.chunks: dict[int, array[int]] = {}
        self.entries = 0

    def word(self, pfn: int) -> int:
        """The word of a pfn; 0 if nothing was said of it."""
        chunk = self.chunks.get(pfn // CHUNK)
        return 0 if chunk is None else chunk[pfn % CHUNK]

    @property
    def scattered(self) -> bool:
        """True if the pfns are so far apart that keeping track of them takes more memory than they take in the stream.

        No guest is like that; a made-up stream can be, and would otherwise take memory at will.
        """
        return len(self.chunks) * CHUNK * 8 > SLACK + self.entries * _BYTES_PER_ENTRY

    def note(self, pfns: Sequence[int], types: bytes, places: Union[range, Sequence[int]]) -> None:
        """Notes the types of pfns, and the places of the contents of those that have any, in order."""
        self.entries += len(pfns)
        words = _words(types, places)
        if in_a_row(pfns):
            for at, chunk, within, count in pieces(pfns[0], len(words), CHUNK):
                chunk_of(self.chunks, chunk)[within : within + count] = words[at : at + count]
            return
        for pfn, word in zip(pfns, words):
            chunk_of(self.chunks, pfn // CHUNK)[pfn % CHUNK] = word

    # What is in it

    def flags(self, index: int) -> bytes:
        """The low bytes of a chunk's words."""
        chunk = self.chunks.get(index)
        return bytes(CHUNK) if chunk is None else bytes(memoryview(chunk).cast("B")[_LOW::8])

    def flags_of(self, pfn: int, count: int) -> bytes:
        """The low bytes of the words of ``count`` pfns from ``pfn`` on."""
        parts = (self.flags(chunk)[at : at + nr_pfns] for _, chunk, at, nr_pfns in pieces(pfn, count, CHUNK))
        return b"".join(parts)

    def known(self) -> Iterator[int]:
        """Each pfn of which anything was said, ascending."""
        for index in sorted(self.chunks):
            for at, flag in enumerate(self.flags(index), index * CHUNK):
                if flag:
                    yield at

    def with_content(self) -> Iterator[int]:
        """Each pfn that has content, ascending."""
        for index in sorted(self.chunks):
            for found in _RUNS.finditer(self.flags(index)):
                yield from range(index * CHUNK + found.start(), index * CHUNK + found.end())

    def ranges(self) -> Iterator[tuple[int, int]]:
        """(first, count) of each range of pfns with content, ascending."""
        first = end = 0
        for index in sorted(self.chunks):
            for found in _RUNS.finditer(self.flags(index)):
                start = index * CHUNK + found.start()
                if start != end:
                    if end > first:
                        yield first, end - first
                    first = start
                end = index * CHUNK + found.end()
        if end > first:
            yield first, end - first

    def runs(self, longest: int) -> Iterator[Run]:
        """The pfns with content, ascending, in runs of at most ``longest`` whose contents stand together."""
        pfn = place = count = 0
        for index in sorted(self.chunks):
            for first, at, length in _together(self.chunks[index], self.flags(index)):
                here = index * CHUNK + first
                if here != pfn + count or at != place + count * PAGE_SIZE:
                    if count:
                        yield Run(pfn, place, count)
                    pfn, place, count = here, at, 0
                count += length
                while count > longest:
                    yield Run(pfn, place, longest)
                    pfn, place, count = pfn + longest, place + longest * PAGE_SIZE, count - longest
        if count:
            yield Run(pfn, place, count)

    def count_types(self) -> dict[int, int]:
        """Type -> how many pfns were last said to have it."""
        flags = [self.flags(index) for index in self.chunks]
        counts = ((int(kind), sum(x.count(KNOWN | kind) for x in flags)) for kind in PageType)
        return {kind: count for kind, count in counts if count}

    def nr_with_content(self) -> int:
        """How many pfns have content."""
        return sum(count for kind, count in self.count_types().items() if kind in _DATA_BITS)

    def end(self) -> int:
        """One more than the highest pfn with content."""
        for index in sorted(self.chunks, reverse=True):
            last = max((found.end() for found in _RUNS.finditer(self.flags(index))), default=0)
            if last:
                return index * CHUNK + last
        return 0


def _together(chunk: array[int], flags: bytes) -> Iterator[tuple[int, int, int]]:
    """The words with content in pieces: slot, place of its content, and how many there are whose contents follow."""
    for found in _RUNS.finditer(flags):
        left = [(found.start(), found.end())]
        while left:
            start, end = left.pop()
            word, count = chunk[start], end - start
            last = word + (count - 1) * _STRIDE
            if chunk[end - 1] == last and chunk[start:end] == row(word, _STRIDE, count):
                yield start, word >> PLACE_SHIFT, count
            elif count <= _FEW:
                yield from ((at, chunk[at] >> PLACE_SHIFT, 1) for at in range(start, end))
            else:
                middle = (start + end) // 2
                left += [(middle, end), (start, middle)]


def _words(types: bytes, places: Union[range, Sequence[int]]) -> array[int]:
    kind = types[0]
    if not types.translate(_IDENTITY, bytes([kind])):  # all alike, as they mostly are
        if kind not in _DATA_BITS:
            return array("Q", [KNOWN | kind]) * len(types)
        if isinstance(places, range):
            return row(places.start << PLACE_SHIFT | KNOWN | kind, places.step << PLACE_SHIFT, len(types))
    at = iter(places)
    return array("Q", _mixed(types, at))


def _mixed(types: bytes, places: Iterator[int]) -> Iterable[int]:
    for kind in types:
        yield KNOWN | kind | (next(places) << PLACE_SHIFT if kind in _DATA_BITS else 0)


_IDENTITY = bytes(range(256))
