"""Hostile 32-bit PV guests: what they can do of what 64-bit ones do, and what they say of their own p2m."""

from __future__ import annotations

from dataclasses import replace

from hostile.guests import TREE, Hostile, no, of_any_width, shared
from hostile.inside import FRAME, Inside
from pyxcsr.frames import PageType

WIDE_ONLY = (
    "cr1", "gdt_ents 0x10000000000", "130000 times", "moved at map", "p2m_vaddr", "max_pfn 0x10000000000000 at"
)  # fmt: skip
"""Words in the names of what only 64 bits allow: numbers that 32 do not hold, registers and room that there are not."""


def _claims() -> list[Hostile]:
    cr3, vaddr = (no("P2mError", "p2m_cr3"),), (no("P2mError", "p2m_vaddr"),)
    out = [
        Hostile(f"p2m_cr3 {value:#x}", shared("p2m_cr3", value), (*cr3, no("P2mError", "level 3")))
        for value in (0, 1, 0x800, 0xFFF, 0xFFFFFFFF, 0x1000)
    ]
    for value in (0xF5800000, 0xFFFFF000, 0xF57FF000, 0xF5000008):
        out.append(Hostile(f"p2m_vaddr {value:#x}", shared("p2m_vaddr", value), vaddr))
    for value in (0, 0x3FFFF000, 0xE8200000):
        out.append(Hostile(f"p2m_vaddr elsewhere {value:#x}", shared("p2m_vaddr", value),
                           (no("P2mError", "for address"),)))  # fmt: skip
    for count in (0, 1 << 31, 0xFFFFFFFF):
        out.append(Hostile(f"max_pfn {count:#x}", shared("max_pfn", count),
                           (no("P2mError", "pfns"), no("P2mError", "for address"), *vaddr)))  # fmt: skip
    for top in (0, 0xFFFFFFFF, 1, 1 << 30):
        out.append(Hostile(f"frame list list {top:#x}", shared("pfn_to_mfn_frame_list_list", top),
                           (no("P2mError", "frame list"),), guest=TREE))  # fmt: skip
    out.append(Hostile("Xen's slots in an L2 table that has none", _others_slots, (no("PageTableError", ""),),
                       when="suspended"))  # fmt: skip
    return out


def _others_slots(g: Inside) -> None:
    """The 32-bit m2p in a table that is not the last of an address space, in a slot where it never is."""
    root = g.table("L3TAB_PINNED")
    last = g.pfn_of((g.read(root, 3) & FRAME) >> 12)
    for pfn in g.guest.pfns_of_type(PageType.L2TAB):
        if pfn not in (last, g.pfn_of((g.read(g.table("L3TAB_PINNED", 1), 3) & FRAME) >> 12)):
            g.word(pfn, 400, g.read(last, 428) & ~0x80)


def _all() -> list[Hostile]:
    same = [x for x in of_any_width(3) if not any(words in x.name for words in WIDE_ONLY)]
    return [replace(x, kind="pv32", name=f"32 bits: {x.name}") for x in (*_claims(), *same)]


GUESTS = _all()
"""All of them; their names are distinct."""
