"""What a PV guest's width decides: its page tables, its p2m, where words stand in the pages it shares. A row a width.

Sources: xen/include/public/xen.h and arch-x86/xen.h, xen-x86_64.h, xen-x86_32.h. csrc/xen/pte.h has the same for C, as
far as C needs it; a test compares the layouts with the compiler's.
"""

from __future__ import annotations

import struct

from pyxcsr.frames import PAGE_SHIFT, PAGE_SIZE
from pyxcsr.plain import TYPE_CHECKING, NamedTuple
from pyxcsr.stream.format import VCPU_LAYOUTS

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.stream.format import VcpuLayout

MAX_NR_PFNS = 1 << 32
"""How many pfns X86_PV_P2M_FRAMES can express."""


class Level(NamedTuple):
    """One level of page tables: its number, and by how many bits an address is shifted to give an entry's index."""

    number: int
    shift: int


class SharedInfoLayout(NamedTuple):
    """Offsets in struct shared_info. ``max_pfn``, a count in spite of its name, is the first word of ``arch``."""

    pending_sel: int
    evtchn_pending: int
    evtchn_mask: int
    max_pfn: int
    frame_list_list: int
    p2m_cr3: int
    p2m_vaddr: int
    p2m_generation: int


class StartInfoLayout(NamedTuple):
    """Offsets in struct start_info, as far as a restore writes it. ``end``: of that part."""

    nr_pages: int
    shared_info: int
    flags: int
    store_mfn: int
    store_evtchn: int
    console_mfn: int
    console_evtchn: int
    end: int


class Geometry(NamedTuple):
    """What is special to guests whose words have ``width`` bytes.

    ``levels``: from the top one down. ``ranges``: first and last addresses between which a guest may map what it likes,
    Xen's own ranges and what no pointer can reach left out. ``cr3_high``: how many of a frame number's lowest bits cr3
    has in its upper part, with the others in its lowest twelve; 0: it has all of them there.
    """

    width: int
    levels: tuple[Level, ...]
    ranges: tuple[tuple[int, int], ...]
    cr3_high: int
    shared_info: SharedInfoLayout
    start_info: StartInfoLayout

    @property
    def per_leaf(self) -> int:
        """How many words a page has: entries in one of the p2m's, frame numbers in one of its tree."""
        return PAGE_SIZE // self.width

    @property
    def top(self) -> int:
        """The number of the top level, which X86_PV_INFO has, too."""
        return self.levels[0].number

    @property
    def invalid(self) -> int:
        """A word of ones: no frame."""
        return (1 << 8 * self.width) - 1

    @property
    def vcpu(self) -> VcpuLayout:
        """Where frame numbers stand in a vcpu's context."""
        return VCPU_LAYOUTS[self.width]

    @property
    def tree_pfns(self) -> int:
        """How many pfns a tree of frame lists can reach, or P2M_FRAMES express: 512 GiB of memory, or 4 TiB."""
        return min(self.per_leaf**3, MAX_NR_PFNS)

    def nr_leaves(self, nr_pfns: int) -> int:
        """How many pages a p2m of ``nr_pfns`` entries has."""
        return -(-nr_pfns // self.per_leaf)

    def frame_of_cr3(self, cr3: int) -> int:
        """The frame that a value of cr3 names."""
        low = cr3 & ((1 << PAGE_SHIFT) - 1)
        return cr3 >> PAGE_SHIFT | (low << self.cr3_high if self.cr3_high else 0)

    def word(self, page: bytes, offset: int) -> int:
        """The word at that offset of a page."""
        return int.from_bytes(page[offset : offset + self.width], "little")

    def put(self, page: bytearray, offset: int, value: int) -> None:
        """Writes a word into a page. Raises OverflowError if it has more bits than the guest's words."""
        page[offset : offset + self.width] = value.to_bytes(self.width, "little")

    def words(self, data: bytes) -> tuple[int, ...]:
        """The words that data consists of."""
        return struct.unpack(f"<{len(data) // self.width}{'Q' if self.width == 8 else 'I'}", data)


GEOMETRIES = {
    8: Geometry(
        width=8,
        levels=(Level(4, 39), Level(3, 30), Level(2, 21), Level(1, 12)),
        ranges=((0, 0x00007FFFFFFFFFFF), (0xFFFF880000000000, 0xFFFFFFFFFFFFFFFF)),
        cr3_high=0,
        shared_info=SharedInfoLayout(
            pending_sel=8,
            evtchn_pending=2048,
            evtchn_mask=2560,
            max_pfn=3088,
            frame_list_list=3096,
            p2m_cr3=3112,
            p2m_vaddr=3120,
            p2m_generation=3128,
        ),
        start_info=StartInfoLayout(
            nr_pages=32,
            shared_info=40,
            flags=48,
            store_mfn=56,
            store_evtchn=64,
            console_mfn=72,
            console_evtchn=80,
            end=88,
        ),
    ),
    4: Geometry(
        width=4,
        levels=(Level(3, 30), Level(2, 21), Level(1, 12)),
        ranges=((0, 0xF57FFFFF),),
        cr3_high=20,
        shared_info=SharedInfoLayout(
            pending_sel=4,
            evtchn_pending=2048,
            evtchn_mask=2176,
            max_pfn=2316,
            frame_list_list=2320,
            p2m_cr3=2328,
            p2m_vaddr=2332,
            p2m_generation=2336,
        ),
        start_info=StartInfoLayout(
            nr_pages=32,
            shared_info=36,
            flags=40,
            store_mfn=44,
            store_evtchn=48,
            console_mfn=52,
            console_evtchn=56,
            end=60,
        ),
    ),
}
"""By width in bytes."""

WIDE = GEOMETRIES[8]


def geometry_of(width: int, levels: int) -> Optional[Geometry]:
    """The geometry of X86_PV_INFO's two numbers; None if there is none."""
    found = GEOMETRIES.get(width)
    return found if found is not None and found.top == levels else None
