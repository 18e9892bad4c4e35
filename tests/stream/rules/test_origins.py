"""Rules know who wrote a stream: what older savers and Xen's converter do is a note there, else a complaint."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support import containers as c
from support import hvm as context
from support import legacy, oracle
from support import streams as build

from pyxcsr.container.enter import enter
from pyxcsr.container.reader import Kind
from pyxcsr.container.verify import verify_input
from pyxcsr.frames import PageType
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.origin import Origin
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.verify import VerifyReport
from pyxcsr.stream.source import Source
from stream.rules.cases import Records, change, insert_before, set_page

PV, HVM = DomainType.PV, DomainType.HVM


def check(data: bytes) -> VerifyReport:
    return verify_input(io.BytesIO(data))


def rules(report: VerifyReport) -> tuple[list[str], list[str]]:
    """Those of the complaints, and those of the notes."""
    return [each.rule for each in report.complaints], [each.rule for each in report.notes]


def saved_by(records: Records, kind: DomainType, xen: tuple[int, int], version: int = 3) -> bytes:
    """A stream of another Xen."""
    head = rec.image_header(version) + rec.domain_header(kind, *xen)
    return head + b"".join(map(rec.frame, records))


def with_holes() -> Records:
    """A PV guest with pages that were given back: they are not in its page tables."""
    records = build.pv64(nr_pfns=40)
    set_page(records, build.L1, PageType.L1TAB, build.table({5: build.pte(12)}))
    for pfn in (20, 21, 30):
        set_page(records, pfn, PageType.XTAB, b"")
    at, _ = build.find(records, rec.PageData, 2)
    records[at] = rec.PageData.build([(pfn, PageType.XTAB, b"") for pfn in (20, 21)])
    at, _ = build.find(records, rec.PageData, 3)
    del records[at]
    return records


@pytest.mark.parametrize("live", [True, False])
def test_converted_pv(tmp_path: Path, live: bool) -> None:
    data = legacy.convert(legacy.pv(with_holes(), live=live), tmp_path, "pv")
    (record,) = (each for each in rec_of(data, rec.VcpuExtended) if each.vcpu_id == 1)
    assert len(record.blob) == 128
    report = check(data)
    assert rules(report) == ([], ["order", "never-sent"]) and report.ok and report.memory_checked
    assert "comes after X86_TSC_INFO" in report.notes[0].text
    assert report.nr_unsent > 8
    assert oracle.accepts_bytes(data)


def rec_of(data: bytes, kind: type[legacy.R]) -> list[legacy.R]:
    """The records of a class in a stream."""
    return [record for record in StreamReader(io.BytesIO(data)) if isinstance(record, kind)]


PARAMS = [(1, 5), (17, 6), (5, 1), (6, 2), (12, 0x4000), (15, 0x7000), (19, 1), (33, 2), (32, 0xFEFF0)]


def test_converted_hvm(tmp_path: Path) -> None:
    records = build.hvm()
    change(records, rec.HvmParams, params=PARAMS)
    data = legacy.convert(legacy.hvm(records), tmp_path, "hvm")
    report = check(data)
    assert rules(report) == ([], ["order", "once", "never-sent", "hvm-page"]) and report.ok
    assert "the page of IOREQ_SERVER_PFN is pfn 0xfeff0" in report.notes[-1].text
    assert oracle.accepts_bytes(data)


def test_converted_hvm_in_libxl(tmp_path: Path) -> None:
    records = build.hvm()
    data = legacy.convert(legacy.hvm(records), tmp_path, "hvm", "libxl")
    report = check(data)
    assert rules(report) == ([], ["order", "once", "never-sent"])
    assert report.container is not None and report.container.libxl_options == 2
    assert "the device model's state of 15 bytes" in report.unchecked


def test_converted_by_xen_4_6_to_4_13(tmp_path: Path) -> None:
    """These made version 2, in which nothing marks the end of the static data."""
    for image, guest, kind in ((legacy.pv(with_holes()), "pv", PV), (legacy.hvm(build.hvm()), "hvm", HVM)):
        records = list(StreamReader(io.BytesIO(legacy.convert(image, tmp_path, guest))))
        report = check(saved_by(build.version2(records), kind, (0, 1), 2))
        assert report.complaints == [] and {each.rule for each in report.notes} >= {"order", "never-sent"}


def test_an_image_of_xen_3_has_no_tsc(tmp_path: Path) -> None:
    for records, guest in ((with_holes(), "pv"), (build.hvm(), "hvm")):
        at, _ = build.find(records, rec.TscInfo)
        del records[at]
        image = legacy.pv(records) if guest == "pv" else legacy.hvm(records)
        data = bytearray(legacy.convert(image, tmp_path, guest))
        report = check(bytes(data))
        assert report.ok and "there is no X86_TSC_INFO record" in [note.text for note in report.notes]
        data[32:36] = b"\4\0\0\0"
        assert "missing-record" in rules(check(bytes(data)))[0]


def test_what_the_converter_leaves_behind_an_hvm_stream(tmp_path: Path) -> None:
    """Unless it is told --skip-qemu it copies the device model's state, as it stood in the image, behind END."""
    data = bytearray(legacy.convert(legacy.hvm(build.hvm()), tmp_path, "hvm", "libxc", "-v"))
    assert data.endswith(b"DeviceModelRecord0002\7\0\0\0QEVM...")
    report = check(bytes(data))
    assert report.ok and report.notes[-1].rule == "after-end"
    assert report.notes[-1].text.endswith("as in a legacy image, which convert-legacy-stream leaves there")
    data[32:36] = b"\4\0\0\0"
    assert "after-end" in rules(check(bytes(data)))[0]
    pv = legacy.convert(legacy.pv(with_holes()), tmp_path, "pv") + b"DeviceModelRecord0002"
    assert rules(check(pv))[0] == ["after-end"]


CONFIG = b'builder = "hvm"\nname = "old"\nmemory = 64\n'


@pytest.mark.parametrize(("config", "noted"), [(CONFIG, False), (b"", True)])
def test_xl_files_of_xen_4_1_to_4_4(tmp_path: Path, config: bytes, noted: bool) -> None:
    """Their configuration is text without a NUL, or there is none; the converter sets xl's flag of version 2."""
    data = legacy.xl(legacy.convert(legacy.hvm(build.hvm()), tmp_path, "hvm", "libxl"), config)
    report = check(data)
    assert report.ok and ("xl-config" in rules(report)[1]) is noted
    assert report.container is not None and report.container.mandatory_flags == 2
    at = data.index(b"LibxlFmt") + 12
    today = check(data[:at] + bytes(4) + data[at + 4 :])  # without libxl's mark of a legacy stream
    assert ("xl-config" in rules(today)[0]) is noted
    new = tmp_path / "again"
    new.write_bytes(data)
    with open(new, "rb") as file:
        source = Source(file)
        assert enter(source) is Kind.XL and source.peek(8) == b"\xff" * 8


def test_an_hvm_guest_without_a_device_model() -> None:
    """Of Xen 4.7 to 4.9; since 4.10 such guests are of the type pvh."""
    report = check(c.xl(c.libxl(c.HVM), c.text_of(c.config("hvm", device_model_version="none")) + b"\0"))
    assert rules(report) == ([], ["libxl-missing"])
    report = check(c.xl(c.libxl(c.HVM), c.text_of(c.config("hvm", device_model_version="qemu_xen")) + b"\0"))
    assert rules(report) == (["libxl-missing"], [])


def test_the_same_is_a_complaint_where_it_is_not_converted(tmp_path: Path) -> None:
    for image, guest, wanted in (
        (legacy.pv(with_holes()), "pv", {"order", "never-sent"}),
        (legacy.hvm(build.hvm()), "hvm", {"order", "once"}),
    ):
        data = bytearray(legacy.convert(image, tmp_path, guest))
        data[32:36] = b"\4\0\0\0"  # the domain header's xen_major
        report = check(bytes(data))
        assert {each.rule for each in report.complaints} == wanted
        assert report.notes == []


def test_converted_streams_are_not_let_off_more() -> None:
    """A parameter that comes twice, pages after the vcpus and a page table to nowhere stay complaints."""
    records = build.hvm()
    insert_before(records, rec.End, rec.HvmParams([(1, 6)]))
    assert rules(check(saved_by(records, HVM, (0, 1)))) == (["hvm-param"], ["once"])
    records = build.pv64()
    insert_before(records, rec.End, build.pages_of([12]))
    assert rules(check(saved_by(records, PV, (0, 1)))) == (["order"], [])
    records = with_holes()
    set_page(records, build.L1, PageType.L1TAB, build.table({0: build.pte(20)}))
    assert rules(check(saved_by(records, PV, (0, 1)))) == (["table-target"], ["never-sent"])


@pytest.mark.parametrize(
    ("xen", "version", "complaints", "notes"),
    [
        ((0, 1), 3, [], ["tsc"]),
        ((4, 6), 2, [], ["tsc"]),
        ((4, 11), 2, [], ["tsc"]),
        ((4, 12), 2, ["tsc"], []),
        ((4, 17), 3, ["tsc"], []),
    ],
)
def test_tsc_mode_3(xen: tuple[int, int], version: int, complaints: list[str], notes: list[str]) -> None:
    records = build.pv64() if version == 3 else build.version2(build.pv64())
    change(records, rec.TscInfo, mode=3)
    assert rules(check(saved_by(records, PV, xen, version))) == (complaints, notes)


@pytest.mark.parametrize(("xen", "noted"), [((4, 22), False), ((4, 23), True), ((5, 0), True), ((0, 1), False)])
def test_what_a_newer_xen_writes(xen: tuple[int, int], noted: bool) -> None:
    records = build.hvm()
    change(records, rec.HvmParams, params=[(1, 5), (17, 6), (39, 7)])
    blob = context.context()[:-8] + context.record(21, 0, b"new") + context.END
    change(records, rec.HvmContext, blob=blob)
    found = ["hvm-context", "hvm-param"]
    assert rules(check(saved_by(records, HVM, xen))) == (([], found) if noted else (found, []))


@pytest.mark.parametrize(("xen", "noted"), [((4, 22), False), ((4, 23), True), ((0, 1), False)])
@pytest.mark.parametrize("feature", [(9, 1 | 1 << 20), (38, 1 << 40)], ids=["VIRIDIAN", "MCA_CAP"])
def test_a_feature_that_only_a_newer_xen_has(feature: tuple[int, int], xen: tuple[int, int], noted: bool) -> None:
    records = build.hvm()
    change(records, rec.HvmParams, params=[(1, 5), (17, 6), feature])
    assert rules(check(saved_by(records, HVM, xen))) == (([], ["hvm-param"]) if noted else (["hvm-param"], []))


def test_a_newer_xen_is_not_let_off_what_is_known() -> None:
    records = build.hvm()
    change(records, rec.HvmParams, params=[(1, 5), (17, 6), (24, 1)])
    assert rules(check(saved_by(records, HVM, (5, 0)))) == (["hvm-param"], [])


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ([(1, 5), (17, 6), (16, 1)], "VPT_ALIGN 0x1 is one that no saver sends"),
        ([(1, 5), (17, 6), (5, 3)], "the page of IOREQ_PFN is pfn 0x3, which was last sent as XTAB"),
        ([(12, 0x4000)], "no HVM_PARAMS name the pages of xenstore and console"),
    ],
)
def test_notes_of_parameters(params: list[tuple[int, int]], words: str) -> None:
    records = build.hvm()
    change(records, rec.HvmParams, params=params)
    report = check(build.assemble(records, HVM))
    assert report.ok and [words in note.text for note in report.notes] == [True]


def test_pae_enabled_of_xen_4_13() -> None:
    records = build.version2(build.hvm())
    change(records, rec.HvmParams, params=[(1, 5), (17, 6), (4, 1)])
    assert rules(check(saved_by(records, HVM, (4, 13), 2))) == ([], [])


def test_notes_of_what_a_context_names() -> None:
    """A vcpu with paging has its page table base in the guest's memory, as a rule; guests can do strange things."""
    records = build.hvm()
    body = bytearray(1032)
    body[656:664], body[672:680] = (0x8000_0011).to_bytes(8, "little"), (0x3018).to_bytes(8, "little")
    viridian = context.record(15, 0, (0x5001).to_bytes(8, "little") + bytes(16) + (0x99001).to_bytes(8, "little"))
    blob = context.header() + context.record(context.CPU, 0, bytes(body)) + viridian + context.END
    change(records, rec.HvmContext, blob=blob)
    assert [note.text for note in check(build.assemble(records, HVM)).notes] == [
        "cr3 of vcpu 0 is pfn 0x3, which was last sent as XTAB",
        "the reference TSC page is pfn 0x99, which was never sent",
    ]


def test_origin() -> None:
    assert Origin(3, (0, 1)).converted and not Origin(3, (4, 17)).converted
    assert Origin(2, (4, 9)).before(4, 10) and not Origin(2, (4, 10)).before(4, 10)
    assert Origin(3, (4, 23)).after(4, 22) and not Origin(3, (4, 22)).after(4, 22)


def test_what_is_not_checked_is_said() -> None:
    pv, hvm = check(build.assemble(build.pv64())), check(build.assemble(build.hvm(), HVM))
    assert pv.unchecked[0] == hvm.unchecked[0] == "what the pages hold: a stream has no checksum of it"
    assert any("XSAVE areas" in text for text in pv.unchecked)
    assert any("above the highest pfn" in text for text in hvm.unchecked)
    assert pv.to_dict()["unchecked"] == pv.unchecked and pv.to_dict()["notes"] == []
    flipped = bytearray(build.assemble(build.pv64()))
    at = flipped.index(build.page(12))
    flipped[at : at + 4096] = bytes(byte ^ 0xFF for byte in flipped[at : at + 4096])
    assert check(bytes(flipped)).ok  # as it says
