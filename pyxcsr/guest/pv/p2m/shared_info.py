"""A 64-bit PV guest's shared_info page: the fields that lead to its p2m.

Every value is the guest's claim, and the guest may change it at any moment: each use reads it by one atomic load.
Layout: struct shared_info and struct arch_shared_info, xen/include/public/xen.h and arch-x86/xen.h.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from pyxcsr.hypervisor.interface import Hypervisor, MappedFrames

ARCH = 3088
"""Offset of shared_info.arch: after 32 vcpu_info, the event channel bits and the wall clock."""

MAX_PFN = ARCH
FRAME_LIST_LIST = ARCH + 8
P2M_CR3 = ARCH + 24
P2M_VADDR = ARCH + 32
P2M_GENERATION = ARCH + 40


@dataclass(frozen=True)
class P2mHead:
    """Where the guest says that its p2m is. ``nr_pfns``: the field max_pfn, which is a count in spite of its name."""

    nr_pfns: int
    frame_list_list: int
    cr3: int
    vaddr: int

    @property
    def is_list(self) -> bool:
        """True for a linear list at a virtual address; False for the older tree of frame lists."""
        return self.cr3 != 0


class SharedInfo:
    """The page, mapped until closed."""

    def __init__(self, hv: Hypervisor, domid: int, mfn: int) -> None:
        self._frames: MappedFrames = hv.map_frames(domid, [mfn])

    def generation(self) -> int:
        """p2m_generation: counted up before and after each change of the p2m's structure, and so odd in between."""
        return self._frames.load64(P2M_GENERATION)

    def head(self) -> P2mHead:
        """The fields that lead to the p2m, each read once."""
        load = self._frames.load64
        return P2mHead(load(MAX_PFN), load(FRAME_LIST_LIST), load(P2M_CR3), load(P2M_VADDR))

    @property
    def frames(self) -> MappedFrames:
        """The mapped page."""
        return self._frames

    def close(self) -> None:
        """Unmaps it."""
        self._frames.close()
