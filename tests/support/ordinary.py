"""Which pages of a stub guest a test may take away or overwrite."""

from __future__ import annotations

from typing import Any


def ordinary_pages(guest: Any) -> list[int]:
    """The pfns, ascending, of pages that neither the guest's kernel nor its p2m nor its page tables need."""
    from pyxcsr.frames import PageType  # not above: some users choose which core to load first

    state = guest.state()
    needed = {*guest.leaf_pfns(), state.start_info_pfn, state.store_pfn, state.console_pfn}
    return [int(x) for x in guest.pfns_of_type(PageType.NOTAB) if x not in needed]
