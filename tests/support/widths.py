"""Layouts of PV guests of 64 and of 32 bits, from Xen's public headers: where frame numbers stand, and how."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from pyxcsr.hypervisor.open import StubBackend


class Width(NamedTuple):
    """Offsets in a vcpu's context, in shared_info and in start_info."""

    nr_bytes: int
    """Of a word."""
    context: int
    """Size of a vcpu's context."""
    rdx: int
    gdt: int
    """GDT frames, 16 words; how many entries there are stands behind them."""
    cr: int
    """Control registers, a word each."""
    arch: int
    """arch_shared_info: max_pfn, frame_list_list, nmi_reason, p2m_cr3, p2m_vaddr, p2m_generation, a word each."""
    pending: int
    """Event channels: pending bits, then as many masks."""
    nr_events: int
    """Bytes of each."""
    selector: int
    """evtchn_pending_sel in a vcpu_info of 64 bytes."""
    start_info: struct.Struct
    """magic, nr_pages, shared_info, flags, store's mfn and event channel, console's."""

    @property
    def levels(self) -> int:
        """Of page tables."""
        return 4 if self.nr_bytes == 8 else 3

    @property
    def per_page(self) -> int:
        """Words in a page: entries in a page of the p2m."""
        return 4096 // self.nr_bytes

    @property
    def none(self) -> int:
        """The word that is no frame."""
        return (1 << (8 * self.nr_bytes)) - 1

    def word(self, blob: Any, offset: int) -> int:
        """The word at an offset."""
        return int.from_bytes(bytes(blob[offset : offset + self.nr_bytes]), "little")

    def put(self, blob: bytearray, offset: int, value: int) -> None:
        """Writes a word."""
        blob[offset : offset + self.nr_bytes] = value.to_bytes(self.nr_bytes, "little")

    def words(self, page: bytes) -> tuple[int, ...]:
        """A page as words."""
        return struct.unpack(f"<{self.per_page}{'Q' if self.nr_bytes == 8 else 'I'}", page)

    def page(self, words: Any) -> bytes:
        """Words as a page."""
        return struct.pack(f"<{self.per_page}{'Q' if self.nr_bytes == 8 else 'I'}", *words)

    def cr3_frame(self, cr3: int) -> int:
        """The frame in a cr3: with 32 bits its bits from 20 on stand at the bottom."""
        return cr3 >> 12 if self.nr_bytes == 8 else (cr3 >> 12 | cr3 << 20) & 0xFFFFFFFF

    def cr3(self, frame: int) -> int:
        """The cr3 that names a frame."""
        return frame << 12 if self.nr_bytes == 8 else (frame << 12 | frame >> 20) & 0xFFFFFFFF


WIDE = Width(8, 5168, 616, 4832, 4984, 3088, 2048, 512, 8, struct.Struct("<32sQQIxxxxQIxxxxQI"))
NARROW = Width(4, 2800, 524, 2640, 2716, 2316, 2048, 128, 4, struct.Struct("<32sIIIIIII"))
WIDTHS = {8: WIDE, 4: NARROW}


def width_of(hv: StubBackend, domid: int) -> Width:
    """The layouts of a guest of the stub."""
    return WIDTHS[hv.stub.guest(domid).state().width]
