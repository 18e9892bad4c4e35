"""What the stream last said about each pfn: one byte a pfn, allocated only where something was said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pyxcsr.frames import PageType
from pyxcsr.stream.runs import in_a_row, pieces

CHUNK = 4096
SENT = 0x80
"""Set in the byte of every pfn that was sent; the low half is the type."""

_SENT_OF_TYPE = bytes(SENT | kind & 0xF for kind in range(256))
_UNSENT = bytes(CHUNK)
_GAPS = re.compile(b"\0+")
HAS_DATA = bytes(SENT | int(kind) for kind in PageType if kind.has_data)
_SLACK = 64 << 20
_BYTES_PER_ENTRY = 8


class PfnMap:
    """pfn -> last type. Memory: a byte for each pfn of a guest whose pfns are dense, as they are.

    ``highest`` is the highest pfn sent, -1 before any.
    """

    def __init__(self) -> None:
        self.highest = -1
        self._chunks: dict[int, bytearray] = {}
        self._entries = 0

    def __getitem__(self, pfn: int) -> int:
        """SENT | type, or 0 if the pfn was never sent."""
        chunk = self._chunks.get(pfn // CHUNK)
        return 0 if chunk is None else chunk[pfn % CHUNK]

    @property
    def scattered(self) -> bool:
        """True if the pfns are so far apart that keeping track of them would take more than they do.

        No guest is like that; a made-up stream can be, and would otherwise take memory at will.
        """
        return len(self._chunks) * CHUNK > _SLACK + self._entries * _BYTES_PER_ENTRY

    def count(self, states: bytes) -> int:
        """How many pfns are in one of ``states``."""
        return sum(CHUNK - len(chunk.translate(None, states)) for chunk in self._chunks.values())

    def set(self, pfns: Sequence[int], types: bytes) -> None:
        """Notes the type of each pfn; ``pfns`` is not empty."""
        self._entries += len(pfns)
        row = in_a_row(pfns)
        self.highest = max(self.highest, pfns[-1] if row else max(pfns))
        if row:
            self._set_run(pfns[0], types.translate(_SENT_OF_TYPE))
            return
        for pfn, kind in zip(pfns, types):
            self._chunk(pfn // CHUNK)[pfn % CHUNK] = SENT | kind

    def run(self, first: int, count: int) -> bytes:
        """The bytes of ``count`` pfns from ``first`` on."""
        index, within = divmod(first, CHUNK)
        if within + count <= CHUNK:
            return bytes(self._chunks.get(index, _UNSENT)[within : within + count])
        parts = []
        for piece in pieces(first, count, CHUNK):
            chunk = self._chunks.get(piece.chunk)
            parts.append((_UNSENT if chunk is None else chunk)[piece.within : piece.within + piece.nr_pfns])
        return b"".join(parts)

    def all_have_data(self, pfns: Iterable[int], runs: Iterable[tuple[int, int, int]]) -> bool:
        """True if each of ``pfns`` and of ``runs`` (anything, first pfn, count) was last sent with data."""
        chunks = self._chunks
        for pfn in pfns:
            chunk = chunks.get(pfn // CHUNK)
            if chunk is None or chunk[pfn % CHUNK] not in HAS_DATA:
                return False
        return not any(self.run(first, count).translate(None, HAS_DATA) for _, first, count in runs)

    def unsent(self, nr_pfns: int) -> Iterator[tuple[int, int]]:
        """(first, last) of each range below ``nr_pfns`` that was never sent, in order."""
        start = end = 0
        for gap_start, gap_end in self._gaps(nr_pfns):
            if gap_start == end and end > start:
                end = gap_end
                continue
            if end > start:
                yield start, end - 1
            start, end = gap_start, gap_end
        if end > start:
            yield start, end - 1

    def _gaps(self, nr_pfns: int) -> Iterator[tuple[int, int]]:
        """Like ``unsent``, but cut at chunks, and with exclusive ends."""
        at = 0
        for index in sorted(index for index in self._chunks if index * CHUNK < nr_pfns):
            base = index * CHUNK
            if base > at:
                yield at, base
            chunk, end = self._chunks[index], min(CHUNK, nr_pfns - base)
            if chunk.find(0, 0, end) >= 0:  # most have none, and this sees it ten times sooner
                for gap in _GAPS.finditer(chunk, 0, end):
                    yield base + gap.start(), base + gap.end()
            at = base + CHUNK
        if at < nr_pfns:
            yield at, nr_pfns

    def _chunk(self, index: int) -> bytearray:
        chunk = self._chunks.get(index)
        if chunk is None:
            chunk = self._chunks[index] = bytearray(CHUNK)
        return chunk

    def _set_run(self, first: int, marks: bytes) -> None:
        for at, chunk, within, count in pieces(first, len(marks), CHUNK):
            self._chunk(chunk)[within : within + count] = marks[at : at + count]
