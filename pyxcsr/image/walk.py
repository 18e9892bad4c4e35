"""Walks through a guest's page tables, whose entries are pfns in a stream whatever kind of guest it is.

The guest may have put anything there: a walk looks at one entry a level, and at nothing else.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from pyxcsr.errors import PageTableError
from pyxcsr.frames import PAGE_SHIFT

PRESENT, SUPERPAGE = 0x1, 0x80
_ADDRESS = (1 << 52) - (1 << PAGE_SHIFT)


class Step(NamedTuple):
    """One entry on the way: the table's level (1 is the last) and its pfn, the entry's slot in it, and the entry."""

    level: int
    pfn: int
    slot: int
    entry: int


class Walk(NamedTuple):
    """Where a virtual address leads, and by which entries. ``size``: bytes of the page that maps it."""

    paddr: int
    size: int
    steps: tuple[Step, ...]


Read = Callable[[int, int], bytes]
"""Bytes of the guest's memory: paddr, count."""


def walk(read: Read, vaddr: int, top: int, levels: int) -> Walk:
    """Follows ``vaddr`` from the table at the address ``top``.

    ``levels``: 4 or 5 for 64 bits, 3 for PAE, 2 for 32 bits, 0 without paging. Raises PageTableError (level, index,
    pfn) at an entry that is not present, and at the first one for an address that is not canonical, which no processor
    translates; and what ``read`` raises for a table that is not there.
    """
    if levels == 0:
        return Walk(vaddr, 1 << PAGE_SHIFT, ())
    size, bits = (4, 10) if levels == 2 else (8, 9)
    if levels < 4:
        vaddr &= 0xFFFF_FFFF
    else:
        _check_canonical(vaddr, top, levels)
    steps: list[Step] = []
    table = top
    for level in range(levels, 0, -1):
        shift = PAGE_SHIFT + bits * (level - 1)
        index = vaddr >> shift & ((1 << bits) - 1)
        entry = int.from_bytes(read(table + size * index, size), "little")
        steps.append(Step(level, table >> PAGE_SHIFT, index, entry))
        if not entry & PRESENT:
            raise _absent(vaddr, steps[-1])
        if level == 1 or _is_superpage(entry, level, levels):
            return Walk(_frame(entry, shift, size) + (vaddr & (1 << shift) - 1), 1 << shift, tuple(steps))
        table = entry & _ADDRESS
    raise AssertionError("the last level has returned")


def _check_canonical(vaddr: int, top: int, levels: int) -> None:
    bits = PAGE_SHIFT + 9 * levels
    if vaddr >> (bits - 1) in (0, (1 << 65 - bits) - 1):
        return
    text = f"virtual address {vaddr:#x} is not canonical: with {levels} levels, bits {bits - 1} to 63 must be the same"
    slot = vaddr >> (bits - 9) & 511
    raise PageTableError(text, level=levels, index=slot, pfn=top >> PAGE_SHIFT)


def _is_superpage(entry: int, level: int, levels: int) -> bool:
    """Of level 3 in PAE there are none: the bit is reserved there."""
    return bool(entry & SUPERPAGE) and (level == 2 or (level == 3 and levels > 3))


def _frame(entry: int, shift: int, size: int) -> int:
    address = entry & _ADDRESS
    if size == 4 and shift > PAGE_SHIFT:  # PSE-36: bits 13 to 20 of a 4 MiB page's entry are the address's from 32 on
        address = (entry & 0xFFC0_0000) | (entry >> 13 & 0xFF) << 32
    return address & ~((1 << shift) - 1)


def _absent(vaddr: int, step: Step) -> PageTableError:
    text = f"virtual address 0x{vaddr:x} is not mapped: entry {step.slot} of the level {step.level} table"
    return PageTableError(
        f"{text} in pfn 0x{step.pfn:x} is not present", level=step.level, index=step.slot, pfn=step.pfn
    )


