"""Verify: accepts what is right, names every breach, and is never less strict than Xen's own verifier."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support import oracle
from support import streams as build
from support.peak import STATUS

from pyxcsr.errors import NotAStream, StreamError, StreamTruncated, UsageError
from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.complaints import RULES, Complaints
from pyxcsr.stream.rules.verify import VerifyReport, verify
from pyxcsr.stream.survey import survey
from stream.rules import hvm_cases  # noqa: F401  (adds to CASES)
from stream.rules.cases import CASES, Case, insert_before, set_page


def check(data: bytes, **options: int) -> VerifyReport:
    return verify(StreamReader(io.BytesIO(data)), **options)


def grown() -> list[rec.Record]:
    """A guest whose p2m grows in the midst of the pages."""
    records = build.pv64()
    insert_before(records, rec.TscInfo, build.p2m_frames(600))
    insert_before(records, rec.TscInfo, build.pages_of(range(24, 600)))
    set_page(records, build.L1, PageType.L1TAB, build.table({0: build.pte(599)}))
    return records


def shrunk() -> list[rec.Record]:
    """One whose p2m was larger in between: P2M_FRAMES says how large, and shared_info what became of it."""
    records = grown()
    set_page(records, build.L1, PageType.L1TAB, build.table({}))
    at, _ = build.find(records, rec.SharedInfo)
    records[at] = build.shared_info(24)
    return records


def compared() -> list[rec.Record]:
    """A guest whose pages follow once more, for comparison."""
    records = build.pv64()
    insert_before(records, rec.TscInfo, rec.Verify())
    pages = build.contents(24)
    for record in build.page_records(pages, range(24)):
        insert_before(records, rec.TscInfo, record)
    return records


def table_freed() -> list[rec.Record]:
    """A page that held a table with entries to nowhere, and later something else."""
    records = build.pv64()
    set_page(records, 15, PageType.L1TAB, build.table({0: build.pte(build.HOLE)}))
    set_page(records, 15, PageType.NOTAB, b"\xff" * PAGE_SIZE)
    return records


def table_given_back() -> list[rec.Record]:
    """The same, given back to Xen."""
    records = build.pv64()
    set_page(records, build.L1, PageType.L1TAB, bytes(PAGE_SIZE))
    set_page(records, 15, PageType.L1TAB, build.table({0: build.pte(build.HOLE)}))
    set_page(records, 15, PageType.XTAB, b"")
    return records


def hole_filled() -> list[rec.Record]:
    """A table refers to a page that comes later."""
    records = build.pv64()
    set_page(records, build.L1, PageType.L1TAB, build.table({0: build.pte(build.HOLE)}))
    set_page(records, build.HOLE, PageType.NOTAB, bytes(PAGE_SIZE))
    return records


def empty_vcpu_records() -> list[rec.Record]:
    """Version 2 streams of Xen 4.6 to 4.8 have vcpu records without content."""
    records = build.pv64()
    insert_before(records, rec.End, rec.VcpuBasic(2, build.vcpu_blob()))
    insert_before(records, rec.End, rec.VcpuExtended(2, b""))
    return build.version2(records)


PV, HVM = DomainType.PV, DomainType.HVM

VALID = {
    "pv64": build.assemble(build.pv64()),
    "pv64_large": build.assemble(build.pv64(nr_pfns=1500, batch=1024)),
    "pv64_not_live": build.assemble(build.pv64(dirty=())),
    "pv64_v2": build.assemble(build.version2(build.pv64()), PV, 2),
    "pv32": build.assemble(build.pv32()),
    "hvm": build.assemble(build.hvm(), HVM),
    "hvm_v2": build.assemble(build.version2(build.hvm()), HVM, 2),
    "grown": build.assemble(grown()),
    "shrunk": build.assemble(shrunk()),
    "compared": build.assemble(compared()),
    "table_freed": build.assemble(table_freed()),
    "table_given_back": build.assemble(table_given_back()),
    "hole_filled": build.assemble(hole_filled()),
    "empty_vcpu_records": build.assemble(empty_vcpu_records(), PV, 2),
}


def converted(data: bytes) -> bytes:
    """The same, said to be converted from a legacy image."""
    return data[:32] + struct.pack("<II", 0, 1) + data[40:]


VALID["pv64_converted"] = converted(VALID["pv64"])
VALID["hvm_converted"] = converted(VALID["hvm"])


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    report = check(VALID[name])
    assert report.complaints == []
    assert report.ok and report.memory_checked
    assert report.bytes == len(VALID[name])


@pytest.mark.parametrize("name", VALID)
def test_xen_accepts_the_valid_ones(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(VALID[name])
    accepted, said = oracle.accepts(path)
    assert accepted, said


def test_report() -> None:
    report = check(VALID["pv64"])
    assert (report.version, report.guest, report.records) == (3, "PV", len(build.pv64()))
    assert (report.entries, report.pages) == (27, 26)
    assert (report.nr_pfns, report.nr_unsent, report.unsent) == (24, 0, [])
    assert check(VALID["hvm_v2"]).guest == "HVM"
    assert check(VALID["grown"]).nr_pfns == 600
    assert report.to_dict()["ok"] is True


@pytest.mark.parametrize("broken", CASES, ids=lambda broken: broken.name)
def test_broken(broken: Case) -> None:
    report = check(broken.data)
    assert {complaint.rule for complaint in report.complaints} == broken.rules
    assert report.complaints[0].record == broken.record
    assert any(broken.words in complaint.text for complaint in report.complaints)
    assert not report.ok
    assert_offsets(broken.data, report)


def assert_offsets(data: bytes, report: VerifyReport) -> None:
    """Each complaint's offset is that of a record of the name it gives."""
    for complaint in report.complaints:
        if complaint.record in ("image header", "domain header"):
            assert complaint.offset == (0 if complaint.record == "image header" else 24)
        elif complaint.record not in (None, "record header"):
            (code,) = fmt.RECORD_HEADER.unpack_from(data, complaint.offset)[:1]
            assert fmt.record_name(code) == complaint.record


def test_every_rule_has_a_case() -> None:
    assert {rule for broken in CASES for rule in broken.rules} == set(RULES)


def test_case_names_are_unique() -> None:
    assert len({broken.name for broken in CASES}) == len(CASES)


def test_complaints_of_an_unknown_rule_are_a_bug() -> None:
    with pytest.raises(KeyError):
        Complaints(10).add("no such rule", "", offset=0, record=None)


def test_goes_on_after_a_complaint() -> None:
    """Six things wrong in one stream: six complaints."""
    records = build.pv64()
    records.insert(2, rec.Unknown(0x42, b""))
    for nth, changes in ((0, {"reserved": 1}), (1, {"reserved": 2})):
        at, record = build.find(records, rec.VcpuXsave, nth)
        records[at] = rec.VcpuXsave(record.vcpu_id, record.blob, **changes)
    set_page(records, 24, PageType.NOTAB, bytes(PAGE_SIZE))
    insert_before(records, rec.End, rec.Checkpoint())
    records.append(rec.End())
    rules = [complaint.rule for complaint in check(build.assemble(records)).complaints]
    assert rules == ["unknown-record", "pfn-bound", "reserved", "reserved", "forbidden-record", "after-end"]


def test_limit() -> None:
    records = build.pv64()
    set_page(records, build.L1, PageType.L1TAB, build.table({at: build.pte(build.HOLE) for at in range(300)}))
    report = check(build.assemble(records), limit=100)
    assert len(report.complaints) == 100
    assert report.dropped == 200


def test_missing_ranges() -> None:
    records = build.pv64(nr_pfns=1500, batch=1024)
    at, _ = build.find(records, rec.PageData, 1)
    records[at] = build.pages_of([*range(1024, 1100), *range(1103, 1200), 1201])
    report = check(build.assemble(records))
    assert report.unsent == [(1100, 1102), (1200, 1200), (1202, 1499)]
    assert report.nr_unsent == 3 + 1 + 298
    assert "302 of 1500 pfns were never sent: 0x44c-0x44e, 0x4b0, 0x4b2-0x5db" in report.complaints[0].text


def test_nothing_is_said_to_be_missing_from_half_a_stream() -> None:
    report = check(VALID["pv64"][:60000])
    assert [complaint.rule for complaint in report.complaints] == ["truncated"]
    assert not report.memory_checked


def test_pages_for_comparison_change_nothing() -> None:
    """After VERIFY a page is not sent: what is missing stays missing, what is there stays."""
    records = compared()
    at, _ = build.find(records, rec.PageData, 2)
    del records[at]
    assert check(build.assemble(records)).nr_unsent == 8
    records = build.pv64()
    insert_before(records, rec.TscInfo, rec.Verify())
    set_page(records, 14, PageType.XTAB, b"")
    assert check(build.assemble(records)).ok


def test_the_last_version_of_a_table_counts() -> None:
    bad = build.table({0: build.pte(build.HOLE)})
    good = build.table({0: build.pte(14)})
    for first, second, wanted in ((bad, good, []), (good, bad, ["table-target"])):
        records = build.pv64()
        set_page(records, build.L1, PageType.L1TAB, first)
        set_page(records, build.L1, PageType.L1TAB, second)
        report = check(build.assemble(records))
        assert [complaint.rule for complaint in report.complaints] == wanted


@pytest.mark.parametrize("first", [23, 22])
def test_the_highest_page_of_all_may_have_been_a_table(first: int) -> None:
    """It is sent again, alone or in a row that begins below it, and is a table no more."""
    table = rec.PageData.build([(23, PageType.L1TAB, build.table({0: build.pte(build.HOLE)}))])
    for later, wanted in (([build.pages_of(range(first, 24))], []), ([], ["table-target"])):
        records = build.pv64()
        insert_before(records, rec.TscInfo, table)
        for record in later:
            insert_before(records, rec.TscInfo, record)
        assert [x.rule for x in check(build.assemble(records)).complaints] == wanted


def test_a_table_after_a_hole_in_its_record() -> None:
    """The contents in a record are those of the entries that have any: a hole takes no place among them."""
    records = build.pv64()
    bad = build.table({7: build.pte(build.HOLE)})
    pages = [(build.HOLE, PageType.XTAB, b""), (14, PageType.NOTAB, build.page(14)),
             (build.L1, PageType.L1TAB, bad), (15, PageType.NOTAB, build.page(15))]  # fmt: skip
    insert_before(records, rec.TscInfo, rec.PageData.build(pages))
    assert [complaint.text for complaint in check(build.assemble(records)).complaints] == [
        "page table pfn 0x4 level 1 slot 7 refers to pfn 0x8, which was last sent as XTAB"
    ]


def test_a_table_complaint_names_the_record_that_brought_it() -> None:
    records = build.pv64()
    set_page(records, build.L1, PageType.L1TAB, build.table({0: build.pte(build.HOLE)}))
    data = build.assemble(records)
    (complaint,) = check(data).complaints
    offsets = [each.offset for each in StreamReader(io.BytesIO(data)) if isinstance(each, rec.PageData)]
    assert complaint.offset == offsets[-1]


def test_frame_lists_that_overlap() -> None:
    """A later P2M_FRAMES replaces the frames it covers, and cannot shrink the p2m."""
    records = build.pv64(nr_pfns=1500, batch=1024)
    insert_before(records, rec.TscInfo, rec.P2mFrames(512, 1023, array("Q", [20])))
    assert check(build.assemble(records)).ok
    records = build.pv64(nr_pfns=1500, batch=1024)
    insert_before(records, rec.TscInfo, rec.P2mFrames(512, 1023, array("Q", [build.HOLE])))
    report = check(build.assemble(records))
    assert [complaint.text for complaint in report.complaints] == [
        "frame 1 of the p2m is pfn 0x8, which was last sent as XTAB"
    ]


def test_not_a_stream_is_not_a_report() -> None:
    for data in (b"", b"garbage"):
        with pytest.raises(NotAStream):
            check(data)


# Xen's own verifier


def test_oracle_tells_right_from_wrong(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(VALID["pv64"] + b"")
    assert oracle.accepts(path)[0]
    path.write_bytes(VALID["pv64"][:-4])
    accepted, said = oracle.accepts(path)
    assert not accepted
    assert "truncated" in said
    assert oracle.accepts_bytes(VALID["pv64"])
    assert not oracle.accepts_bytes(VALID["pv64"][:-4])


@pytest.mark.parametrize("name", ["page_record_removed", "pfn_of_2_to_40", "cr3_never_sent", "pte_to_hole"])
def test_we_see_what_xens_verifier_cannot(name: str) -> None:
    broken = next(case for case in CASES if case.name == name)
    assert oracle.accepts_bytes(broken.data)
    assert not check(broken.data).ok


def accepted_by_us(data: bytes) -> bool:
    try:
        return check(data).ok
    except StreamError:
        return False


@pytest.mark.parametrize("name", ["pv64", "pv64_v2", "hvm", "pv32", "pv64_converted", "hvm_converted"])
@pytest.mark.parametrize("seed", range(3))
def test_never_less_strict_than_xen_on_damaged_streams(name: str, seed: int) -> None:
    """Bytes changed, cut out and put in, mostly in headers: what Xen's verifier refuses, we refuse."""
    rnd = random.Random(f"{name} {seed}")
    good = VALID[name]
    starts = [0, 24, *(record.offset or 0 for record in StreamReader(io.BytesIO(good)))]
    refused = 0
    for _ in range(250):
        data = damage(good, starts, rnd)
        if not oracle.accepts_bytes(data):
            refused += 1
            assert not accepted_by_us(data)
        else:
            accepted_by_us(data)
    assert refused > 50


def damage(good: bytes, starts: list[int], rnd: random.Random) -> bytes:
    data = bytearray(good)
    for _ in range(rnd.choice([1, 1, 2])):
        at = min(len(data) - 1, rnd.choice(starts) + rnd.choice([rnd.randrange(48), rnd.randrange(6000)]))
        kind = rnd.randrange(5)
        if kind == 0:
            data[at] ^= 1 << rnd.randrange(8)
        elif kind == 1:
            data[at] = rnd.randrange(256)
        elif kind == 2:
            del data[at : at + rnd.choice([1, 8, 4096])]
        elif kind == 3:
            data[at:at] = bytes(rnd.choice([1, 8]))
        else:
            start, other = rnd.choice(starts), rnd.choice(starts)
            data[start : start + 8] = good[other : other + 8]
    return bytes(data)


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_records(seed: int) -> None:
    """Records left out, repeated and exchanged: no crash, and nothing that Xen refuses is accepted."""
    rnd = random.Random(seed)
    for _ in range(150):
        records = build.pv64() if rnd.random() < 0.7 else build.hvm()
        kind = PV if any(isinstance(record, rec.PvInfo) for record in records) else HVM
        for _ in range(rnd.randrange(1, 3)):
            at, other = rnd.randrange(len(records)), rnd.randrange(len(records))
            if rnd.random() < 0.3:
                del records[at]
            elif rnd.random() < 0.5:
                records.insert(at, records[other])
            else:
                records[at], records[other] = records[other], records[at]
        data = build.assemble(records, kind, rnd.choice([2, 3, 3, 3]))
        if not oracle.accepts_bytes(data):
            assert not accepted_by_us(data)
        else:
            accepted_by_us(data)


# Memory and speed


_MEASURE = STATUS + """
import sys
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.verify import verify
before = status("VmHWM")
report = verify(StreamReader(0))
print(report.ok, report.nr_pfns, (status("VmHWM") - before) >> 10)
"""


def test_a_gibibyte_takes_little_memory() -> None:
    """A guest of 262144 pages through a pipe: a byte a page, and a record at a time."""
    nr_pfns = 1 << 18
    process = subprocess.Popen(
        [sys.executable, "-c", _MEASURE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False
    )
    assert process.stdin is not None and process.stdout is not None
    first = build.contents(1024)
    content = os.urandom(PAGE_SIZE)
    with process.stdin as into:
        into.write(build.assemble([*build.pv_static(), build.p2m_frames(nr_pfns)]))
        into.write(rec.frame(build.page_records(first, range(1024), 1024)[0]))
        for start in range(1024, nr_pfns, 1024):
            into.write(fmt.RECORD_HEADER.pack(1, 8 + 1024 * (8 + PAGE_SIZE)))
            into.write(fmt.PAGE_DATA_HEADER.pack(1024, 0) + rec.packed(range(start, start + 1024)))
            into.write(content * 1024)
        into.write(b"".join(rec.frame(record) for record in build.pv_tail()))
    ok, found, grown_kib = process.stdout.read().decode().split()
    process.stdout.close()
    assert process.wait() == 0
    assert (ok, found) == ("True", str(nr_pfns))
    assert int(grown_kib) < 32 << 10


def test_a_hostile_record_takes_little_memory() -> None:
    """16 million entries without data in one record of an HVM stream, all far apart."""
    entries = array("Q", range(0xF000_0000_0000_1000, 0xF000_0000_0000_1000 + (1 << 21) * 8192, 8192))
    records = build.hvm()
    insert_before(records, rec.TscInfo, rec.PageData(entries, b""))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        input=build.assemble(records, HVM),
        stdout=subprocess.PIPE,
        check=True,
    )
    ok, _, grown_kib = done.stdout.decode().split()
    assert ok == "False"
    assert int(grown_kib) < 256 << 10


def to_end(reader: StreamReader) -> None:
    assert [x.name for x in reader][-1] == "END"


def half(reader: StreamReader) -> None:
    for record in reader:
        if isinstance(record, rec.PageData):
            return


def first_raw(reader: StreamReader) -> None:
    next(reader.raw_records())


def into_an_error(reader: StreamReader) -> None:
    with pytest.raises(StreamError):
        for each in reader.raw_records():
            reader._source.skip(each.size)  # so that it loses its place


def once_verified(reader: StreamReader) -> None:
    verify(reader)


@pytest.mark.parametrize("before", [to_end, half, first_raw, into_an_error, once_verified])
@pytest.mark.parametrize("judge", [verify, lambda reader: survey(reader, lambda line: None)])
def test_a_reader_that_has_been_read_from_is_refused(
    before: Callable[[StreamReader], None], judge: Callable[[StreamReader], object]
) -> None:
    """Not all of the stream would be seen, and what is damaged called good."""
    reader = StreamReader(io.BytesIO(build.assemble(build.pv64())))
    before(reader)
    with pytest.raises(UsageError, match="another StreamReader"):
        judge(reader)


def test_headers_may_be_looked_at_before() -> None:
    data = build.assemble(build.pv64())
    for whole in (data, data[:30]):
        reader = StreamReader(io.BytesIO(whole))
        assert reader.image_header.version == 3
        with suppress(StreamTruncated):
            assert reader.origin.version == 3
        assert [x.rule for x in verify(reader).complaints] == [x.rule for x in check(whole).complaints]
