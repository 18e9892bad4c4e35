"""How many gfns an HVM guest may have, by what Xen says that it owns."""

from __future__ import annotations

from pyxcsr.errors import GuestStateError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from pyxcsr.hypervisor.interface import DomainInfo

HOLES = (16 << 30) // PAGE_SIZE
"""Gfns without memory that any guest may have: a PC's hole below 4 GiB, and the windows of 64-bit devices."""


def gfn_limit(info: DomainInfo) -> int:
    """How many gfns a domain may have: it can map one page at the end of its address space, and all before are holes.
    """
    return 8 * max(info.max_pages, info.tot_pages) + HOLES


def check_nr_gfns(info: DomainInfo, nr_gfns: int) -> int:
    """``nr_gfns``, unless that is more than the domain may have. Raises GuestStateError."""
    limit = gfn_limit(info)
    if 0 < nr_gfns <= limit:
        return nr_gfns
    raise GuestStateError(
        f"domain {info.domid} has {nr_gfns:#x} gfns, almost all of them holes: with the memory that it may own it "
        f"can have {limit:#x}. It has something mapped far out in its address space, and cannot be saved like that",
        domid=info.domid,
        field="maximum_gpfn",
        value=nr_gfns,
    )
