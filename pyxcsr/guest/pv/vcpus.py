"""A PV guest's vcpus on their way back: records held until the end, then expressed in the new mfns and set."""

from __future__ import annotations

from pyxcsr.errors import IncompleteStream, StreamError
from pyxcsr.plain import TYPE_CHECKING, dataclass
from pyxcsr.stream import format as fmt
from pyxcsr.stream.records import VcpuBasic, VcpuExtended, VcpuXsave

if TYPE_CHECKING:
    from typing import Optional, Union

    from pyxcsr.guest.pv.geometry import Geometry
    from pyxcsr.hypervisor.interface import Hypervisor, RestoreHandle
    from pyxcsr.stream.records import VcpuMsrs

if TYPE_CHECKING:
    VcpuRecord = Union[VcpuBasic, VcpuExtended, VcpuXsave, VcpuMsrs]


@dataclass
class HeldVcpu:
    """The records of one vcpu."""

    basic: Optional[bytes] = None
    extended: bytes = b""
    xsave: bytes = b""
    msrs: bytes = b""


class Localiser:
    """Turns the pfns of vcpu state into the frames that the domain was given. ``offset``: END's, for messages."""

    def __init__(self, memory: RestoreHandle, offset: int) -> None:
        self._memory, self._offset = memory, offset

    def frame(self, pfn: int, field: str, level: int = 0) -> int:
        """The frame of a pfn that must have been sent, as an ordinary page or as a page table of a level."""
        mfn = self._memory.mfn(pfn)
        if mfn is None or not self._memory.has_data(pfn):
            raise IncompleteStream(
                f"the stream is incomplete: {field} names pfn {pfn:#x}, which it does not contain",
                offset=self._offset,
                record="END",
                missing=1,
                pfn=pfn,
                field=field,
            )
        kind = self._memory.type(pfn)
        if (kind & 7) != level:
            what = f"a level {level} page table" if level else "an ordinary page"
            raise StreamError(
                f"{field} names pfn {pfn:#x}, which is not {what} (type {kind:#x})",
                offset=self._offset,
                record="END",
                pfn=pfn,
                field=field,
                type=kind,
            )
        return mfn

    def context(self, vcpu: int, blob: bytes) -> bytes:
        """A context in mfns. Raises StreamError, IncompleteStream."""
        return self._memory.context(vcpu, blob, self._offset)


def check_vcpu(record: VcpuRecord, max_vcpu_id: int, geometry: Geometry, offset: int) -> None:
    """Raises StreamError for a vcpu that the domain does not have, or a wrong length."""
    if record.vcpu_id > max_vcpu_id:
        raise StreamError(
            f"{record.name}: vcpu {record.vcpu_id}, but the domain's last is {max_vcpu_id}",
            offset=offset,
            record=record.name,
            vcpu=record.vcpu_id,
        )
    fits, wanted = _size(record, geometry)
    if not fits:
        raise StreamError(
            f"{record.name}: {len(record.blob)} bytes of content, must be {wanted}",
            offset=offset,
            record=record.name,
            vcpu=record.vcpu_id,
        )


def _size(record: VcpuRecord, geometry: Geometry) -> tuple[bool, str]:
    """Whether its content can have that length, and which it must have. But for BASIC, empty ones are as none."""
    length = len(record.blob)
    if isinstance(record, VcpuBasic):
        return length == geometry.vcpu.size, str(geometry.vcpu.size)
    if isinstance(record, VcpuExtended):
        least, most = fmt.VCPU_EXTENDED_MIN, fmt.VCPU_EXTENDED_MAX
        return not length or least <= length <= most, f"{least} to {most}"
    if isinstance(record, VcpuXsave):
        return not length or length >= fmt.VCPU_XSAVE_MIN, f"at least {fmt.VCPU_XSAVE_MIN}"
    return not length % fmt.VCPU_MSR_ENTRY.size, f"a multiple of {fmt.VCPU_MSR_ENTRY.size}"


class HeldVcpus:
    """All vcpus' records, held until the end of the stream."""

    def __init__(self, max_vcpu_id: int) -> None:
        self._max, self._held = max_vcpu_id, dict[int, HeldVcpu]()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, record: VcpuRecord, geometry: Geometry, offset: int) -> None:
        """Holds a record. Raises StreamError for a vcpu that the domain does not have, or a wrong length."""
        check_vcpu(record, self._max, geometry, offset)
        vcpu, blob = self._held.setdefault(record.vcpu_id, HeldVcpu()), bytes(record.blob)
        if isinstance(record, VcpuBasic):
            vcpu.basic = blob
        elif isinstance(record, VcpuExtended):
            vcpu.extended = blob
        elif isinstance(record, VcpuXsave):
            vcpu.xsave = blob
        else:
            vcpu.msrs = blob

    def start_info_pfn(self, geometry: Geometry, offset: int) -> int:
        """Where vcpu 0 says that start_info is. Raises IncompleteStream without vcpu 0."""
        first = self._held.get(0)
        if first is None or first.basic is None:
            raise IncompleteStream(
                "the stream is incomplete: it does not contain vcpu 0's context", offset=offset, record="END", missing=1
            )
        return geometry.word(first.basic, geometry.vcpu.start_info)

    def localised(self, localiser: Localiser, offset: int) -> dict[int, HeldVcpu]:
        """All of them in mfns. Raises IncompleteStream for a vcpu without its context."""
        out: dict[int, HeldVcpu] = {}
        for number, vcpu in sorted(self._held.items()):
            if vcpu.basic is None:
                raise IncompleteStream(
                    f"the stream is incomplete: it has state of vcpu {number}, but not its context",
                    offset=offset,
                    record="END",
                    missing=1,
                    vcpu=number,
                )
            basic = localiser.context(number, vcpu.basic)
            out[number] = HeldVcpu(basic, vcpu.extended, vcpu.xsave, vcpu.msrs)
        return out


def set_vcpus(hv: Hypervisor, domid: int, geometry: Geometry, vcpus: dict[int, HeldVcpu]) -> None:
    """Gives the domain its vcpus' state."""
    for number, vcpu in vcpus.items():
        if vcpu.basic is not None:
            hv.set_vcpu_basic(domid, number, vcpu.basic, geometry.width)
        if vcpu.extended:
            hv.set_vcpu_extended(domid, number, vcpu.extended)
        if vcpu.xsave:
            hv.set_vcpu_xsave(domid, number, vcpu.xsave)
        if vcpu.msrs:
            hv.set_vcpu_msrs(domid, number, vcpu.msrs)
