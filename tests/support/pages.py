"""Pages of a guest of the stub that a test writes to."""

from __future__ import annotations

from typing import Any

from pyxcsr.frames import PageType


def data_pages(guest: Any, count: int) -> list[int]:
    """Pfns of ordinary pages, spread over the guest."""
    p2m = set() if guest.state().hvm else set(guest.leaf_pfns())
    pfns = [x for x in guest.pfns_with_memory() if x >= 1024 and x not in p2m]
    kinds = guest.types(pfns)
    plain = [pfn for pfn, kind in zip(pfns, kinds) if kind == PageType.NOTAB]
    return plain[:: max(1, len(plain) // count)][:count]
