"""The entries of a PAGE_DATA record, looked at before its pages are: is there anything that a receiver would refuse?"""

from __future__ import annotations

from collections.abc import Sequence

PFN = (1 << 52) - 1
RESERVED = 0xFF << 52
WITHOUT_DATA = 0xD << 60
"""Types from here on (BROKEN, XALLOC, XTAB) have no page in the record."""
UNKNOWN = range(5, 9)
PAGE = 4096


def problem(entries: Sequence[int], length: int, limit: int) -> str:
    """What is wrong with a body of ``length`` bytes that begins with these entries, "" if nothing is.

    ``limit``: the first pfn that the domain cannot have. It says what csrc/restore/pages.c would say.
    """
    if not entries or length != 8 + 8 * len(entries) + PAGE * sum(x < WITHOUT_DATA for x in entries):
        return f"of {length} bytes cannot have {len(entries)} entries, or not these"
    pfns = {x & PFN for x in entries}
    if len(pfns) < len(entries):
        return "names a pfn that is listed twice in one record"
    if max(pfns) >= limit:
        return f"names pfn {max(pfns):#x}, which is beyond all memory that the domain can have"
    if any(x & RESERVED for x in entries):
        return "names a pfn that has reserved bits set in its entry"
    if not {x >> 60 for x in entries}.isdisjoint(UNKNOWN):
        return "names a pfn that has a page type that does not exist"
    return ""
