"""Streams with one thing wrong each, and the rules they break."""

from __future__ import annotations

import dataclasses
import struct
from array import array
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from support import streams as build
from support.streams import HOLE, L1, L2, L3, L4, P2M, USER_L4, find, pte, swap, table

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType

Records = list[rec.Record]


class Case(NamedTuple):
    """A broken stream. ``rules``: exactly those it breaks; ``record``: the one first complained about."""

    name: str
    data: bytes
    rules: frozenset[str]
    record: str | None
    words: str


CASES: list[Case] = []


def case(
    rules: str,
    record: str | None,
    words: str = "",
    *,
    base: Callable[[], Records] = build.pv64,
    version: int = 3,
) -> Callable[[Callable[[Records], Any]], None]:
    """Decorates a function that breaks a list of records in place (or gives back the whole stream)."""
    kind = DomainType.HVM if base is build.hvm else DomainType.PV

    def note(function: Callable[[Records], Any]) -> None:
        records = base()
        if version == 2:
            records = build.version2(records)
        changed = function(records)
        data = changed if isinstance(changed, bytes) else build.assemble(records, kind, version)
        CASES.append(Case(function.__name__, data, frozenset(rules.split()), record, words))

    return note


def change(records: Records, kind: type[Any], nth: int = 0, **values: Any) -> None:
    """Gives the ``nth`` record of a class other field values."""
    swap(records, kind, lambda record: dataclasses.replace(record, **values), nth)


def remove(records: Records, kind: type[rec.Record], nth: int = 0) -> None:
    """Takes out the ``nth`` record of a class."""
    swap(records, kind, lambda record: None, nth)


def move(records: Records, kind: type[rec.Record], to: int, nth: int = 0) -> None:
    """Puts the ``nth`` record of a class elsewhere."""
    at, record = find(records, kind, nth)
    del records[at]
    records.insert(to, record)


def insert_before(records: Records, kind: type[rec.Record], new: rec.Record, nth: int = 0) -> None:
    """Puts a new record ahead of the ``nth`` of a class."""
    records.insert(find(records, kind, nth)[0], new)


def raw(
    records: Sequence[rec.Record], kind: type[Any], body: bytes, nth: int = 0, hvm: bool = False
) -> bytes:
    """The stream with the ``nth`` body of a class replaced by any bytes."""
    at, record = find(list(records), kind, nth)
    framed = [rec.frame(each) for each in records]
    framed[at] = struct.pack("<II", record.code, len(body)) + body + bytes(-len(body) % 8)
    head = build.assemble([], DomainType.HVM if hvm else DomainType.PV)
    return head + b"".join(framed)


def set_page(records: Records, pfn: int, kind: PageType, content: bytes) -> None:
    """Sends a page once more, at the end of the pages."""
    insert_before(records, rec.TscInfo, rec.PageData.build([(pfn, kind, content)]))


# Framing


@case("truncated", "record header", "7 of 8 bytes")
def cut_in_the_last_header(records: Records) -> bytes:
    return build.assemble(records)[:-1]


@case("truncated", None, "without an END record")
def no_end(records: Records) -> None:
    remove(records, rec.End)


@case("truncated", "PAGE_DATA", "ends at byte 30000")
def cut_in_a_page(records: Records) -> bytes:
    return build.assemble(records)[:30000]


@case("record-limit", "HVM_CONTEXT", "134217729 is above the limit")
def too_long(records: Records) -> bytes:
    return build.assemble(records[:4]) + fmt.RECORD_HEADER.pack(9, fmt.RECORD_LENGTH_MAX + 1)


@case("padding", "X86_PV_VCPU_EXTENDED", "0000000001, not zero", base=build.pv32)
def padding(records: Records) -> bytes:
    insert_before(records, rec.End, rec.VcpuExtended(0, b"abc" * 3))
    data = bytearray(build.assemble(records))
    data[-9] = 1
    return bytes(data)


@case("after-end", None, "8 bytes follow END")
def after_end(records: Records) -> None:
    records.append(rec.End())


# Headers


@case("image-reserved", "image header", "0x0002")
def image_option(records: Records) -> bytes:
    data = build.assemble(records)
    return data[:16] + b"\0\2" + data[18:]


@case("image-reserved", "image header", "0x000100000000")
def image_reserved_1(records: Records) -> bytes:
    data = build.assemble(records)
    return data[:18] + b"\0\1" + data[20:]


@case("image-reserved", "image header", "0x000000000001")
def image_reserved_2(records: Records) -> bytes:
    data = build.assemble(records)
    return data[:20] + b"\0\0\0\1" + data[24:]


@case("domain-header", "domain header", "type 0x3")
def domain_type(records: Records) -> bytes:
    data = build.assemble(records)
    return data[:24] + b"\3" + data[25:]


@case("domain-header", "domain header", "page shift 21")
def page_shift(records: Records) -> bytes:
    data = build.assemble(records)
    return data[:28] + b"\x15" + data[29:]


@case("domain-reserved", "domain header", "0x100")
def domain_reserved(records: Records) -> bytes:
    data = build.assemble(records)
    return data[:31] + b"\1" + data[32:]


# Which records, how often, in which order


@case("unknown-record", "unknown 0x00000013")
def unknown(records: Records) -> None:
    records.insert(2, rec.Unknown(0x13, b"x"))


@case("unknown-record", "unknown optional 0x80000001", "no optional record is defined")
def optional(records: Records) -> None:
    records.insert(2, rec.Unknown(0x8000_0001, b"x"))


@case("forbidden-record", "TOOLSTACK")
def toolstack(records: Records) -> None:
    insert_before(records, rec.End, rec.Toolstack(b"x"))


@case("forbidden-record", "CHECKPOINT", "not to a plain one")
def checkpoint(records: Records) -> None:
    insert_before(records, rec.End, rec.Checkpoint())


@case("forbidden-record", "CHECKPOINT_DIRTY_PFN_LIST")
def dirty_list(records: Records) -> None:
    insert_before(records, rec.End, rec.CheckpointDirtyPfnList(bytes(8)))


@case("wrong-guest", "HVM_CONTEXT")
def hvm_context_in_pv(records: Records) -> None:
    insert_before(records, rec.End, rec.HvmContext(b"x"))


@case("wrong-guest", "HVM_PARAMS")
def hvm_params_in_pv(records: Records) -> None:
    insert_before(records, rec.End, rec.HvmParams([(1, 2)]))


def _pv_record_in_hvm(name: str, record: rec.Record) -> None:
    def wrong(records: Records) -> None:
        insert_before(records, rec.End, record)

    wrong.__name__ = f"{name}_in_hvm"
    case("wrong-guest", record.name, base=build.hvm)(wrong)


_pv_record_in_hvm("pv_info", rec.PvInfo(8, 4))
_pv_record_in_hvm("p2m_frames", build.p2m_frames(8))
_pv_record_in_hvm("shared_info", rec.SharedInfo(bytes(PAGE_SIZE)))
_pv_record_in_hvm("basic", rec.VcpuBasic(0, build.vcpu_blob()))
_pv_record_in_hvm("extended", rec.VcpuExtended(0, bytes(64)))
_pv_record_in_hvm("xsave", rec.VcpuXsave(0, bytes(64)))
_pv_record_in_hvm("msrs", rec.VcpuMsrs(0, bytes(16)))


@case("wrong-version", "STATIC_DATA_END", "version 2", version=2)
def static_data_end_in_v2(records: Records) -> None:
    records.insert(1, rec.StaticDataEnd())


@case("wrong-version", "X86_CPUID_POLICY", version=2)
def cpuid_in_v2(records: Records) -> None:
    records.insert(1, rec.CpuidPolicy(bytes(24)))


@case("wrong-version", "X86_MSR_POLICY", base=build.hvm, version=2)
def msrs_in_v2(records: Records) -> bytes:
    records.insert(0, rec.MsrPolicy(bytes(16)))
    return build.assemble(records, DomainType.HVM, 2)


@case("missing-record order", "X86_PV_P2M_FRAMES", "comes ahead of STATIC_DATA_END")
def no_static_data_end(records: Records) -> None:
    remove(records, rec.StaticDataEnd)


_kind: type[rec.Record]
for _kind in (rec.PvInfo, rec.CpuidPolicy, rec.MsrPolicy, rec.StaticDataEnd):

    def _twice(records: Records, kind: type[rec.Record] = _kind) -> None:
        at, record = find(records, kind)
        records.insert(at, record)

    _twice.__name__ = f"{_kind.__name__}_twice"
    case("once", _kind.TYPE.name, "the first was at offset 0x")(_twice)

for _kind in (rec.TscInfo, rec.SharedInfo):

    def _twice_at_end(records: Records, kind: type[rec.Record] = _kind) -> None:
        insert_before(records, rec.End, find(records, kind)[1])

    _twice_at_end.__name__ = f"{_kind.__name__}_twice"
    case("once", _kind.TYPE.name, "the first was at offset 0x")(_twice_at_end)

for _kind in (rec.HvmContext, rec.HvmParams, rec.TscInfo):

    def _twice_hvm(records: Records, kind: type[rec.Record] = _kind) -> None:
        insert_before(records, rec.End, find(records, kind)[1])

    _twice_hvm.__name__ = f"{_kind.__name__}_twice_hvm"
    case("once hvm-param" if _kind is rec.HvmParams else "once", _kind.TYPE.name, base=build.hvm)(_twice_hvm)

for _kind in (rec.TscInfo, rec.SharedInfo):

    def _without(records: Records, kind: type[rec.Record] = _kind) -> None:
        remove(records, kind)

    _without.__name__ = f"without_{_kind.__name__}"
    case("missing-record", "END", f"no {_kind.TYPE.name} record")(_without)

for _kind in (rec.TscInfo, rec.HvmContext):

    def _without_hvm(records: Records, kind: type[rec.Record] = _kind) -> None:
        remove(records, kind)

    _without_hvm.__name__ = f"without_{_kind.__name__}_hvm"
    case("missing-record", "END", f"no {_kind.TYPE.name} record", base=build.hvm)(_without_hvm)


@case("missing-record order", "STATIC_DATA_END", "ahead of X86_PV_INFO")
def without_pv_info(records: Records) -> None:
    remove(records, rec.PvInfo)


@case("missing-record order", "PAGE_DATA", "ahead of X86_PV_P2M_FRAMES")
def without_p2m_frames(records: Records) -> None:
    remove(records, rec.P2mFrames)


@case("missing-record hvm-page", "END", "no PAGE_DATA", base=build.hvm)
def without_pages_hvm(records: Records) -> None:
    remove(records, rec.PageData)


@case("missing-record", "END", "X86_PV_VCPU_BASIC record of vcpu 0", base=build.pv32)
def without_basic(records: Records) -> None:
    remove(records, rec.VcpuBasic)


@case("missing-record vcpu-basic", "END", "X86_PV_VCPU_BASIC record of vcpu 0")
def without_basic_of_vcpu_0(records: Records) -> None:
    remove(records, rec.VcpuBasic)


@case("vcpu-basic", "X86_PV_VCPU_EXTENDED", "vcpu 1 has no X86_PV_VCPU_BASIC")
def without_basic_of_vcpu_1(records: Records) -> None:
    remove(records, rec.VcpuBasic, 1)


@case("order", "X86_CPUID_POLICY", "belongs ahead of STATIC_DATA_END")
def policy_after_static_data(records: Records) -> None:
    move(records, rec.CpuidPolicy, 3)


@case("order", "STATIC_DATA_END", "ahead of X86_PV_INFO")
def pv_info_after_static_data(records: Records) -> None:
    move(records, rec.PvInfo, 3)


@case("order", "X86_PV_P2M_FRAMES", "ahead of X86_PV_INFO", version=2)
def pv_info_after_p2m_frames(records: Records) -> None:
    move(records, rec.PvInfo, 1)


@case("order", "X86_PV_P2M_FRAMES", "ahead of STATIC_DATA_END")
def p2m_frames_before_static_data_end(records: Records) -> None:
    move(records, rec.P2mFrames, 3)


@case("order", "X86_TSC_INFO", "ahead of STATIC_DATA_END", base=build.hvm)
def tsc_before_static_data_end(records: Records) -> None:
    move(records, rec.TscInfo, 2)


@case("order", "PAGE_DATA", "comes after X86_TSC_INFO")
def pages_after_the_tail(records: Records) -> None:
    insert_before(records, rec.End, build.pages_of([14]))


@case("order", "X86_PV_P2M_FRAMES", "comes after X86_TSC_INFO")
def p2m_frames_after_the_tail(records: Records) -> None:
    insert_before(records, rec.End, build.p2m_frames(24))


@case("order hvm-page", "VERIFY", "ahead of any PAGE_DATA", base=build.hvm)
def verify_first(records: Records) -> None:
    insert_before(records, rec.PageData, rec.Verify())


# Bodies


def _length(kind: type[rec.Record], size: int, words: str, nth: int = 0, base: Any = build.pv64) -> None:
    def wrong(records: Records) -> bytes:
        return raw(records, kind, bytes(size), nth, hvm=base is build.hvm)

    wrong.__name__ = f"{kind.__name__}_of_{size}"
    case("length", kind.TYPE.name, words, base=base)(wrong)


_length(rec.StaticDataEnd, 8, "8 bytes, must be empty")
_length(rec.End, 1, "1 bytes, must be empty")
_length(rec.PvInfo, 7, "7 bytes, must be 8")
_length(rec.PvInfo, 16, "16 bytes, must be 8")
_length(rec.SharedInfo, 4095, "must be 4096")
_length(rec.TscInfo, 23, "must be 24")
_length(rec.CpuidPolicy, 0, "not empty")
_length(rec.CpuidPolicy, 25, "a multiple of 24")
_length(rec.MsrPolicy, 0, "not empty")
_length(rec.MsrPolicy, 24, "a multiple of 16")
_length(rec.VcpuExtended, 7, "at least 8")
_length(rec.VcpuXsave, 4, "at least 8")
_length(rec.VcpuMsrs, 0, "at least 8")
_length(rec.HvmParams, 4, "at least 8", base=build.hvm)
_length(rec.HvmParams, 24, "must be 8 for 0 parameters", base=build.hvm)
_length(rec.PageData, 8, "at least one entry", nth=3)
_length(rec.PageData, 0, "at least 8", nth=3)
_length(rec.PageData, 24, "must be 8 for 0 entries", nth=3)


@case("length", "HVM_CONTEXT", "cannot be empty", base=build.hvm)
def empty_hvm_context(records: Records) -> None:
    change(records, rec.HvmContext, blob=b"")


@case("length", "VERIFY", "must be empty")
def verify_with_a_body(records: Records) -> bytes:
    insert_before(records, rec.TscInfo, rec.Verify())
    return raw(records, rec.Verify, bytes(8))


@case("length", "PAGE_DATA", "must be")
def page_missing(records: Records) -> bytes:
    record = find(records, rec.PageData, 3)[1]
    return raw(records, rec.PageData, record.encode()[:-PAGE_SIZE], 3)


@case("length", "PAGE_DATA", "too few for")
def count_too_high(records: Records) -> bytes:
    return raw(records, rec.PageData, b"\xff\xff\xff\xff" + bytes(12), 3)


_RESERVED: list[tuple[type[rec.Record], dict[str, Any], Any]] = [
    (rec.PvInfo, {"reserved": b"\0\0\0\0\0\1"}, build.pv64),
    (rec.PageData, {"reserved": 1}, build.pv64),
    (rec.VcpuBasic, {"reserved": 1}, build.pv64),
    (rec.VcpuExtended, {"reserved": 1}, build.pv64),
    (rec.VcpuXsave, {"reserved": 1}, build.pv64),
    (rec.VcpuMsrs, {"reserved": 1}, build.pv64),
    (rec.TscInfo, {"reserved": 1}, build.pv64),
    (rec.HvmParams, {"reserved": 1}, build.hvm),
    (rec.MsrPolicy, {"blob": fmt.MSR_POLICY_ENTRY.pack(0xCE, 1, 0)}, build.hvm),
]
for _kind, _values, _base in _RESERVED:

    def _reserved(records: Records, kind: Any = _kind, values: dict[str, Any] = _values) -> None:
        change(records, kind, **values)

    _reserved.__name__ = f"{_kind.__name__}_reserved"
    case("reserved", _kind.TYPE.name, "not zero", base=_base)(_reserved)


@case("reserved", "X86_PV_VCPU_MSRS", "0x5")
def vcpu_msr_reserved(records: Records) -> None:
    change(records, rec.VcpuMsrs, blob=fmt.VCPU_MSR_ENTRY.pack(0xC001_1027, 5, 0))


for _bit in (52, 55, 56, 59):

    def _entry_reserved(records: Records, bit: int = _bit) -> None:
        entries = array("Q", find(records, rec.PageData, 1)[1].entries)
        entries[3] |= 1 << bit
        change(records, rec.PageData, 1, entries=entries)

    _entry_reserved.__name__ = f"entry_bit_{_bit}"
    case("reserved", "PAGE_DATA", "reserved bits set")(_entry_reserved)


@case("empty-record", "X86_PV_VCPU_EXTENDED", "vcpu 1")
def empty_extended(records: Records) -> None:
    change(records, rec.VcpuExtended, 1, blob=b"")


@case("empty-record", "HVM_PARAMS", base=build.hvm)
def empty_params(records: Records) -> None:
    change(records, rec.HvmParams, params=[])


for _width, _levels in ((8, 3), (4, 4), (2, 2), (8, 5)):

    def _pv_info(records: Records, width: int = _width, levels: int = _levels) -> None:
        change(records, rec.PvInfo, width=width, levels=levels)

    _pv_info.__name__ = f"pv_info_{_width}_{_levels}"
    case("pv-info", "X86_PV_INFO", f"width {_width} with {_levels} levels")(_pv_info)


@case("p2m-frames", "X86_PV_P2M_FRAMES", "2 frames for pfns 0x0 to 0x17, must be 1")
def too_many_p2m_frames(records: Records) -> None:
    insert_before(records, rec.PageData, rec.P2mFrames(0, 23, array("Q", [P2M, P2M])))


@case("p2m-frames", "X86_PV_P2M_FRAMES", "0 frames for pfns 0x0 to 0x17, must be 1")
def too_few_p2m_frames(records: Records) -> None:
    insert_before(records, rec.PageData, rec.P2mFrames(0, 23, array("Q")))


@case("p2m-frames", "X86_PV_P2M_FRAMES", "first pfn 0x18 is beyond the last 0x17")
def p2m_backwards(records: Records) -> None:
    insert_before(records, rec.PageData, rec.P2mFrames(24, 23, array("Q")))


@case("p2m-frames", "X86_PV_P2M_FRAMES", "begins at pfn 0x19")
def p2m_gap(records: Records) -> None:
    insert_before(records, rec.PageData, rec.P2mFrames(25, 40, array("Q", [P2M])))


@case("p2m-frames", "X86_PV_P2M_FRAMES", "begins at pfn 0x17, within the pfns of a frame")
def p2m_within_a_frame(records: Records) -> None:
    insert_before(records, rec.PageData, rec.P2mFrames(23, 40, array("Q", [P2M])))


@case("p2m-frames", "X86_PV_P2M_FRAMES", "begins at pfn 0xffffffff")
def p2m_of_32_gib(records: Records) -> None:
    insert_before(records, rec.PageData, rec.P2mFrames(0xFFFF_FFFF, 0xFFFF_FFFF, array("Q", [P2M])))


# vcpus


@case("vcpu-id", "X86_PV_VCPU_EXTENDED", "vcpu 8192")
def vcpu_id(records: Records) -> None:
    change(records, rec.VcpuExtended, 1, vcpu_id=8192)


for _kind in (rec.VcpuBasic, rec.VcpuExtended, rec.VcpuXsave, rec.VcpuMsrs):

    def _vcpu_twice(records: Records, kind: Any = _kind) -> None:
        insert_before(records, rec.End, find(records, kind, 1)[1])

    _vcpu_twice.__name__ = f"{_kind.__name__}_twice"
    case("vcpu-duplicate", _kind.TYPE.name, "a second one of vcpu 1")(_vcpu_twice)

_SIZES: list[tuple[type[rec.Record], int, str]] = [
    (rec.VcpuBasic, 2800, "2800 bytes of content, must be 5168"),
    (rec.VcpuBasic, 5169, "5169 bytes"),
    (rec.VcpuExtended, 129, "8 to 128"),
    (rec.VcpuExtended, 4, "4 bytes of content, must be 8 to 128"),
    (rec.VcpuXsave, 15, "at least 16"),
    (rec.VcpuMsrs, 15, "multiple of 16"),
]
for _kind, _size, _words in _SIZES:

    def _vcpu_size(records: Records, kind: Any = _kind, size: int = _size) -> None:
        change(records, kind, 1, blob=bytes(size))

    _vcpu_size.__name__ = f"{_kind.__name__}_blob_of_{_size}"
    case("vcpu-size", _kind.TYPE.name, _words)(_vcpu_size)


@case("vcpu-size", "X86_PV_VCPU_BASIC", "must be 2800", base=build.pv32)
def basic_of_a_64_bit_guest(records: Records) -> None:
    change(records, rec.VcpuBasic, blob=build.vcpu_blob())


def _basic(name: str, rules: str, words: str, **values: Any) -> None:
    def wrong(records: Records) -> None:
        change(records, rec.VcpuBasic, 0, blob=build.vcpu_blob(**{"start_info": build.START_INFO, **values}))

    wrong.__name__ = name
    case(rules, "X86_PV_VCPU_BASIC", words)(wrong)


_basic("cr3_never_sent", "cr3", "cr3 of vcpu 0 is pfn 0x999, which was never sent", cr3=0x999)
_basic("cr3_far_away", "cr3", "cr3 of vcpu 0 is pfn 0x10000000000", cr3=1 << 40)
_basic("cr3_of_wrong_level", "cr3", "pfn 0x2, which was last sent as L3TAB", cr3=L3)
_basic("cr3_not_a_table", "cr3", "pfn 0xc, which was last sent as NOTAB", cr3=12)
_basic("cr3_a_hole", "cr3", "pfn 0x8, which was last sent as XTAB", cr3=HOLE)
_basic("user_table_never_sent", "cr3", "user page table (ctrlreg[1]) of vcpu 0 is pfn 0x999", user=0x999)
_basic("gdt_never_sent", "gdt-frame", "GDT frame 1 of vcpu 0 is pfn 0x999", gdt=[build.GDT, 0x999])
_basic("gdt_a_table", "gdt-frame", "GDT frame 0 of vcpu 0 is pfn 0x1", gdt=[L4])
_basic("gdt_too_long", "gdt", "7680 entries", gdt=[build.GDT] * 15)
_basic("start_info_never_sent", "start-info", "start_info is pfn 0x999", start_info=0x999)


@case("cr3", "X86_PV_VCPU_BASIC", "bits below 12 must be zero")
def cr3_low_bits(records: Records) -> None:
    blob = bytearray(build.vcpu_blob(start_info=build.START_INFO))
    blob[fmt.VCPU_LAYOUTS[8].cr3] |= 8
    change(records, rec.VcpuBasic, blob=bytes(blob))


@case("cr3", "X86_PV_VCPU_BASIC", "bit 0 must mark a user page table")
def user_bit_missing(records: Records) -> None:
    blob = bytearray(build.vcpu_blob(start_info=build.START_INFO))
    blob[fmt.VCPU_LAYOUTS[8].ctrlreg1 or 0] &= 0xFE
    change(records, rec.VcpuBasic, blob=bytes(blob))


@case("cr3", "X86_PV_VCPU_BASIC", "pfn 0x100000", base=build.pv32)
def extended_cr3(records: Records) -> None:
    """A 32-bit guest's pfn above 20 bits stands in the low bits of cr3."""
    blob = bytearray(build.vcpu_blob(cr3=0, width=4, start_info=build.START_INFO))
    blob[fmt.VCPU_LAYOUTS[4].cr3] = 1
    change(records, rec.VcpuBasic, blob=bytes(blob))


@case("tsc", "X86_TSC_INFO", "mode 4")
def tsc_mode(records: Records) -> None:
    change(records, rec.TscInfo, mode=4)


# Memory


for _bad in (5, 6, 7, 8):

    def _page_type(records: Records, bad: int = _bad) -> None:
        insert_before(records, rec.TscInfo, rec.PageData(array("Q", [bad << 60 | HOLE]), b""))

    _page_type.__name__ = f"page_type_{_bad}"
    case("page-type", "PAGE_DATA", f"pfn 0x8 has the unknown type 0x{_bad:x}")(_page_type)


@case("page-type-guest", "PAGE_DATA", "pfn 0x5 is L1TAB", base=build.hvm)
def table_in_hvm(records: Records) -> None:
    set_page(records, 5, PageType.L1TAB, bytes(PAGE_SIZE))


@case("page-type-guest", "PAGE_DATA", "pfn 0x5 is L4TAB", base=build.pv32)
def l4_in_32_bit_guest(records: Records) -> None:
    set_page(records, 5, PageType.L4TAB_PINNED, bytes(PAGE_SIZE))
    set_page(records, 5, PageType.NOTAB, bytes(PAGE_SIZE))


@case("pfn-bound", "PAGE_DATA", "pfn 0x18 (and 0 more) is not below 0x18")
def pfn_just_beyond(records: Records) -> None:
    set_page(records, 24, PageType.NOTAB, bytes(PAGE_SIZE))


@case("pfn-bound", "PAGE_DATA", "pfn 0x10000000000")
def pfn_of_2_to_40(records: Records) -> None:
    entries = find(records, rec.PageData, 3)[1].entries
    change(records, rec.PageData, 3, entries=array("Q", [entries[0], 1 << 40, entries[2]]))


@case("pfn-bound", "PAGE_DATA", "the end of the address space", base=build.hvm)
def pfn_beyond_the_address_space(records: Records) -> None:
    set_page(records, 1 << 40, PageType.NOTAB, bytes(PAGE_SIZE))


@case("duplicate-pfn", "PAGE_DATA", "pfn 0xe comes twice")
def duplicate(records: Records) -> None:
    insert_before(records, rec.TscInfo, build.pages_of([14, 15, 14]))


@case("never-sent", "END", "1 of 24 pfns were never sent: 0x17")
def last_page_never_sent(records: Records) -> None:
    at, record = find(records, rec.PageData, 2)
    records[at] = rec.PageData(record.entries[:-1], bytes(record.pages)[:-PAGE_SIZE])
    set_page(records, L1, PageType.L1TAB, bytes(PAGE_SIZE))


@case("never-sent table-target", "END", "8 of 24 pfns were never sent: 0x10-0x17")
def page_record_removed(records: Records) -> None:
    remove(records, rec.PageData, 2)


def _entry(name: str, at: tuple[int, int], entry: int, rules: str, words: str) -> None:
    """One entry of one page table replaced, in the version sent last."""

    pfn, slot = at

    def wrong(records: Records) -> None:
        kind, content = build.contents(24)[pfn]
        page = bytearray(content)
        page[slot * 8 : slot * 8 + 8] = entry.to_bytes(8, "little")
        set_page(records, pfn, kind, bytes(page))

    wrong.__name__ = name
    case(rules, "PAGE_DATA", words)(wrong)


_entry(
    "pte_beyond",
    (L1, 77),
    pte(0x999),
    "table-bound",
    "pfn 0x4 level 1 slot 77 refers to pfn 0x999, not below 0x18",
)
_entry("pte_to_the_end", (L1, 511), pte(24), "table-bound", "slot 511 refers to pfn 0x18, not below 0x18")
_entry(
    "pte_to_hole",
    (L1, 77),
    pte(HOLE),
    "table-target",
    "level 1 slot 77 refers to pfn 0x8, which was last sent as XTAB",
)
_entry(
    "l2e_to_hole", (L2, 9), pte(HOLE), "table-target", "page table pfn 0x3 level 2 slot 9 refers to pfn 0x8"
)
_entry(
    "l4e_to_hole",
    (L4, 255),
    pte(HOLE),
    "table-target",
    "page table pfn 0x1 level 4 slot 255 refers to pfn 0x8",
)
_entry(
    "l4e_after_xens", (USER_L4, 272), pte(HOLE), "table-target", "pfn 0x9 level 4 slot 272 refers to pfn 0x8"
)
_entry("superpage", (L2, 9), pte(12, 0xE7), "superpage", "page table pfn 0x3 level 2 slot 9 maps a superpage")


@case("table-target", "PAGE_DATA", "slot 6 refers to pfn 0x5, which was last sent as XTAB")
def run_of_ptes_over_a_ballooned_page(records: Records) -> None:
    """A page that is given back after its table was sent."""
    page = table({slot: pte(slot - 1) for slot in range(5, 8)})
    set_page(records, L1, PageType.L1TAB, page)
    set_page(records, 5, PageType.XTAB, b"")
    # 5 is the p2m's only frame: let another take its place
    change(records, rec.P2mFrames, frames=array("Q", [20]))


@case("p2m-frame", "X86_PV_P2M_FRAMES", "frame 0 of the p2m is pfn 0x999, which was never sent")
def p2m_frame_never_sent(records: Records) -> None:
    change(records, rec.P2mFrames, frames=array("Q", [0x999]))


@case("p2m-frame", "X86_PV_P2M_FRAMES", "which was last sent as L4TAB_PINNED")
def p2m_frame_a_table(records: Records) -> None:
    change(records, rec.P2mFrames, frames=array("Q", [L4]))


@case("table-bound", "PAGE_DATA", "slot 7 refers to pfn 0x18, not below 0x18")
def table_ahead_of_its_frame_list(records: Records) -> None:
    """The p2m grows, but a table that refers to the new part came first."""
    set_page(records, L1, PageType.L1TAB, table({7: pte(24)}))
    insert_before(records, rec.TscInfo, build.p2m_frames(25))
    insert_before(records, rec.TscInfo, build.pages_of([24]))


@case("shared-info", "SHARED_INFO", "the guest has 0x17 pfns, but P2M_FRAMES covers 0x18")
def smaller_than_its_p2m(records: Records) -> None:
    change(records, rec.SharedInfo, blob=build.shared_info(23).blob)


@case("shared-info", "SHARED_INFO", "the guest has 0xf pfns, but P2M_FRAMES covers 0x10", base=build.pv32)
def smaller_than_its_p2m_32(records: Records) -> None:
    change(records, rec.SharedInfo, blob=build.shared_info(15, at=2316, size=4).blob)


@case("shared-info", "SHARED_INFO", "the guest has 0x0 pfns, but P2M_FRAMES covers 0x19")
def no_pfns_after_it_has_grown(records: Records) -> None:
    insert_before(records, rec.TscInfo, build.p2m_frames(25))
    insert_before(records, rec.TscInfo, build.pages_of([24]))
    change(records, rec.SharedInfo, blob=bytes(PAGE_SIZE))


@case("scattered", "PAGE_DATA", "too far apart", base=build.hvm)
def scattered(records: Records) -> None:
    far = [PageType.XTAB << 60 | index << 13 for index in range(1, 20000)]
    insert_before(records, rec.TscInfo, rec.PageData(array("Q", far), b""))
