"""Which pfns a page table refers to, kept in as few numbers as the table allows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.stream.records import Buffer, words

PRESENT = 0x001
PSE = 0x080
FRAME_MASK = 0x000F_FFFF_FFFF_F000
ENTRIES = 512
XEN_L4_SLOTS = range(256, 272)
"""Slots of a 64-bit guest's top level that are Xen's own: they mean nothing in a stream."""

PAE_TOP_ENTRIES = 4
"""A 32-bit guest's top level has four entries; Xen's software keeps a whole page for it."""

_PFN_BITS = 40
_SLOT_BITS = 9
_PFN_MASK = (1 << _PFN_BITS) - 1
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_ONE_PAGE_ON = 1 << PAGE_SHIFT


class Run(NamedTuple):
    """``length`` neighbouring slots that refer to neighbouring pfns."""

    slot: int
    pfn: int
    length: int


class TableTargets:
    """The present entries of one page table. ``offset``: of the record that brought this version of it."""

    __slots__ = ("_packed", "level", "offset", "superpages")

    def __init__(self, page: Buffer, level: int, top_level: int, offset: int) -> None:
        self.level = level
        self.offset = offset
        self.superpages: tuple[int, ...] = ()
        entries = words(page)
        whole = _whole_run(entries)
        if whole is not None and level == 1:
            self._packed = whole
            return
        slots = _guest_slots(level, top_level)
        present = [(slot, entries[slot]) for slot in slots if entries[slot] & PRESENT]
        if level > 1:
            self.superpages = tuple(slot for slot, entry in present if entry & PSE)
        self._packed = _pack(present)

    def runs(self) -> Iterator[Run]:
        """The references, slots ascending."""
        for packed in self._packed:
            yield Run(
                packed >> _PFN_BITS & _SLOT_MASK,
                packed & _PFN_MASK,
                (packed >> (_PFN_BITS + _SLOT_BITS)) + 1,
            )


def _guest_slots(level: int, top_level: int) -> list[int]:
    """The slots of a table that are the guest's own."""
    if level == 4:
        return _L4_SLOTS
    if level == top_level == 3:
        return _PAE_TOP_SLOTS
    return _ALL_SLOTS


_ALL_SLOTS = list(range(ENTRIES))
_PAE_TOP_SLOTS = list(range(PAE_TOP_ENTRIES))
_L4_SLOTS = [slot for slot in range(ENTRIES) if slot not in XEN_L4_SLOTS]


def _whole_run(entries: array[int]) -> array[int] | None:
    """The packed form of an empty table, or of one in which all pfns follow one another; else None."""
    first = entries[0]
    if not first & PRESENT:
        return array("Q") if not any(entries) else None
    if entries[-1] - first != (ENTRIES - 1) * _ONE_PAGE_ON:
        return None
    if entries != array("Q", range(first, first + ENTRIES * _ONE_PAGE_ON, _ONE_PAGE_ON)):
        return None
    return array("Q", [_packed(0, (first & FRAME_MASK) >> PAGE_SHIFT, ENTRIES)])


def _packed(slot: int, pfn: int, count: int) -> int:
    return (count - 1) << (_PFN_BITS + _SLOT_BITS) | slot << _PFN_BITS | pfn


def _pack(present: list[tuple[int, int]]) -> array[int]:
    packed = array("Q")
    start = start_pfn = count = 0
    for slot, entry in present:
        pfn = (entry & FRAME_MASK) >> PAGE_SHIFT
        if count and slot == start + count and pfn == start_pfn + count:
            count += 1
            continue
        if count:
            packed.append(_packed(start, start_pfn, count))
        start, start_pfn, count = slot, pfn, 1
    if count:
        packed.append(_packed(start, start_pfn, count))
    return packed
