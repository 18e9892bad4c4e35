"""Survey: lines and sums over known streams."""

from __future__ import annotations

import io
from array import array
from typing import Any

import pytest
from support import hvm
from support import streams as build

from pyxcsr.errors import NotAStream, StreamError
from pyxcsr.frames import PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream import hvm_context, hvm_params
from pyxcsr.stream import records as rec
from pyxcsr.stream.describe import describe, msr_name
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.survey import PROBLEMS_KEPT, Line, Survey, survey
from stream.rules.cases import insert_before


def look(data: bytes, *, fold: bool = True) -> tuple[list[Line], Survey]:
    lines: list[Line] = []
    return lines, survey(StreamReader(io.BytesIO(data)), lines.append, fold=fold)


def test_sums_of_a_pv_guest() -> None:
    data = build.assemble(build.pv64())
    _, sums = look(data)
    assert (sums.version, sums.guest, sums.xen) == (3, "PV", "4.17")
    assert (sums.records, sums.bytes, sums.complete) == (len(build.pv64()), len(data), True)
    assert (sums.entries, sums.pages, sums.nr_pfns) == (27, 26, 24)
    assert sums.page_types == {
        "NOTAB": 20, "L1TAB": 2, "L2TAB": 1, "L3TAB": 1, "L4TAB_PINNED": 2, "XTAB": 1
    }  # fmt: skip
    assert [(one.first_pfn, one.last_pfn, one.entries, one.pages) for one in sums.passes] == [
        (0, 23, 24, 23),
        (4, 13, 3, 3),
    ]
    assert sums.vcpus == {vcpu: {"BASIC": 5168, "EXTENDED": 64, "XSAVE": 592, "MSRS": 16} for vcpu in (0, 1)}
    assert (sums.cpuid_leaves, sums.msr_policy) == (3, {"PLATFORM_INFO": 1 << 31})
    assert sums.problems == []


def test_sums_of_an_hvm_guest() -> None:
    _, sums = look(build.assemble(build.hvm(), DomainType.HVM))
    assert (sums.guest, sums.nr_pfns, sums.entries, sums.pages, sums.vcpus) == ("HVM", 8, 8, 7, {})


def test_of_a_long_policy_the_first_entries_are_kept() -> None:
    records = build.pv64()
    build.swap(records, rec.MsrPolicy, lambda _: rec.MsrPolicy(_msrs(2000)))
    build.swap(records, rec.CpuidPolicy, lambda _: rec.CpuidPolicy(fmt.CPUID_LEAF.pack(1, 0, 0, 0, 0, 0) * 5000))
    _, sums = look(build.assemble(records))
    assert list(sums.msr_policy.values()) == list(range(1024))
    assert (sums.cpuid_leaves, sums.cpuid_vendor, sums.problems) == (5000, None, [])


def test_no_more_vcpus_are_kept_than_a_guest_can_have() -> None:
    kinds = (rec.VcpuBasic, rec.VcpuXsave)
    records = [kind(vcpu, b"x") for kind in kinds for vcpu in range(9000)]
    _, sums = look(build.assemble([*build.pv64()[:-1], *records, rec.End()]))
    assert list(sums.vcpus) == list(range(8192)) and sums.complete
    assert sums.vcpus[8191] == {"BASIC": 1, "XSAVE": 1}


def test_of_problems_the_first_are_kept_and_the_rest_is_counted() -> None:
    """An empty X86_PV_INFO has eight bytes."""
    records = build.pv64()
    whole = build.assemble(records)
    more = fmt.RECORD_HEADER.pack(fmt.RecordType.X86_PV_INFO, 0) * (PROBLEMS_KEPT + 5)
    lines, sums = look(whole[:40] + more + whole[40:])
    assert len(sums.problems) == PROBLEMS_KEPT and sums.dropped == 5 and sums.complete
    assert len(lines) > PROBLEMS_KEPT, "each has its line all the same"
    assert sums.to_dict()["dropped"] == 5


def test_of_bad_contexts_too() -> None:
    bad = rec.HvmContext(b"\x55" * 64)
    _, sums = look(build.assemble([bad] * (PROBLEMS_KEPT + 5) + build.hvm(), DomainType.HVM))
    assert len(sums.problems) == PROBLEMS_KEPT and sums.dropped == 5


def test_a_context_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = hvm_context.look, list[int]()

    def counted(context: Any) -> Any:
        seen.append(len(context))
        return real(context)

    monkeypatch.setattr(hvm_context, "look", counted)
    lines, sums = look(build.assemble(build.hvm(), DomainType.HVM))
    (line,) = (x for x in lines if x.name == "HVM_CONTEXT")
    assert len(seen) == 1 and sums.hvm_context and line.text.startswith(f"{seen[0]} bytes: HEADER, ")


def test_no_more_parameters_are_kept_than_anybody_sends() -> None:
    records: list[rec.Record] = [
        rec.HvmParams([(1000 * nth + at, 7) for at in range(900)]) for nth in range(1, 4)
    ]
    last = rec.HvmParams([(1000, 8), (9999, 8)])
    _, sums = look(build.assemble([*records, last, rec.End()], DomainType.HVM))
    assert len(sums.hvm_params) == 1000 and sums.hvm_params[hvm_params.name(1000)] == 8


def _msrs(count: int) -> bytes:
    return b"".join(fmt.MSR_POLICY_ENTRY.pack(0x1000 + value, 0, value) for value in range(count))


def test_converted_from_legacy() -> None:
    data = rec.image_header(2) + rec.domain_header(DomainType.HVM, 0, 1) + rec.frame(rec.End())
    assert "legacy" in look(data)[1].xen


def test_lines_cover_the_stream() -> None:
    data = build.assemble(build.pv64())
    for fold in (True, False):
        lines, _ = look(data, fold=fold)
        at = 40
        for line in lines:
            assert line.offset == at
            at += line.size
        assert at == len(data)
        assert sum(line.count for line in lines) == len(build.pv64())
    assert [line.name for line in lines] == [record.name for record in build.pv64()]


def test_runs_of_page_data_are_one_line() -> None:
    folded, _ = look(build.assemble(build.pv64()))
    (line,) = [line for line in folded if line.name == "PAGE_DATA"]
    assert line.count == 4
    assert line.text.startswith("pfns 0x0 to 0x17: 20 NOTAB, 2 L1TAB,")
    records = build.pv64()
    records.insert(build.find(records, rec.PageData, 2)[0], build.p2m_frames(24))
    lines, _ = look(build.assemble(records))
    assert [line.count for line in lines if line.name == "PAGE_DATA"] == [2, 2]


@pytest.mark.parametrize(
    ("pfns", "passes"),
    [
        ([[0, 1, 2], [3, 4]], [(0, 4, 5)]),
        ([[0, 1, 2], [2, 3]], [(0, 2, 3), (2, 3, 2)]),
        ([[0, 1, 0, 5, 5], [6]], [(0, 1, 2), (0, 5, 2), (5, 6, 2)]),
        ([[5], [4], [3]], [(5, 5, 1), (4, 4, 1), (3, 3, 1)]),
    ],
)
def test_passes(pfns: list[list[int]], passes: list[tuple[int, int, int]]) -> None:
    records = [*(build.pages_of(some) for some in pfns), rec.End()]
    _, sums = look(build.assemble(records))
    assert [(one.first_pfn, one.last_pfn, one.entries) for one in sums.passes] == passes
    assert sums.nr_passes == len(passes)


def test_many_passes_are_counted() -> None:
    entries = array("Q", [fmt.pack_entry(5, PageType.XTAB)] * 20000)
    _, sums = look(build.assemble([rec.PageData(entries, b""), rec.End()]))
    assert (sums.nr_passes, len(sums.passes), sums.entries, sums.pages) == (20000, 1000, 20000, 0)


def test_damage_is_told_and_gone_past() -> None:
    records = build.pv64()
    insert_before(records, rec.End, rec.Unknown(0x42, b"abc"))
    data = bytearray(build.assemble(records))
    tsc = next(each.offset or 0 for each in StreamReader(io.BytesIO(data)) if isinstance(each, rec.TscInfo))
    data[tsc + 4] = 17  # the padded size stays
    lines, sums = look(bytes(data))
    assert sums.problems == [f"offset 0x{tsc:x}: X86_TSC_INFO: 17 bytes, must be 24"]
    assert sums.complete
    assert [line.text for line in lines if line.name == "X86_TSC_INFO"] == [
        "malformed: X86_TSC_INFO: 17 bytes, must be 24"
    ]
    assert [line.text for line in lines if line.name == "unknown 0x00000042"] == ["3 bytes"]


def test_truncated() -> None:
    lines, sums = look(build.assemble(build.pv64())[:-8])
    assert not sums.complete
    assert "without an END record" in sums.problems[0]
    assert lines[-1].name == "X86_PV_VCPU_MSRS"


def test_truncated_within_the_pages() -> None:
    lines, sums = look(build.assemble(build.pv64())[:60000])
    assert (lines[-1].name, lines[-1].count) == ("PAGE_DATA", 1)
    assert len(sums.problems) == 1


def test_what_is_no_stream_is_raised() -> None:
    with pytest.raises(NotAStream):
        look(b"garbage")
    with pytest.raises(StreamError):
        look(rec.image_header() + rec.domain_header(7, 4, 17))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (rec.PvInfo(8, 4), "64-bit guest, 4 levels of page tables"),
        (rec.PvInfo(4, 3), "32-bit guest, 3 levels of page tables"),
        (build.p2m_frames(1024), "pfns 0x0 to 0x3ff, 2 frames"),
        (rec.VcpuXsave(3, b"\7" + bytes(15)), "vcpu 3, 16 bytes, xcr0 0x7"),
        (rec.VcpuXsave(3, b"\7"), "vcpu 3, 1 bytes"),
        (rec.VcpuMsrs(1, fmt.VCPU_MSR_ENTRY.pack(0xC000_0103, 0, 9)), "vcpu 1: TSC_AUX 0x9"),
        (rec.MsrPolicy(fmt.MSR_POLICY_ENTRY.pack(0xCE, 0, 7) + b"\1"), "PLATFORM_INFO 0x7"),
        (
            rec.MsrPolicy(b"".join(fmt.MSR_POLICY_ENTRY.pack(index, 0, 1) for index in range(66))),
            ", ".join(f"{msr_name(index)} 0x1" for index in range(64)) + ", and 2 more",
        ),
        (rec.TscInfo(1, 2, 3, 4), "mode 1, 2 kHz, 3 ns, incarnation 4"),
        (
            rec.CpuidPolicy(fmt.CPUID_LEAF.pack(0, 0, 13, 0x756E6547, 0x6C65746E, 0x49656E69)),
            "1 leaves, GenuineIntel",
        ),
        (rec.CpuidPolicy(fmt.CPUID_LEAF.pack(0, 0, 13, 0x1B, 0x1B, 0x1B)), "1 leaves"),
        (
            rec.CpuidPolicy(fmt.CPUID_LEAF.pack(1, *[0] * 5) + fmt.CPUID_LEAF.pack(0, 0, 1, *[0x41414141] * 3) + b"\1"),
            "2 leaves, AAAAAAAAAAAA",
        ),
        (rec.HvmParams([(1, 0xFE), (77, 3)]), "STORE_PFN 0xfe, parameter 77 0x3"),
        (
            rec.HvmContext(hvm.context(nr_vcpus=3)),
            "10272 bytes: HEADER, CPU x 3, PIC x 2, IOAPIC, LAPIC x 3, LAPIC_REGS x 3, MTRR x 3, CPU_XSAVE x 3, "
            "CPU_MSR x 3, END; registers of vcpus 0-2",
        ),
        (rec.HvmContext(b"abc"), "3 bytes; damaged: it ends after 3 bytes without an END"),
        (rec.StaticDataEnd(), ""),
    ],
)
def test_descriptions(record: rec.Record, words: str) -> None:
    assert describe(record) == words


def test_msr_names() -> None:
    assert msr_name(0xCE) == "PLATFORM_INFO"
    assert msr_name(0x1234) == "0x1234"
