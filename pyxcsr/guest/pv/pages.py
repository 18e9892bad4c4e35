"""The two pages of a PV guest that a restore rewrites: start_info and shared_info.

Layouts: struct start_info and struct shared_info, xen/include/public/xen.h (x86_64).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pyxcsr.errors import StreamError
from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.guest.pv.p2m.shared_info import ARCH, FRAME_LIST_LIST, P2M_CR3, P2M_GENERATION
from pyxcsr.guest.pv.vcpus import Localiser
from pyxcsr.hypervisor.interface import Hypervisor
from pyxcsr.options import Rings

# start_info
NR_PAGES, SHARED_INFO, FLAGS = 32, 40, 48
STORE_MFN, STORE_EVTCHN, CONSOLE_MFN, CONSOLE_EVTCHN = 56, 64, 72, 80
START_INFO_END = 88

# shared_info
NR_VCPU_INFO, VCPU_INFO_SIZE, PENDING_SEL = 32, 64, 8
EVTCHN_PENDING, EVTCHN_MASK = 2048, 2560
EVTCHN_BYTES = 512
ARCH_END = P2M_GENERATION + 8

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class RingFrames(NamedTuple):
    """The frames of the store and console rings."""

    store: int
    console: int


def rebuild_start_info(
    page: bytes, localiser: Localiser, rings: Rings, nr_pfns: int, shared_info_mfn: int
) -> tuple[bytes, RingFrames]:
    """start_info's head for the new domain, and the rings' frames. Raises StreamError if its pfns are not pages."""
    out = bytearray(page[:START_INFO_END])
    frames = RingFrames(
        localiser.frame(_U64.unpack_from(out, STORE_MFN)[0], "start_info.store_mfn"),
        localiser.frame(_U64.unpack_from(out, CONSOLE_MFN)[0], "start_info.console.mfn"),
    )
    _U64.pack_into(out, NR_PAGES, nr_pfns)
    _U64.pack_into(out, SHARED_INFO, shared_info_mfn << PAGE_SHIFT)
    _U32.pack_into(out, FLAGS, 0)
    _U64.pack_into(out, STORE_MFN, frames.store)
    _U32.pack_into(out, STORE_EVTCHN, rings.store_evtchn)
    _U64.pack_into(out, CONSOLE_MFN, frames.console)
    _U32.pack_into(out, CONSOLE_EVTCHN, rings.console_evtchn)
    return bytes(out), frames


def write_shared_info(hv: Hypervisor, domid: int, mfn: int, saved: bytes) -> None:
    """Writes the saved vcpu_info and arch parts into the domain's shared_info, with all events masked and none pending.

    The fields that say where the p2m is are cleared: they name frames of the old machine. The guest sets them when it
    resumes, and until then a saver must find nothing rather than those. The clock's fields are left to Xen.
    """
    head = bytearray(saved[:EVTCHN_PENDING])
    for vcpu in range(NR_VCPU_INFO):
        _U64.pack_into(head, vcpu * VCPU_INFO_SIZE + PENDING_SEL, 0)
    arch = bytearray(saved[ARCH:ARCH_END])
    for field in (FRAME_LIST_LIST, P2M_CR3, P2M_CR3 + 8, P2M_GENERATION):
        _U64.pack_into(arch, field - ARCH, 0)
    events = bytes(EVTCHN_BYTES) + b"\xff" * EVTCHN_BYTES
    hv.write_frame(domid, mfn, 0, bytes(head) + events)
    hv.write_frame(domid, mfn, ARCH, bytes(arch))


def claimed_pfns(saved: bytes) -> int:
    """How many pfns the guest says that it has (shared_info max_pfn)."""
    claimed: int = _U64.unpack_from(saved, ARCH)[0]
    return claimed


def check_shared_info(saved: bytes, nr_pfns: int, offset: int) -> None:
    """Raises StreamError if the guest says that it has fewer pfns than the stream's p2m."""
    claimed = claimed_pfns(saved)
    if claimed < nr_pfns:
        raise StreamError(
            f"SHARED_INFO: the guest has {claimed:#x} pfns, but its p2m in the stream {nr_pfns:#x}",
            offset=offset,
            record="SHARED_INFO",
            claimed=claimed,
            nr_pfns=nr_pfns,
        )
