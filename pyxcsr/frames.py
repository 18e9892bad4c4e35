"""Frame numbers and page types: what all rooms of the package mean by them."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_enum import IntEnum

if TYPE_CHECKING:
    from typing import NewType

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

if TYPE_CHECKING:
    Pfn = NewType("Pfn", int)
    """A guest's pseudo-physical frame number."""

    Mfn = NewType("Mfn", int)
    """A frame number of the machine. For a PV guest Xen also calls it gfn."""
else:
    Pfn = Mfn = int

INVALID_MFN = (1 << 64) - 1
"""The p2m entry of a pfn that has no memory."""


class PageType(IntEnum):
    """Page types as in bits 63-60 of a PAGE_DATA entry (XEN_DOMCTL_PFINFO_* >> 28, domctl.h)."""

    NOTAB = 0x0
    L1TAB = 0x1
    L2TAB = 0x2
    L3TAB = 0x3
    L4TAB = 0x4
    L1TAB_PINNED = 0x9
    L2TAB_PINNED = 0xA
    L3TAB_PINNED = 0xB
    L4TAB_PINNED = 0xC
    BROKEN = 0xD
    XALLOC = 0xE
    XTAB = 0xF

    @property
    def has_data(self) -> bool:
        """True if an entry of this type is followed by 4096 bytes of page in the record."""
        return self < PageType.BROKEN

    @property
    def level(self) -> int:
        """The level of a page table, 1 to 4, whether it is pinned or not; 0 for anything else."""
        return self & 7 if self.has_data else 0
