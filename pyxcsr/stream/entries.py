"""The entries of a PAGE_DATA record, looked at before its pages are: is there anything that a receiver would refuse?"""

from __future__ import annotations

from collections.abc import Sequence

PFN = (1 << 52) - 1
RESERVED = 0xFF << 52
WITHOUT_DATA = 0xD << 60
"""Types from here on (BROKEN, XALLOC, XTAB) have no page in the record."""
UNKNOWN = range(5, 9)
TABLES = frozenset({1, 2, 3, 4, 9, 10, 11, 12})
"""Page tables, pinned or not: only PV guests' pages are."""
PAGE = 4096


def problem(entries: Sequence[int], length: int, limit: int, tables: bool) -> str:
    """What is wrong with a body of ``length`` bytes that begins with these entries, "" if nothing is.

    ``limit``: the first pfn that the guest cannot have, which is where a PV guest's p2m ends. ``tables``: whether its
    pages can be page tables, as only a PV guest's are. What passes here csrc/restore/pages.c does not refuse.
    """
    if not entries or length != 8 + 8 * len(entries) + PAGE * sum(x < WITHOUT_DATA for x in entries):
        return f"of {length} bytes cannot have {len(entries)} entries, or not these"
    pfns = {x & PFN for x in entries}
    if len(pfns) < len(entries):
        return "names a pfn that is listed twice in one record"
    if max(pfns) >= limit:
        beyond = "the end of the p2m" if tables else "all memory that the domain can have"
        return f"names pfn {max(pfns):#x}, which is beyond {beyond}"
    if any(x & RESERVED for x in entries):
        return "names a pfn that has reserved bits set in its entry"
    types = {x >> 60 for x in entries}
    if not types.isdisjoint(UNKNOWN):
        return "names a pfn that has a page type that does not exist"
    if not tables and not types.isdisjoint(TABLES):
        return "names a pfn that is called a page table, which only PV guests' pages are"
    return ""
