"""What page table entries name, told one by one: the slow and obvious way."""

from __future__ import annotations

from array import array

PRESENT = 0x001
SUPERPAGE = 0x080
FRAME = 0x000FFFFFFFFFF000


def pte_frames(entries: array[int], nr_mfns: int, level: int) -> tuple[array[int], int]:
    """The frames, and the index of the first entry that will not do; see :class:`pyxcsr.hypervisor.interface.pv.Pv`."""
    mfns = array("Q", [(x & FRAME) >> 12 for x in entries])
    for i, (entry, mfn) in enumerate(zip(entries, mfns)):
        if not entry & PRESENT or not 0 < mfn < nr_mfns or (level > 1 and entry & SUPERPAGE):
            return mfns, i
    return mfns, len(entries)
