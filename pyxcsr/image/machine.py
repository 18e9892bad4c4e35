"""A PV guest as its Xen had it: machine frame numbers back in page tables and contexts.

A stream has pfns there; the guest's own p2m, whose frames X86_PV_P2M_FRAMES names, still says which frames they were on
the machine that saved it. Debuggers of PV guests go by those, and by the guest's p2m.
"""

from __future__ import annotations

import re
import struct
from array import array
from typing import Optional

from pyxcsr.frames import INVALID_MFN, PAGE_SHIFT, PAGE_SIZE
from pyxcsr.image.memory import MemoryImage
from pyxcsr.image.pagemap import KNOWN
from pyxcsr.image.walk import PRESENT
from pyxcsr.stream.format import GDT_ENTRIES_PER_FRAME, GDT_FRAMES, VCPU_LAYOUTS
from pyxcsr.stream.records import words
from pyxcsr.stream.runs import pieces

_FRAME = (1 << 52) - (1 << PAGE_SHIFT)
_TABLE = re.compile(b"[" + re.escape(bytes(KNOWN | kind for kind in (1, 2, 3, 4, 9, 10, 11, 12))) + b"]")
_L4 = frozenset([4, 12])
_XEN_SLOTS = range(256, 272)
"""Of a level 4 table; what stands there is Xen's, and a stream has nothing of it."""


class Machine:
    """The pfns and mfns of a PV guest. ``unknown`` counts what was asked for and has no mfn."""

    def __init__(self, image: MemoryImage) -> None:
        self._image = image
        self._width = image.contents.width
        self._per_frame = PAGE_SIZE // self._width
        self._end = 1 << 8 * self._width - 2
        self._frames: dict[int, Optional[array[int]]] = {}
        self.unknown = 0

    def mfn(self, pfn: int) -> int:
        """The frame that a pfn had; INVALID_MFN if the guest's p2m has none for it.

        Linux has two bits beside a number that is no frame of the guest's: foreign ones, and pfns that are their own.
        """
        frames, index = self._image.contents.p2m_frames, pfn // self._per_frame
        entries = self._entries(frames[index]) if index < len(frames) else None
        found = self._end if entries is None else entries[pfn % self._per_frame]
        if found >= self._end:
            self.unknown += 1
            return INVALID_MFN
        return found

    def mfns(self, pfn: int, count: int) -> array[int]:
        """The frames of ``count`` pfns from ``pfn`` on, as ``mfn`` gives them."""
        frames, found = self._image.contents.p2m_frames, array("Q")
        for _, index, at, nr_pfns in pieces(pfn, count, self._per_frame):
            entries = self._entries(frames[index]) if index < len(frames) else None
            found += array("Q", [self._end]) * nr_pfns if entries is None else entries[at : at + nr_pfns]
        if max(found) < self._end:
            return found
        self.unknown += sum(x >= self._end for x in found)
        return array("Q", (x if x < self._end else INVALID_MFN for x in found))

    def _entries(self, frame: int) -> Optional[array[int]]:
        if frame not in self._frames:
            page = self._image.page(frame)
            self._frames[frame] = None if page is None else entries_of(page, self._width)
        return self._frames[frame]

    def pages(self, pfn: int, data: memoryview) -> None:
        """Puts mfns into those pages of pfns from ``pfn`` on that are page tables."""
        flags = self._image.map.flags_of(pfn, len(data) // PAGE_SIZE)
        for found in _TABLE.finditer(flags):
            page = data[found.start() * PAGE_SIZE : found.end() * PAGE_SIZE]
            self._put_mfns(page.cast("Q"), flags[found.start()] & 0xF in _L4)

    def _put_mfns(self, entries: memoryview, top: bool) -> None:
        """Into a page table, which is changed."""
        for index, entry in enumerate(entries.tolist()):
            if entry & PRESENT and not (top and index in _XEN_SLOTS):
                mfn = self.mfn((entry & _FRAME) >> PAGE_SHIFT)
                if mfn != INVALID_MFN:
                    entries[index] = entry & ~_FRAME | mfn << PAGE_SHIFT & _FRAME

    def context(self, vcpu: int, blob: bytes) -> bytes:
        """A vcpu's context with mfns: cr3, the user's page table, the GDT's frames, and vcpu 0's start_info."""
        layout = VCPU_LAYOUTS[self._width]
        out = bytearray(blob.ljust(layout.size, b"\0"))
        self._put_cr3(out, layout.cr3)
        if layout.ctrlreg1 is not None:
            self._put_user_cr3(out, layout.ctrlreg1)
        in_use = min(-(-self._get(out, layout.gdt_ents) // GDT_ENTRIES_PER_FRAME), GDT_FRAMES)
        for at in range(layout.gdt_frames, layout.gdt_frames + in_use * layout.word, layout.word):
            self._put(out, at, self._moved(self._get(out, at)))
        if vcpu == 0:
            self._put(out, layout.start_info, self._moved(self._get(out, layout.start_info)))
        return bytes(out)

    def _put_cr3(self, out: bytearray, at: int) -> None:
        value = self._get(out, at)
        if self._width == 8:
            self._put(out, at, value & ~_FRAME | self._moved((value & _FRAME) >> PAGE_SHIFT) << PAGE_SHIFT)
            return
        mfn = self._moved((value >> PAGE_SHIFT | value << 20) & 0xFFFF_FFFF)  # its bits beyond 20 are the lowest here
        self._put(out, at, mfn << PAGE_SHIFT | mfn >> 20)

    def _put_user_cr3(self, out: bytearray, at: int) -> None:
        """A stream marks a user page table by bit 0, which pfn 0 would need; Xen's own contexts have no such mark."""
        value = self._get(out, at)
        if value & 1:
            self._put(out, at, self._moved(value >> PAGE_SHIFT) << PAGE_SHIFT & _FRAME)

    def _moved(self, pfn: int) -> int:
        mfn = self.mfn(pfn)
        return pfn if mfn == INVALID_MFN else mfn

    def _get(self, out: bytearray, at: int) -> int:
        return int.from_bytes(out[at : at + self._width], "little")

    def _put(self, out: bytearray, at: int, value: int) -> None:
        out[at : at + self._width] = (value & (1 << 8 * self._width) - 1).to_bytes(self._width, "little")


def entries_of(page: bytes, width: int) -> array[int]:
    """The entries of a page of the p2m, each of ``width`` bytes."""
    return words(page) if width == 8 else array("Q", struct.unpack(f"<{PAGE_SIZE // 4}I", page))
