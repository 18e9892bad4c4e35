"""What PV guests' records must be, whether they are put into a domain at once or held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pyxcsr.errors import StreamError
from pyxcsr.guest.judging import is_common, no_place
from pyxcsr.guest.pv.vcpus import check_vcpu
from pyxcsr.plain import dataclass
from pyxcsr.stream.entries import problem
from pyxcsr.stream.records import P2mFrames, SharedInfo, VcpuBasic, VcpuExtended, VcpuMsrs, VcpuXsave

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyxcsr.guest.pv.geometry import Geometry
    from pyxcsr.stream.records import Record


@dataclass
class P2mExtent:
    """How much of the p2m is known: its pages, and the pfns up to its end. ``limit``: how many pfns there may be."""

    nr_leaves: int
    nr_pfns: int
    limit: int


def check_p2m_frames(record: P2mFrames, geometry: Geometry, nr_leaves: int, nr_pfns: int) -> None:
    """Raises StreamError where they do not follow what is known: ``nr_leaves`` pages of the p2m, ``nr_pfns`` pfns."""
    start, end = record.start_pfn, record.end_pfn
    if end < start or start % geometry.per_leaf or start // geometry.per_leaf > nr_leaves:
        raise _wrong(record, f"pfns {start:#x} to {end:#x} do not follow what is known ({nr_pfns:#x} pfns)")
    wanted = record.frames_wanted(geometry.width)
    if len(record.frames) != wanted:
        raise _wrong(record, f"{len(record.frames)} frames for pfns {start:#x} to {end:#x}, must be {wanted}")


def _wrong(record: P2mFrames, text: str) -> StreamError:
    return StreamError(
        f"X86_PV_P2M_FRAMES: {text}",
        offset=record.offset or 0,
        record=record.name,
        start_pfn=record.start_pfn,
        end_pfn=record.end_pfn,
    )


@final
class PvJudge:
    """See :class:`pyxcsr.guest.judging.Judge`. ``p2m``: what is known before the first record, kept up to date here."""

    def __init__(self, geometry: Geometry, p2m: P2mExtent, max_vcpu_id: int) -> None:
        self._geometry, self._p2m, self._max_vcpu_id = geometry, p2m, max_vcpu_id

    def record(self, record: Record) -> None:
        if isinstance(record, P2mFrames):
            self._p2m_frames(record)
        elif isinstance(record, (VcpuBasic, VcpuExtended, VcpuXsave, VcpuMsrs)):
            check_vcpu(record, self._max_vcpu_id, self._geometry, record.offset or 0)
        elif not isinstance(record, SharedInfo) and not is_common(record):
            raise no_place(record, "a PV")

    def _p2m_frames(self, record: P2mFrames) -> None:
        known = self._p2m
        check_p2m_frames(record, self._geometry, known.nr_leaves, known.nr_pfns)
        if record.end_pfn >= known.limit:
            raise _wrong(record, f"pfns up to {record.end_pfn:#x}, and the domain can have {known.limit:#x} of them")
        known.nr_pfns = max(known.nr_pfns, record.end_pfn + 1)
        first = record.start_pfn // self._geometry.per_leaf
        known.nr_leaves = max(known.nr_leaves, first + len(record.frames))

    def entries(self, entries: Sequence[int], length: int) -> str:
        return problem(entries, length, self._p2m.nr_pfns, tables=True)
