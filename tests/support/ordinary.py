"""Which pages of a stub guest a test may take away or write."""

from __future__ import annotations

from typing import Any


def ordinary_pages(guest: Any) -> list[int]:
    """The pfns with data that neither its kernel, its p2m nor its page tables need, ascending."""
    from pyxcsr.frames import PageType  # here: some who use this choose the core before it is loaded

    state = guest.state()
    needed = {*guest.leaf_pfns(), state.start_info_pfn, state.store_pfn, state.console_pfn}
    return [int(x) for x in guest.pfns_of_type(PageType.NOTAB) if x not in needed]
