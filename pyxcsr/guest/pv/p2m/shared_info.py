"""A PV guest's shared_info page: the fields that lead to its p2m.

Every value is the guest's claim, and the guest may change it at any moment: each use reads it by one atomic load.
Layouts: :mod:`pyxcsr.guest.pv.geometry`.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from pyxcsr.guest.pv.geometry import Geometry
    from pyxcsr.hypervisor.interface import Hypervisor, MappedFrames


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

    def __init__(self, hv: Hypervisor, domid: int, mfn: int, geometry: Geometry) -> None:
        self.geometry = geometry
        self._frames: MappedFrames = hv.map_frames(domid, [mfn])

    def _load(self, offset: int) -> int:
        return self._frames.load(offset, self.geometry.width)

    def generation(self) -> int:
        """p2m_generation: counted up before and after each change of the p2m's structure, and so odd in between."""
        return self._load(self.geometry.shared_info.p2m_generation)

    def head(self) -> P2mHead:
        """The fields that lead to the p2m, each read once."""
        load, at = self._load, self.geometry.shared_info
        return P2mHead(load(at.max_pfn), load(at.frame_list_list), load(at.p2m_cr3), load(at.p2m_vaddr))

    def words(self, generation: int, head: P2mHead) -> list[tuple[int, int, int]]:
        """Where these values stand in the page: (offset, bytes, value), the generation first."""
        at, width = self.geometry.shared_info, self.geometry.width
        offsets = at.p2m_generation, at.max_pfn, at.frame_list_list, at.p2m_cr3, at.p2m_vaddr
        values = generation, head.nr_pfns, head.frame_list_list, head.cr3, head.vaddr
        return [(offset, width, value) for offset, value in zip(offsets, values)]

    @property
    def frames(self) -> MappedFrames:
        """The mapped page."""
        return self._frames

    def close(self) -> None:
        """Unmaps it."""
        self._frames.close()
