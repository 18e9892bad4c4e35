"""Which pfns a page table refers to, kept in as few numbers as the table allows."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from operator import sub
from typing import TYPE_CHECKING, NamedTuple

from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.stream.records import packed, words

if TYPE_CHECKING:
    from pyxcsr.stream.records import Buffer

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
_PAGE = 1 << PAGE_SHIFT
_FIRST_LONGER = 1 << (_PFN_BITS + _SLOT_BITS)
_NEXT = (1 << _PFN_BITS) + 1
"""From the packed form of a slot and a pfn to that of the next slot and the next pfn."""

_FRAME_AND_PRESENT = FRAME_MASK | PRESENT

# A whole table as one long number, the entries its digits: a mask for all of them, and the digits 1, 1 ... and 0, 1 ...
_ALL_FRAMES_AND_PRESENT, _ONES, _ASCENDING = (
    int.from_bytes(packed(digits), "little")
    for digits in ([_FRAME_AND_PRESENT] * ENTRIES, [1] * ENTRIES, range(0, ENTRIES * _PAGE, _PAGE))
)
_FIRST_ENTRY = struct.Struct("<Q")
_LAST_AT = _PAGE - _FIRST_ENTRY.size


class Run(NamedTuple):
    """``length`` neighbouring slots that refer to neighbouring pfns."""

    slot: int
    pfn: int
    length: int


class TableTargets:
    """The present entries of one page table, as the guest's own slots have them.

    ``offset`` is that of the record that brought this version of the table; ``end`` is one more than the
    highest pfn referred to, 0 if there is none; ``superpages`` are the slots that map one.
    """

    __slots__ = ("_packed", "end", "level", "offset", "superpages")

    def __init__(self, page: Buffer, level: int, top_level: int, offset: int) -> None:
        self.level = level
        self.offset = offset
        self.superpages: tuple[int, ...] = ()
        first = _first_of_whole(page) if level == 1 else None
        if first is not None:
            self.end = first + ENTRIES
            self._packed = array("Q", [_packed(0, first, ENTRIES)])
            return
        entries = words(page)
        present = [
            (slot, entries[slot]) for slot in _guest_slots(level, top_level) if entries[slot] & PRESENT
        ]
        if level > 1:
            self.superpages = tuple(slot for slot, entry in present if entry & PSE)
        singles = [slot << _PFN_BITS | (entry & FRAME_MASK) >> PAGE_SHIFT for slot, entry in present]
        self.end = max((single & _PFN_MASK for single in singles), default=-1) + 1
        self._packed = _pack(singles)

    def runs(self) -> Iterator[Run]:
        """The references, slots ascending."""
        return map(_run, self._packed)

    def singles(self) -> list[int]:
        """The pfns that single slots refer to."""
        return [packed & _PFN_MASK for packed in self._packed if packed < _FIRST_LONGER]

    def longer_runs(self) -> list[Run]:
        """The references that are not in ``singles``."""
        longer = [packed for packed in self._packed if packed >= _FIRST_LONGER]
        return [_run(packed) for packed in longer]


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


def _first_of_whole(page: Buffer) -> int | None:
    """The first pfn if all entries are present and refer to pfns that follow one another; else None."""
    (first,) = _FIRST_ENTRY.unpack_from(page)
    (last,) = _FIRST_ENTRY.unpack_from(page, _LAST_AT)
    if not first & last & PRESENT or (last & FRAME_MASK) - (first & FRAME_MASK) != (ENTRIES - 1) * _PAGE:
        return None
    first &= _FRAME_AND_PRESENT  # the other flags may differ, as a rule the accessed and dirty bits do
    if int.from_bytes(page, "little") & _ALL_FRAMES_AND_PRESENT != first * _ONES + _ASCENDING:
        return None
    return int(first >> PAGE_SHIFT)


def _run(packed: int) -> Run:
    slot = packed >> _PFN_BITS & _SLOT_MASK
    return Run(slot, packed & _PFN_MASK, (packed >> (_PFN_BITS + _SLOT_BITS)) + 1)


def _packed(slot: int, pfn: int, length: int) -> int:
    return (length - 1) << (_PFN_BITS + _SLOT_BITS) | slot << _PFN_BITS | pfn


def _pack(singles: list[int]) -> array[int]:
    """References of one slot each, joined into runs where that makes them many fewer."""
    following = list(map(sub, singles[1:], singles)).count(_NEXT)
    if following * 4 <= len(singles):
        return array("Q", singles)
    packed = array("Q")
    start = length = 0
    for single in singles:
        if length and single == start + length * _NEXT:
            length += 1
            continue
        if length:
            packed.append((length - 1) << (_PFN_BITS + _SLOT_BITS) | start)
        start, length = single, 1
    packed.append((length - 1) << (_PFN_BITS + _SLOT_BITS) | start)
    return packed
