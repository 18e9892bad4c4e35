"""What a stream holds besides pages: of each record the last one, and where it stands."""

from __future__ import annotations

from array import array
from typing import NamedTuple, Optional

from pyxcsr.errors import StreamError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.guest.hvm import restore as hvm
from pyxcsr.guest.pv import restore as pv
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import VCPU_ID_LIMIT, DomainType, RecordType, record_name

_VCPU = frozenset(
    {
        RecordType.X86_PV_VCPU_BASIC,
        RecordType.X86_PV_VCPU_EXTENDED,
        RecordType.X86_PV_VCPU_XSAVE,
        RecordType.X86_PV_VCPU_MSRS,
    }
)
NO_FRAME = (1 << 64) - 1
"""In the place of the pfn of a frame of the p2m that no record names."""

_LIMITS = {
    **pv.BODY_LIMITS,
    **hvm.BODY_LIMITS,
    RecordType.X86_PV_P2M_FRAMES: fmt.P2M_FRAMES_HEADER.size + 8 * (fmt.P2M_ENTRIES_LIMIT * 8 // PAGE_SIZE),
    RecordType.HVM_CONTEXT: fmt.RECORD_LENGTH_MAX,
}
_KEPT = _VCPU | {
    RecordType.X86_PV_INFO,
    RecordType.X86_PV_P2M_FRAMES,
    RecordType.SHARED_INFO,
    RecordType.X86_TSC_INFO,
    RecordType.HVM_CONTEXT,
    RecordType.HVM_PARAMS,
    RecordType.X86_CPUID_POLICY,
    RecordType.X86_MSR_POLICY,
}
KEPT = {int(code): _LIMITS[code] for code in _KEPT}
"""The records that are kept, and how many bytes the body of each can have in a stream that can be restored."""


class Place(NamedTuple):
    """A record in the stream's file: its type, and where its body stands."""

    code: int
    offset: int
    length: int


class Contents:
    """The guest's kind, and its records. ``p2m_frames``: the pfn of each page of the p2m, or NO_FRAME.

    ``xen``: major and minor of the saver's release; 0 major: converted from a legacy image.
    """

    def __init__(self, version: int, domain: rec.DomainHeader) -> None:
        self.version = version
        self.pv = domain.type == DomainType.PV
        self.domain = domain
        self.xen = (domain.xen_major, domain.xen_minor)
        self.width, self.levels = 8, 4
        self.p2m_frames = array("Q")
        self._places: dict[tuple[int, int], Place] = {}
        self._records: dict[tuple[int, int], rec.Record] = {}

    def learn(self, place: Place, record: rec.Record) -> None:
        """Takes a record of a kind that is kept. Raises StreamError for one that no guest can have."""
        if isinstance(record, rec.PvInfo):
            self._learn_info(place, record)
        if isinstance(record, rec.P2mFrames):
            self._learn_frames(place, record)
            self._places[place.code, place.offset] = place  # each of them may have named other frames
            return
        key = place.code, self._vcpu(place, record)
        self._places[key], self._records[key] = place, record

    @property
    def places(self) -> list[Place]:
        """Where the records are from which all of this can be learnt again, in this order."""
        return list(self._places.values())

    def _vcpu(self, place: Place, record: rec.Record) -> int:
        if place.code not in _VCPU:
            return 0
        vcpu = int(record.vcpu_id)  # type: ignore[attr-defined]
        if vcpu >= VCPU_ID_LIMIT:
            raise _wrong(place, f"vcpu {vcpu}: Xen has none beyond {VCPU_ID_LIMIT - 1}")
        return vcpu

    def _learn_info(self, place: Place, info: rec.PvInfo) -> None:
        if (info.width, info.levels) not in ((8, 4), (4, 3)):
            raise _wrong(place, f"width {info.width} with {info.levels} levels is neither a 64-bit nor a 32-bit guest")
        before = self._records.get((place.code, 0), info)
        if before != info:
            raise _wrong(place, "it comes twice, and says different things")
        self.width, self.levels = info.width, info.levels

    def _learn_frames(self, place: Place, record: rec.P2mFrames) -> None:
        if record.start_pfn > record.end_pfn or len(record.frames) != record.frames_wanted(self.width):
            raise _wrong(place, f"{len(record.frames)} frames for pfns 0x{record.start_pfn:x} to 0x{record.end_pfn:x}")
        first = record.start_pfn // (PAGE_SIZE // self.width)
        lacking = first + len(record.frames) - len(self.p2m_frames)
        if lacking > 0:
            self.p2m_frames.extend(array("Q", [NO_FRAME]) * lacking)
        self.p2m_frames[first : first + len(record.frames)] = array("Q", record.frames)

    def record(self, code: int, vcpu: int = 0) -> Optional[rec.Record]:
        """The last record of a type, or None."""
        return self._records.get((code, vcpu))

    def blob(self, code: int, vcpu: int = 0) -> Optional[bytes]:
        """The body of a record that is not looked into (without a vcpu's id), or None."""
        found = self.record(code, vcpu)
        return None if found is None else bytes(found.blob)  # type: ignore[attr-defined]

    def vcpus(self) -> list[int]:
        """The PV vcpus that have registers, ascending."""
        return sorted(vcpu for code, vcpu in self._records if code == RecordType.X86_PV_VCPU_BASIC)

    def keys(self) -> list[tuple[int, int]]:
        """(type, vcpu) of each record there is, ascending."""
        return sorted(self._records)

    def body(self, code: int, vcpu: int) -> bytes:
        """A record's body, whatever it is of."""
        return self._records[code, vcpu].encode()


def _wrong(place: Place, text: str) -> StreamError:
    name = record_name(place.code)
    return StreamError(f"{name}: {text}", offset=place.offset, record=name)
