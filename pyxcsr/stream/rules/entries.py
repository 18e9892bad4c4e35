"""Rules on the entries of PAGE_DATA that need nothing but these and the kind of guest."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from pyxcsr.frames import PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream.runs import any_has, masked, row_in_bytes, row_of

_KNOWN = bytes(PageType)
_UNKNOWN = bytes(set(range(256)) - set(_KNOWN))
HVM_TYPES = bytes([PageType.NOTAB, PageType.BROKEN, PageType.XALLOC, PageType.XTAB])
"""Page types of an HVM guest."""


_TOPS = bytes(kind << 4 for kind in range(16))
"""What the highest byte of an entry is that has no reserved bits set."""


def types_allowed(levels: int | None) -> bytes:
    """Page types of a PV guest whose page tables have so many levels; None: of any."""
    return _KNOWN if levels is None else bytes(kind for kind in PageType if kind.level <= levels)


def pfns_of(entries: array[int]) -> Sequence[int]:
    """The pfns of entries, of which there is one at least: a range if they are in a row, as they mostly are."""
    pfns = masked(entries, fmt.ENTRY_PFN_MASK)
    return row_of(pfns) or pfns


def ordinary_row(entries: bytes) -> range | None:
    """The pfns of entries, of which there is one at least, if they are in a row and no reserved bits are set.

    None says that they have to be looked at more closely: they may be like that all the same.
    """
    first, tops = int.from_bytes(entries[:7], "little"), entries[7::8]
    wanted = row_in_bytes(first, len(tops)) if first <= fmt.ENTRY_PFN_MASK else None
    if wanted is None or tops.translate(None, _TOPS):
        return None
    wanted[7::8] = tops
    return range(first, first + len(tops)) if wanted == entries else None


def problems(entries: array[int], pfns: Sequence[int], types: bytes, kinds: bytes) -> Iterator[tuple[str, str]]:
    """(rule, text) of what is wrong with entries of these pfns and types, in a guest that can have ``kinds``."""
    if any_has(entries, fmt.ENTRY_RESERVED_MASK):
        entry = next(entry for entry in entries if entry & fmt.ENTRY_RESERVED_MASK)
        yield "reserved", f"entry 0x{entry:016x} has reserved bits set"
    unknown = types.translate(None, _KNOWN)
    if unknown:
        pfn = pfns[types.index(unknown[0])]
        yield "page-type", f"pfn 0x{pfn:x} has the unknown type 0x{unknown[0]:x}"
    strange = types.translate(None, kinds).translate(None, _UNKNOWN)
    if strange:
        pfn = pfns[types.index(strange[0])]
        yield "page-type-guest", f"pfn 0x{pfn:x} is {PageType(strange[0]).name}, which this kind of guest cannot have"
    if not isinstance(pfns, range) and len(set(pfns)) < len(pfns):
        yield "duplicate-pfn", f"pfn 0x{_first_duplicate(pfns):x} comes twice in the record"


def _first_duplicate(pfns: Sequence[int]) -> int:
    seen: set[int] = set()
    for pfn in pfns:
        if pfn in seen:
            return pfn
        seen.add(pfn)
    raise ValueError("no duplicate")
