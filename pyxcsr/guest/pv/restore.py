"""Restoring PV guests, 64-bit and 32-bit ones."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Optional, final

from pyxcsr.errors import HypervisorError, IncompleteStream, StreamError
from pyxcsr.frames import PageType
from pyxcsr.guest import x86
from pyxcsr.guest.judging import no_place
from pyxcsr.guest.ops import RestoreContext, RestoredState
from pyxcsr.guest.pv.geometry import GEOMETRIES, Geometry, geometry_of
from pyxcsr.guest.pv.judging import P2mExtent, PvJudge, check_p2m_frames
from pyxcsr.guest.pv.p2m.map import pfn_limit_of
from pyxcsr.guest.pv.pages import check_shared_info, claimed_pfns, rebuild_start_info, write_shared_info
from pyxcsr.guest.pv.vcpus import HeldVcpus, Localiser, set_vcpus
from pyxcsr.guest.x86 import PolicyAndTsc
from pyxcsr.hypervisor.interface import PageResult, RestoreHandle, SourceHandle
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.records import (
    P2mFrames,
    PvInfo,
    Record,
    SharedInfo,
    VcpuBasic,
    VcpuExtended,
    VcpuMsrs,
    VcpuXsave,
)

BODY_LIMITS = {
    **x86.BODY_LIMITS,
    RecordType.X86_PV_INFO: 8,
    RecordType.SHARED_INFO: 4096,
    RecordType.X86_PV_VCPU_BASIC: 8 + max(x.vcpu.size for x in GEOMETRIES.values()),
    RecordType.X86_PV_VCPU_EXTENDED: 8 + 128,
    RecordType.X86_PV_VCPU_XSAVE: 8 + (1 << 16),
    RecordType.X86_PV_VCPU_MSRS: 8 + 16 * 4096,
}


@final
class PvRestoreOps:
    """See :class:`pyxcsr.guest.ops.RestoreOps` for the contract of each method."""

    needed: frozenset[int] = frozenset({RecordType.SHARED_INFO, RecordType.X86_TSC_INFO, RecordType.X86_PV_VCPU_BASIC})

    def __init__(self, context: RestoreContext) -> None:
        self._hv, self._info, self._poll = context.hv, context.info, context.poll
        self._rings = context.options.rings
        info = self._info
        self._domid = info.domid
        self._memory: Optional[RestoreHandle] = None
        self._known: Optional[Geometry] = None
        self._common = PolicyAndTsc(self._hv, self._domid, context.origin)
        self._leaves = array("Q")
        self._nr_pfns = 0
        self._changed = False  # whether several P2M_FRAMES have come: the guest changed its p2m while it was saved
        self._shared: Optional[bytes] = None
        self._vcpus = HeldVcpus(info.max_vcpu_id)

    @property
    def _guest(self) -> RestoreHandle:
        if self._memory is None:
            raise HypervisorError("the restore has not been set up", op="setup", errno=22)
        return self._memory

    @property
    def _geometry(self) -> Geometry:
        if self._known is None:
            raise HypervisorError("the guest's width is not known yet", op="setup", errno=22)
        return self._known

    def setup(self) -> None:
        """Nothing: what a restore needs goes by the guest's width, which X86_PV_INFO tells."""

    def _limit(self) -> int:
        """How many pfns the domain may have."""
        return pfn_limit_of(self._info.max_pages, self._info.max_pages)

    def body_limit(self, code: int) -> int:
        if code == RecordType.X86_PV_P2M_FRAMES:
            known = [self._known] if self._known else GEOMETRIES.values()
            return 8 + 8 * max(x.nr_leaves(self._limit()) for x in known)
        return BODY_LIMITS.get(RecordType(code), 0)

    # -- records

    def process_record(self, record: Record) -> None:
        offset = record.offset or 0
        if self._common.take(record, offset):
            return
        if isinstance(record, PvInfo):
            self._take_info(record, offset)
        elif isinstance(record, P2mFrames):
            self._take_p2m_frames(record, offset)
        elif isinstance(record, SharedInfo):
            self._need_info(record, offset)
            self._shared = bytes(record.blob)
        elif isinstance(record, (VcpuBasic, VcpuExtended, VcpuXsave, VcpuMsrs)):
            self._vcpus.take(record, self._need_info(record, offset), offset)
        else:
            raise no_place(record, "a PV")

    def _need_info(self, record: Record, offset: int) -> Geometry:
        if self._known is None:
            raise StreamError(f"{record.name} comes before X86_PV_INFO", offset=offset, record=record.name)
        return self._known

    def _take_info(self, record: PvInfo, offset: int) -> None:
        if self._known is not None:
            raise StreamError("a second X86_PV_INFO", offset=offset, record=record.name)
        geometry = geometry_of(record.width, record.levels)
        if geometry is None:
            raise StreamError(
                f"X86_PV_INFO: width {record.width} with {record.levels} levels does not exist",
                offset=offset,
                record=record.name,
            )
        self._memory = self._hv.new_restore(self._domid, self._limit(), geometry.width)
        if self._hv.domain_width(self._domid) != geometry.width:
            self._hv.set_domain_width(self._domid, geometry.width)
            self._info = self._hv.domain_info(self._domid)  # from Xen 4.22 on shared_info may have moved
        self._known = geometry

    def static_data_complete(self) -> int:
        return self._common.set_policy()

    def _take_p2m_frames(self, record: P2mFrames, offset: int) -> None:
        """The first record says where the p2m is. A further one extends it, or replaces a part of it."""
        geometry = self._need_info(record, offset)
        check_p2m_frames(record, geometry, len(self._leaves), self._nr_pfns)
        end, first = record.end_pfn, record.start_pfn // geometry.per_leaf
        self._changed = bool(self._leaves)
        self._guest.grow(end + 1)
        self._nr_pfns = max(self._nr_pfns, end + 1)
        self._leaves[first : first + len(record.frames)] = array("Q", record.frames)

    def pages(self, source: SourceHandle, length: int, offset: int) -> PageResult:
        if not self._leaves:
            raise StreamError("PAGE_DATA comes before X86_PV_P2M_FRAMES", offset=offset, record="PAGE_DATA")
        return self._guest.pages(source, length, self._poll, offset)

    def judge(self) -> PvJudge:
        geometry = self._geometry
        known = P2mExtent(len(self._leaves), self._nr_pfns, self._limit())
        return PvJudge(geometry, known, self._info.max_vcpu_id)

    def checkpoint_complete(self) -> None:
        self._guest.give_unnamed()

    def begin_checkpoint(self, pages: Iterable[Sequence[int]]) -> None:
        self._guest.make_room(pages)
        self._shared = None
        self._vcpus = HeldVcpus(self._info.max_vcpu_id)

    def compare(self, offset: int) -> None:
        if self._known is None:
            raise StreamError("VERIFY comes before X86_PV_INFO", offset=offset, record="VERIFY")
        self._guest.compare(True)

    # -- the end

    def stream_complete(self, offset: int) -> RestoredState:
        self._check_present("X86_PV_INFO", self._known is not None, offset)
        localiser, geometry = Localiser(self._guest, offset), self._geometry
        shared = self._check_whole(localiser, offset)
        vcpus = self._vcpus.localised(localiser, offset)
        start_info_pfn = self._vcpus.start_info_pfn(geometry, offset)
        start_info_mfn = localiser.frame(start_info_pfn, "vcpu0.rdx (start_info)")
        page = self._hv.read_frames(self._domid, [start_info_mfn])
        shared_mfn = self._info.shared_info_mfn
        head, rings = rebuild_start_info(geometry, page, localiser, self._rings, self._nr_pfns, shared_mfn)
        # All of the stream has been checked by now. If something fails from here on, it is Xen that refuses.
        self._hv.write_frame(self._domid, start_info_mfn, 0, head)
        self._guest.give_back()
        warning = self._clear_broken()
        self._guest.write_p2m(self._leaves)
        write_shared_info(self._hv, self._domid, geometry, shared_mfn, shared)
        # Before the pins: vcpu 0's context says whether a 32-bit guest may have top tables above 4 GiB.
        set_vcpus(self._hv, self._domid, geometry, vcpus)
        pinned = self._guest.pin()
        owners = (self._rings.console_domid, self._rings.store_domid)
        self._hv.seed_grants(self._domid, rings.console, rings.store, *owners)
        return RestoredState(self._nr_pfns, len(self._vcpus), pinned, rings.store, rings.console, warning)

    def _clear_broken(self) -> str:
        nr, first = self._guest.clear_broken()
        if not nr:
            return ""
        return (
            f"{nr} pages, the first of which is pfn {first:#x}, are full of zeroes: the hardware had lost their "
            "content before the guest was saved"
        )

    def _cut(self) -> None:
        """If the p2m shrank while the guest was saved, P2M_FRAMES tells its largest size, and shared_info its last."""
        claimed = claimed_pfns(self._geometry, self._shared) if self._shared else 0
        if self._changed and 0 < claimed < self._nr_pfns:
            self._guest.cut(claimed)
            self._nr_pfns = claimed
            del self._leaves[self._geometry.nr_leaves(claimed) :]

    def _check_present(self, name: str, seen: bool, offset: int) -> None:
        if not seen:
            text = f"the stream is incomplete: it has no {name}"
            raise IncompleteStream(text, offset=offset, record="END", missing=1)

    def _check_whole(self, localiser: Localiser, offset: int) -> bytes:
        """Raises IncompleteStream if something that the guest refers to has not come. Returns shared_info."""
        self._cut()
        for i, pfn in enumerate(self._leaves):
            localiser.frame(pfn, f"p2m frame {i}", PageType.NOTAB)
        self._check_present("SHARED_INFO", bool(self._shared), offset)
        self._check_present("X86_TSC_INFO", self._common.tsc_settled, offset)
        shared = self._shared or b""
        check_shared_info(self._geometry, shared, self._nr_pfns, offset)
        self._guest.check_tables(offset)
        return shared

    def cleanup(self) -> None:
        if self._memory is not None:
            self._memory.close()
