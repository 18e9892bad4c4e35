"""Frames that must be ordinary pages: what a restorer writes into, and Xen would not let it write into a page table."""

from __future__ import annotations

from pyxcsr.errors import P2mError
from pyxcsr.hypervisor.interface import Hypervisor, P2mHandle

TABLE_LEVEL = 7
"""The bits of a type that tell a page table's level; 0: none. With XTAB (15) they mean nothing."""

NO_PAGE = 13
"""Types from here on are no pages: broken, to be allocated, not there."""


def _level(kind: int) -> int:
    return kind & TABLE_LEVEL if kind < NO_PAGE else 0


def check_leaves(hv: Hypervisor, domid: int, p2m: P2mHandle) -> None:
    """Raises P2mError (index, pfn) if a frame of the p2m list is a page table: a hostile guest can make it one."""
    pfns = p2m.leaf_pfns()
    mfns = [p2m.entry(pfn) for pfn in pfns]
    for i, (pfn, mfn, kind) in enumerate(zip(pfns, mfns, hv.frame_types(domid, mfns))):
        if _level(kind):
            raise P2mError(
                f"p2m frame {i} (pfn {pfn:#x}) is a level {_level(kind)} page table, which nobody could restore",
                field="p2m",
                value=mfn,
                index=i,
                pfn=pfn,
                mfn=mfn,
            )
