"""The two pages of a PV guest that a restore rewrites: start_info and shared_info.

Layouts: :mod:`pyxcsr.guest.pv.geometry`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pyxcsr.errors import StreamError
from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.guest.pv.geometry import Geometry
from pyxcsr.guest.pv.vcpus import Localiser
from pyxcsr.hypervisor.interface import Hypervisor
from pyxcsr.options import Rings

NR_VCPU_INFO, VCPU_INFO_SIZE = 32, 64
"""Of shared_info's first part: the same in both widths."""

_U32 = struct.Struct("<I")


class RingFrames(NamedTuple):
    """The frames of the store and console rings."""

    store: int
    console: int


def rebuild_start_info(
    geometry: Geometry, page: bytes, localiser: Localiser, rings: Rings, nr_pfns: int, shared_info_mfn: int
) -> tuple[bytes, RingFrames]:
    """start_info's head for the new domain, and the rings' frames. Raises StreamError if its pfns are not pages."""
    at, put = geometry.start_info, geometry.put
    out = bytearray(page[: at.end])
    frames = RingFrames(
        localiser.frame(geometry.word(page, at.store_mfn), "start_info.store_mfn"),
        localiser.frame(geometry.word(page, at.console_mfn), "start_info.console.mfn"),
    )
    put(out, at.nr_pages, nr_pfns)
    put(out, at.shared_info, shared_info_mfn << PAGE_SHIFT)
    _U32.pack_into(out, at.flags, 0)
    put(out, at.store_mfn, frames.store)
    _U32.pack_into(out, at.store_evtchn, rings.store_evtchn)
    put(out, at.console_mfn, frames.console)
    _U32.pack_into(out, at.console_evtchn, rings.console_evtchn)
    return bytes(out), frames


def write_shared_info(hv: Hypervisor, domid: int, geometry: Geometry, mfn: int, saved: bytes) -> None:
    """Writes the saved vcpu_info and arch parts into the domain's shared_info, with all events masked and none pending.

    The fields that say where the p2m is are cleared: they name frames of the old machine. The guest sets them when it
    resumes, and until then a saver must find nothing rather than those. The clock's fields are left to Xen.
    """
    at, put = geometry.shared_info, geometry.put
    page = bytearray(saved)
    for vcpu in range(NR_VCPU_INFO):
        put(page, vcpu * VCPU_INFO_SIZE + at.pending_sel, 0)
    for field in (at.frame_list_list, at.p2m_cr3, at.p2m_vaddr, at.p2m_generation):
        put(page, field, 0)
    nr_bytes, arch_end = at.evtchn_mask - at.evtchn_pending, at.p2m_generation + geometry.width
    events = bytes(nr_bytes) + b"\xff" * nr_bytes
    hv.write_frame(domid, mfn, 0, bytes(page[: at.evtchn_pending]) + events)
    hv.write_frame(domid, mfn, at.max_pfn, bytes(page[at.max_pfn : arch_end]))


def claimed_pfns(geometry: Geometry, saved: bytes) -> int:
    """How many pfns the guest says that it has (shared_info max_pfn)."""
    return geometry.word(saved, geometry.shared_info.max_pfn)


def check_shared_info(geometry: Geometry, saved: bytes, nr_pfns: int, offset: int) -> None:
    """Raises StreamError if the guest says that it has fewer pfns than the stream's p2m."""
    claimed = claimed_pfns(geometry, saved)
    if claimed < nr_pfns:
        raise StreamError(
            f"SHARED_INFO: the guest has {claimed:#x} pfns, but its p2m in the stream {nr_pfns:#x}",
            offset=offset,
            record="SHARED_INFO",
            claimed=claimed,
            nr_pfns=nr_pfns,
        )
