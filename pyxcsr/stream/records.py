"""Typed records: one frozen dataclass for each record type of the stream.

``encode()`` gives a record's body, ``decode(body)`` makes a record from one. ``decode`` insists only on what
is needed to understand a body (its length) and raises StreamError otherwise; whether the *values* are allowed
is for ``verify``. Reserved fields are kept, so that a rule can look at them. Layouts: ``format``.
"""

from __future__ import annotations

import struct
import sys

from pyxcsr.errors import NotSupported, StreamError
from pyxcsr.frames import PAGE_SHIFT, PAGE_SIZE, PageType
from pyxcsr.plain import TYPE_CHECKING, NamedTuple, dataclass
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import DomainType, RecordType, record_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import ClassVar, Union

    from typing_extensions import Self

    from pyxcsr.plain_array import array

    Buffer = Union[bytes, bytearray, memoryview]

_PIECE = 2048
"""Words of a long body that are written together."""

_TOP_TO_TYPE = bytes(top >> 4 for top in range(256))
_BITS_WITH_DATA = frozenset(int(kind) for kind in PageType if kind.has_data)
_BITS_WITHOUT_DATA = bytes(kind for kind in range(256) if kind not in _BITS_WITH_DATA)


def words(buffer: Buffer) -> array[int]:
    """``buffer`` as little-endian 64-bit numbers; its length is a multiple of 8."""
    from pyxcsr.plain_array import array

    result = array("Q")
    result.frombytes(buffer)
    if sys.byteorder == "big":
        result.byteswap()
    return result


def packed(numbers: Iterable[int]) -> bytes:
    """64-bit numbers as little-endian bytes."""
    from pyxcsr.plain_array import array

    packed = array("Q", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def types_of(entries: Buffer, at: int = 0) -> bytes:
    """The type of each entry of PAGE_DATA, one byte each; the entries as they stand in the stream, from ``at`` on."""
    return bytes(entries)[at + 7 :: 8].translate(_TOP_TO_TYPE)  # a view would be cut ten times as slowly


def nr_with_data(types: bytes) -> int:
    """How many entries have a page, by the types of all."""
    return len(types.translate(None, _BITS_WITHOUT_DATA))


@dataclass(frozen=True)
class ImageHeader:
    """The first 24 bytes. ``reserved`` holds both reserved fields as one number (48 bits)."""

    version: int = fmt.IMAGE_VERSION
    options: int = 0
    reserved: int = 0

    def encode(self) -> bytes:
        """The header as written, big-endian."""
        return fmt.IMAGE_HEADER.pack(
            fmt.IMAGE_MARKER,
            fmt.IMAGE_ID,
            self.version,
            self.options,
            self.reserved >> 32,
            self.reserved & 0xFFFF_FFFF,
        )


@dataclass(frozen=True)
class DomainHeader:
    """The 16 bytes after the image header. ``xen_major`` 0: converted from a legacy image."""

    type: int
    xen_major: int
    xen_minor: int
    page_shift: int = PAGE_SHIFT
    reserved: int = 0

    @property
    def is_pv(self) -> bool:
        """True for an x86 PV guest, False for x86 HVM or PVH."""
        return self.type == DomainType.PV

    def encode(self) -> bytes:
        """The header as written."""
        return fmt.DOMAIN_HEADER.pack(
            self.type, self.page_shift, self.reserved, self.xen_major, self.xen_minor
        )

    @classmethod
    def decode(cls, body: Buffer) -> DomainHeader:
        """The header from its 16 bytes; the values are not checked."""
        kind, page_shift, reserved, major, minor = fmt.DOMAIN_HEADER.unpack(body)
        return cls(kind, major, minor, page_shift, reserved)


def image_header(version: int = fmt.IMAGE_VERSION) -> bytes:
    """The image header of a little-endian stream."""
    return ImageHeader(version=version).encode()


def domain_header(type: int, xen_major: int, xen_minor: int) -> bytes:
    """The domain header; ``type`` is a DomainType, the rest is the release of the saving Xen."""
    return DomainHeader(type, xen_major, xen_minor).encode()


def _shown(value: object) -> str:
    """A field for a person: of what is long, how long it is."""
    from pyxcsr.plain_array import array

    if isinstance(value, array) and len(value) > 8:
        return f"<{len(value)} words>"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return repr(bytes(value)) if len(value) <= 16 else f"<{len(value)} bytes>"
    return repr(value)


class Record:
    """Base of the records. ``offset`` is where the record's header stands in its stream (reader only)."""

    TYPE: ClassVar[RecordType]
    offset: int | None = None

    def __repr__(self) -> str:
        from dataclasses import fields

        shown = ", ".join(f"{x.name}={_shown(getattr(self, x.name))}" for x in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({shown})"

    @property
    def code(self) -> int:
        """The record type as it stands in the header."""
        return self.TYPE

    @property
    def name(self) -> str:
        """The record type's name."""
        return record_name(self.code)

    def encode(self) -> bytes:
        """The body, without header and padding."""
        raise NotImplementedError(type(self).__name__)

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        """A record from its body. ``offset`` goes into the StreamError that a wrong length raises."""
        raise NotImplementedError(cls.__name__)

    @classmethod
    def _wrong(cls, offset: int, text: str) -> StreamError:
        return StreamError(f"{cls.TYPE.name}: {text}", offset=offset, record=cls.TYPE.name)

    @classmethod
    def _head(cls, layout: struct.Struct, body: Buffer, offset: int) -> tuple[int, ...]:
        """The fixed part at the start of a body."""
        if len(body) < layout.size:
            raise cls._wrong(offset, f"{len(body)} bytes, must be at least {layout.size}")
        return layout.unpack_from(body)


class _Empty(Record):
    """A record without a body."""

    def encode(self) -> bytes:
        return b""

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        if len(body):
            raise cls._wrong(offset, f"{len(body)} bytes, must be empty")
        return cls()


@dataclass(frozen=True, repr=False)
class End(_Empty):
    """The stream is complete."""

    TYPE = RecordType.END


@dataclass(frozen=True, repr=False)
class Verify(_Empty):
    """From here on pages are to be compared, not restored (debugging aid)."""

    TYPE = RecordType.VERIFY


@dataclass(frozen=True, repr=False)
class Checkpoint(_Empty):
    """End of one checkpoint of a Remus or COLO stream."""

    TYPE = RecordType.CHECKPOINT


@dataclass(frozen=True, repr=False)
class StaticDataEnd(_Empty):
    """All that is known before the guest runs has been sent (version 3)."""

    TYPE = RecordType.STATIC_DATA_END


@dataclass(frozen=True, repr=False)
class PvInfo(Record):
    """Guest width in bytes (4, 8) and levels of its page tables (3, 4)."""

    TYPE = RecordType.X86_PV_INFO
    width: int
    levels: int
    reserved: bytes = bytes(6)

    def encode(self) -> bytes:
        return fmt.PV_INFO.pack(self.width, self.levels, self.reserved)

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        if len(body) != fmt.PV_INFO.size:
            raise cls._wrong(offset, f"{len(body)} bytes, must be {fmt.PV_INFO.size}")
        width, levels, reserved = fmt.PV_INFO.unpack(body)
        return cls(width, levels, reserved)


@dataclass(frozen=True, repr=False)
class P2mFrames(Record):
    """The pfns of the frames that hold the guest's p2m.

    ``start_pfn`` and ``end_pfn`` (the last one, not a count) are the part of the p2m that ``frames`` covers,
    each frame 512 pfns (64-bit) or 1024 (32-bit).
    """

    TYPE = RecordType.X86_PV_P2M_FRAMES
    start_pfn: int
    end_pfn: int
    frames: Sequence[int]

    def encode(self) -> bytes:
        return b"".join(self.pieces())

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return fmt.P2M_FRAMES_HEADER.size + 8 * len(self.frames)

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces of some KiB."""
        yield fmt.P2M_FRAMES_HEADER.pack(self.start_pfn, self.end_pfn)
        for at in range(0, len(self.frames), _PIECE):
            yield packed(self.frames[at : at + _PIECE])

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        start, end = cls._head(fmt.P2M_FRAMES_HEADER, body, offset)
        rest = body[fmt.P2M_FRAMES_HEADER.size :]
        if len(rest) % 8:
            raise cls._wrong(offset, f"{len(body)} bytes, must be a multiple of 8")
        return cls(start, end, words(rest))

    def frames_wanted(self, width: int) -> int:
        """How many frames the range covers in a guest of that width; start_pfn <= end_pfn."""
        per_frame = PAGE_SIZE // width
        return self.end_pfn // per_frame + 1 - self.start_pfn // per_frame


@dataclass(frozen=True, repr=False)
class PageData(Record):
    """Pages of the guest: ``entries`` (type and pfn), and the contents of those that have any, in order.

    ``pages`` is a view of the record's body: copy what is to outlive the record.
    """

    TYPE = RecordType.PAGE_DATA
    entries: array[int]
    pages: Buffer
    reserved: int = 0

    def encode(self) -> bytes:
        head = fmt.PAGE_DATA_HEADER.pack(len(self.entries), self.reserved)
        return head + packed(self.entries) + bytes(self.pages)

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        count, reserved = cls._head(fmt.PAGE_DATA_HEADER, body, offset)
        start = fmt.PAGE_DATA_HEADER.size
        view = memoryview(body)
        if count * 8 > len(view) - start:
            raise cls._wrong(offset, f"{len(view)} bytes are too few for {count} entries")
        entries = bytes(view[start : start + count * 8])
        with_data = nr_with_data(types_of(entries))
        wanted = start + count * 8 + with_data * PAGE_SIZE
        if len(view) != wanted:
            raise cls._wrong(
                offset,
                f"{len(view)} bytes, must be {wanted} for {count} entries of which {with_data} have data",
            )
        return cls(words(entries), view[start + count * 8 :], reserved)

    @classmethod
    def without_pages(cls, start: memoryview, offset: int) -> Self:
        """A record from the start of its body, up to its pages, which somebody has passed over."""
        _, reserved = cls._head(fmt.PAGE_DATA_HEADER, start, offset)
        record = cls(words(start[fmt.PAGE_DATA_HEADER.size :]), b"", reserved)
        object.__setattr__(record, "offset", offset)
        return record

    @classmethod
    def build(cls, pages: Iterable[tuple[int, int, Buffer | None]]) -> PageData:
        """A record from (pfn, type, content) triples, as ``items`` gives them.

        The type is a PageType or its number; the content is empty or None where the type has none.
        """
        listed = [(pfn, PageType(kind), content or b"") for pfn, kind, content in pages]
        for pfn, kind, content in listed:
            if len(content) != (PAGE_SIZE if kind.has_data else 0):
                raise ValueError(f"pfn 0x{pfn:x}: {len(content)} bytes do not fit {kind.name}")
        from pyxcsr.plain_array import array

        entries = array("Q", [fmt.pack_entry(pfn, kind) for pfn, kind, _ in listed])
        return cls(entries, b"".join(content for _, _, content in listed))

    @property
    def nr_pages(self) -> int:
        """How many entries have data."""
        return len(self.pages) // PAGE_SIZE

    @property
    def pfns(self) -> list[int]:
        """The pfn of each entry."""
        mask = fmt.ENTRY_PFN_MASK
        return [entry & mask for entry in self.entries]

    @property
    def type_bits(self) -> bytes:
        """The type of each entry, one byte each (values of PageType, where it knows them)."""
        return types_of(packed(self.entries))

    def items(self) -> Iterable[tuple[int, int, memoryview | None]]:
        """(pfn, type bits, content or None) of each entry."""
        view = memoryview(self.pages)
        at = 0
        for pfn, kind in zip(self.pfns, self.type_bits):
            if kind in _BITS_WITH_DATA:
                yield pfn, kind, view[at : at + PAGE_SIZE]
                at += PAGE_SIZE
            else:
                yield pfn, kind, None


@dataclass(frozen=True, repr=False)
class _Vcpu(Record):
    """A blob of one vcpu's state."""

    vcpu_id: int
    blob: Buffer
    reserved: int = 0

    def encode(self) -> bytes:
        return fmt.VCPU_HEADER.pack(self.vcpu_id, self.reserved) + bytes(self.blob)

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        vcpu_id, reserved = cls._head(fmt.VCPU_HEADER, body, offset)
        return cls(vcpu_id, body[fmt.VCPU_HEADER.size :], reserved)


@dataclass(frozen=True, repr=False)
class VcpuBasic(_Vcpu):
    """vcpu_guest_context: registers. Frame numbers in it are pfns (cr3, GDT frames, start_info)."""

    TYPE = RecordType.X86_PV_VCPU_BASIC


@dataclass(frozen=True, repr=False)
class VcpuExtended(_Vcpu):
    """xen_domctl_ext_vcpucontext: entry points and machine-check bits."""

    TYPE = RecordType.X86_PV_VCPU_EXTENDED


@dataclass(frozen=True, repr=False)
class VcpuXsave(_Vcpu):
    """xcr0, xcr0_accum and the XSAVE area."""

    TYPE = RecordType.X86_PV_VCPU_XSAVE


class VcpuMsr(NamedTuple):
    """One xen_domctl_vcpu_msr_t."""

    msr: int
    reserved: int
    value: int


@dataclass(frozen=True, repr=False)
class VcpuMsrs(_Vcpu):
    """xen_domctl_vcpu_msr_t[]."""

    TYPE = RecordType.X86_PV_VCPU_MSRS

    @property
    def msrs(self) -> list[VcpuMsr]:
        """The blob's whole entries."""
        return [VcpuMsr(*entry) for entry in _table(fmt.VCPU_MSR_ENTRY, self.blob)]


def _table(layout: struct.Struct, blob: Buffer) -> Iterable[tuple[int, ...]]:
    whole = len(blob) - len(blob) % layout.size
    return layout.iter_unpack(blob[:whole])


@dataclass(frozen=True, repr=False)
class _Blob(Record):
    """A body that the stream does not look into."""

    blob: Buffer

    def encode(self) -> bytes:
        return bytes(self.blob)

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        return cls(body)


@dataclass(frozen=True, repr=False)
class SharedInfo(_Blob):
    """The shared_info page, as the guest had it."""

    TYPE = RecordType.SHARED_INFO

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        if len(body) != PAGE_SIZE:
            raise cls._wrong(offset, f"{len(body)} bytes, must be {PAGE_SIZE}")
        return cls(body)


@dataclass(frozen=True, repr=False)
class TscInfo(Record):
    """How the guest's TSC runs: mode, frequency in kHz, elapsed nanoseconds, incarnation."""

    TYPE = RecordType.X86_TSC_INFO
    mode: int
    khz: int
    nsec: int
    incarnation: int
    reserved: int = 0

    def encode(self) -> bytes:
        return fmt.TSC_INFO.pack(self.mode, self.khz, self.nsec, self.incarnation, self.reserved)

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        if len(body) != fmt.TSC_INFO.size:
            raise cls._wrong(offset, f"{len(body)} bytes, must be {fmt.TSC_INFO.size}")
        return cls(*fmt.TSC_INFO.unpack(body))


@dataclass(frozen=True, repr=False)
class HvmContext(_Blob):
    """Xen's own HVM save records, opaque."""

    TYPE = RecordType.HVM_CONTEXT


@dataclass(frozen=True, repr=False)
class HvmParams(Record):
    """(index, value) of each HVM parameter that is not zero."""

    TYPE = RecordType.HVM_PARAMS
    params: Sequence[tuple[int, int]]
    reserved: int = 0

    def encode(self) -> bytes:
        head = fmt.HVM_PARAMS_HEADER.pack(len(self.params), self.reserved)
        return head + b"".join(fmt.HVM_PARAMS_ENTRY.pack(*param) for param in self.params)

    @classmethod
    def decode(cls, body: Buffer, offset: int = 0) -> Self:
        count, reserved = cls._head(fmt.HVM_PARAMS_HEADER, body, offset)
        wanted = fmt.HVM_PARAMS_HEADER.size + count * fmt.HVM_PARAMS_ENTRY.size
        if len(body) != wanted:
            raise cls._wrong(offset, f"{len(body)} bytes, must be {wanted} for {count} parameters")
        entries = fmt.HVM_PARAMS_ENTRY.iter_unpack(body[fmt.HVM_PARAMS_HEADER.size :])
        return cls([(index, value) for index, value in entries], reserved)


class CpuidLeaf(NamedTuple):
    """One xen_cpuid_leaf_t."""

    leaf: int
    subleaf: int
    eax: int
    ebx: int
    ecx: int
    edx: int


class MsrEntry(NamedTuple):
    """One xen_msr_entry_t."""

    msr: int
    flags: int
    value: int


@dataclass(frozen=True, repr=False)
class CpuidPolicy(_Blob):
    """xen_cpuid_leaf_t[]: what CPUID tells the guest."""

    TYPE = RecordType.X86_CPUID_POLICY

    @property
    def leaves(self) -> list[CpuidLeaf]:
        """The blob's whole entries."""
        return [CpuidLeaf(*leaf) for leaf in _table(fmt.CPUID_LEAF, self.blob)]


@dataclass(frozen=True, repr=False)
class MsrPolicy(_Blob):
    """xen_msr_entry_t[]: the MSRs that belong to the CPU policy."""

    TYPE = RecordType.X86_MSR_POLICY

    @property
    def msrs(self) -> list[MsrEntry]:
        """The blob's whole entries."""
        return [MsrEntry(*entry) for entry in _table(fmt.MSR_POLICY_ENTRY, self.blob)]


@dataclass(frozen=True, repr=False)
class Toolstack(_Blob):
    """Deprecated, was never in a release; a receiver refuses it."""

    TYPE = RecordType.TOOLSTACK


@dataclass(frozen=True, repr=False)
class CheckpointDirtyPfnList(_Blob):
    """COLO's back channel, from the receiver to the saver: 64-bit pfns."""

    TYPE = RecordType.CHECKPOINT_DIRTY_PFN_LIST


@dataclass(frozen=True, repr=False)
class Unknown(Record):
    """A record type that this release does not know; bit 31 of ``code`` says whether it may be skipped."""

    type_code: int
    blob: Buffer

    @property
    def code(self) -> int:
        return self.type_code

    @property
    def optional(self) -> bool:
        """True if a receiver that does not know the record skips it."""
        return bool(self.type_code & fmt.RECORD_OPTIONAL)

    def encode(self) -> bytes:
        return bytes(self.blob)


_ALL: tuple[type[Record], ...] = (
    End,
    PageData,
    PvInfo,
    P2mFrames,
    VcpuBasic,
    VcpuExtended,
    VcpuXsave,
    SharedInfo,
    TscInfo,
    HvmContext,
    HvmParams,
    Toolstack,
    VcpuMsrs,
    Verify,
    Checkpoint,
    CheckpointDirtyPfnList,
    StaticDataEnd,
    CpuidPolicy,
    MsrPolicy,
)

RECORD_CLASSES = {int(cls.TYPE): cls for cls in _ALL}
"""Record type -> class."""


def decode(code: int, body: Buffer, offset: int = 0) -> Record:
    """The typed record of a body, Unknown for types that are not in the specification.

    Raises StreamError (facts: offset, record) where the body's length cannot be that of such a record.
    """
    cls = RECORD_CLASSES.get(code)
    record = Unknown(code, body) if cls is None else cls.decode(body, offset)
    object.__setattr__(record, "offset", offset)
    return record


def frame(record: Record) -> bytes:
    """A whole record as it stands in a stream: header, body, zero padding up to a multiple of 8.

    Raises NotSupported (facts: record, length) if it would be longer than a receiver accepts.
    """
    body = record.encode()
    return _head(record, len(body)) + body + bytes(fmt.padding_of(len(body)))


def framed(record: Record) -> Iterable[bytes]:
    """What ``frame`` gives, in pieces: X86_PV_P2M_FRAMES has 4 KiB for each GiB of guest. Raises like ``frame``."""
    if not isinstance(record, P2mFrames):
        yield frame(record)
        return
    yield _head(record, record.length)
    yield from record.pieces()


def _head(record: Record, length: int) -> bytes:
    """The header of a record with a body of so many bytes."""
    if length + fmt.padding_of(length) > fmt.RECORD_LENGTH_MAX:
        raise NotSupported(
            f"{record.name} record of {length} bytes: a receiver takes at most {fmt.RECORD_LENGTH_MAX}",
            record=record.name,
            length=length,
        )
    return fmt.RECORD_HEADER.pack(record.code, length)
