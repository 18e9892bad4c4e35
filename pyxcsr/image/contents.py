"""What a stream holds besides pages: of each record the last one, and where it stands."""

from __future__ import annotations

from typing import NamedTuple, Optional

from pyxcsr.errors import StreamError
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
KEPT = _VCPU | {
    RecordType.X86_PV_INFO,
    RecordType.X86_PV_P2M_FRAMES,
    RecordType.SHARED_INFO,
    RecordType.X86_TSC_INFO,
    RecordType.HVM_CONTEXT,
    RecordType.HVM_PARAMS,
    RecordType.X86_CPUID_POLICY,
    RecordType.X86_MSR_POLICY,
}
"""The records that are kept."""


class Place(NamedTuple):
    """A record in the stream's file: its type, and where its body stands."""

    code: int
    offset: int
    length: int


class Contents:
    """The guest's kind, and its records. ``p2m_frames``: the p2m's frame number (of 512 entries) -> its pfn.

    ``xen``: major and minor of the saver's release; 0 major: converted from a legacy image.
    """

    def __init__(self, version: int, domain: rec.DomainHeader) -> None:
        self.version = version
        self.pv = domain.type == DomainType.PV
        self.domain = domain
        self.xen = (domain.xen_major, domain.xen_minor)
        self.width, self.levels = 8, 4
        self.p2m_frames: dict[int, int] = {}
        self.nr_pfns_said = 0
        self.places: list[Place] = []
        self._records: dict[tuple[int, int], rec.Record] = {}

    def learn(self, place: Place, record: rec.Record) -> None:
        """Takes a record of a kind that is kept. Raises StreamError for one that no guest can have."""
        self.places.append(place)
        if isinstance(record, rec.PvInfo):
            self._learn_info(place, record)
        if isinstance(record, rec.P2mFrames):
            self._learn_frames(place, record)
            return
        self._records[place.code, self._vcpu(place, record)] = record

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
        self.width, self.levels = info.width, info.levels

    def _learn_frames(self, place: Place, record: rec.P2mFrames) -> None:
        if record.start_pfn > record.end_pfn or len(record.frames) != record.frames_wanted(self.width):
            raise _wrong(place, f"{len(record.frames)} frames for pfns 0x{record.start_pfn:x} to 0x{record.end_pfn:x}")
        first = record.start_pfn // (4096 // self.width)
        self.p2m_frames.update(enumerate(record.frames, first))
        self.nr_pfns_said = max(self.nr_pfns_said, record.end_pfn + 1)

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
