"""Streams and indexes made up to do harm, or to be taken for what they are not."""

from __future__ import annotations

import hashlib
import os
import resource
import struct
import subprocess
import time
from array import array
from pathlib import Path
from typing import Any

import pytest
from cli.programs import run
from support import streams
from support.hvm import END, header, record
from support.pace import too_long

from image.test_compare import compared, made, page_data
from image.test_dump import PAGE, elf_pages, memory, one, raw_of, sections, written
from image.test_index import index_of, signed
from pyxcsr import InputError, MemoryImage, PageType, StreamError, StreamTruncated
from pyxcsr.container.reader import LibxlHeader, LibxlType
from pyxcsr.container.reader import record as libxl_record
from pyxcsr.image import beside
from pyxcsr.image.dump import Format, dump
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType


def elf_of(path: Path) -> Path:
    out = path.with_suffix(".elf")
    with path.open("rb") as file, out.open("w+b") as to:
        dump(file.fileno(), to.fileno(), Format.ELF)
    return out


def hvm(context: bytes, *more: rec.Record) -> list[rec.Record]:
    records: list[rec.Record] = [x for x in memory(one(1)) if not isinstance(x, rec.HvmContext)]
    return [*records[:-1], rec.HvmContext(context), *more, records[-1]]


# The last word


@pytest.mark.parametrize("piped", [False, True])
def test_a_pfn_twice_in_one_record(tmp_path: Path, piped: bool) -> None:
    x, y, nothing = b"x" * PAGE, b"y" * PAGE, (1, PageType.XTAB, b"")
    data = [(1, PageType.NOTAB, x), (1, PageType.NOTAB, y)]
    cases = [([data[0], nothing], b""), ([nothing, data[0]], x), ([*data, nothing], b""), (data, y)]
    for triples, last in cases:
        for before in ([], [one(1, fill=b"z")]):
            path = written(tmp_path / "s", memory(one(3), *before, rec.PageData.build(triples)))
            assert raw_of(path, piped)[PAGE : 3 * PAGE] == last.ljust(2 * PAGE, b"\0")


@pytest.mark.parametrize("piped", [False, True])
def test_reserved_bits_are_no_part_of_a_pfn(tmp_path: Path, piped: bool) -> None:
    for bit in range(52, 60):
        path = written(tmp_path / "s", memory(rec.PageData(array("Q", [1 << bit | 1, 2]), b"x" * PAGE * 2)))
        assert raw_of(path, piped) == bytes(PAGE) + b"x" * PAGE * 2


def test_zeros_from_a_pipe(tmp_path: Path) -> None:
    """They are holes in the temporary file, even at its end, and what comes again is written."""
    path = written(tmp_path / "s", memory(one(1), one(2, fill=b"\0"), one(1, fill=b"\0"), one(3, fill=b"\0")))
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        with MemoryImage(cat.stdout.fileno()) as image:
            assert [image.page(pfn) for pfn in image.pfns()] == [bytes(PAGE)] * 3


def test_no_room_for_the_temporary_file_is_told_as_such(tmp_path: Path) -> None:
    path = written(tmp_path / "s", memory(*(one(pfn) for pfn in range(1, 9))))
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 * PAGE, 4 * PAGE))  # noqa: E731
        done = run("stats", "-", stdin=cat.stdout, preexec_fn=limit)
    assert done.returncode == 2 and b"the temporary file in /" in done.stderr and b"too large" in done.stderr


def test_a_text_longer_than_what_is_read_at_a_time(tmp_path: Path) -> None:
    pages = {pfn: hashlib.sha256(bytes([pfn & 255, pfn >> 8])).digest() * 128 for pfn in range(1, 700)}
    with MemoryImage(made(tmp_path / "s", page_data(pages))) as image:
        text = image.read(5 << 12, 600 << 12)
        assert list(image.find(text)) == [5 << 12]


# What is too much


def test_a_context_full_of_vcpus(tmp_path: Path) -> None:
    """Each is looked at once, and none that no guest can have makes the dump larger."""
    cpus = b"".join(record(2, vcpu, b"") for vcpu in range(0, 1 << 16, 13))
    path = written(tmp_path / "s", hvm(header() + cpus + END))
    began = time.process_time()
    out = elf_of(path)
    assert not too_long(time.process_time() - began, 20), "not the square of their number"
    assert sections(out)[".xen_prstatus"][1] == 5168 * len(range(0, 8192, 13))


@pytest.mark.parametrize(
    ("records", "name"),
    [
        (hvm(b"", rec.HvmParams([(1, 1)] * 100)), "HVM_PARAMS"),
        (hvm(b"", rec.CpuidPolicy(bytes(24 * 4097))), "X86_CPUID_POLICY"),
        (hvm(b"", rec.VcpuBasic(0, bytes(5169))), "X86_PV_VCPU_BASIC"),
        (hvm(b"", rec.VcpuXsave(0, bytes(1 << 17))), "X86_PV_VCPU_XSAVE"),
        (hvm(b"", rec.Checkpoint()), "CHECKPOINT"),
        (hvm(b"", rec.PvInfo(8, 4), rec.PvInfo(4, 3)), "X86_PV_INFO"),
    ],
)
def test_records_that_no_guest_has(tmp_path: Path, records: list[rec.Record], name: str) -> None:
    with pytest.raises(StreamError, match=f"^{name}: "):
        MemoryImage(written(tmp_path / "s", records))


def test_frames_of_a_p2m(tmp_path: Path) -> None:
    """One entry of a stream can make the list 64 MiB long, and no longer; records add up."""
    records = streams.pv64()
    at, frames = streams.find(records, rec.P2mFrames)
    end = (1 << 32) - 1
    records[at + 1 : at + 1] = [rec.P2mFrames(end, end, array("Q", [7])), rec.P2mFrames(600, 700, array("Q", [8]))]
    with MemoryImage(written(tmp_path / "s", records, DomainType.PV)) as image:
        found = image.contents.p2m_frames
        assert (len(found), found[0], found[1], found[-1]) == (1 << 23, frames.frames[0], 8, 7)


def test_numbers_that_are_no_frames(tmp_path: Path) -> None:
    """Linux marks foreign frames and pfns that are their own by the two highest bits."""
    p2m = rec.packed(x | {3: 1 << 63, 4: 1 << 62}.get(x, 0) for x in range(512))
    records = streams.pv64()
    records.insert(-1, rec.PageData.build([(streams.P2M, PageType.NOTAB, p2m)]))
    mfns = elf_pages(elf_of(written(tmp_path / "s", records, DomainType.PV)), True)[1]
    assert (mfns[2], mfns[3], mfns[4], mfns[5]) == (2, (1 << 64) - 1, (1 << 64) - 1, 5)


# Containers


def test_a_container_that_is_cut_behind_the_stream(tmp_path: Path) -> None:
    inner = streams.assemble(streams.pv64())
    ahead = LibxlHeader().encode() + libxl_record(LibxlType.LIBXC_CONTEXT)
    path = tmp_path / "s"
    path.write_bytes(ahead + inner + libxl_record(LibxlType.END))
    with MemoryImage(path) as image:
        assert image.page(12) == streams.page(12)
    for tail in (b"", libxl_record(LibxlType.EMULATOR_CONTEXT, bytes(100)), struct.pack("<II", 3, 100) + bytes(50)):
        path.write_bytes(ahead + inner + tail)
        with pytest.raises(StreamTruncated):
            MemoryImage(path)


# Compare


def test_contexts_that_differ_where_nothing_is_looked_at(tmp_path: Path) -> None:
    entries = record(2, 0, bytes(1032))
    a = written(tmp_path / "a", hvm(header() + entries + END + b"x"))
    b = written(tmp_path / "b", hvm(header() + entries + END + b"y"))
    found = compared(a, b)
    assert found.records == ["HVM_CONTEXT"] and not found.same


# Indexes


@pytest.fixture
def indexed(tmp_path: Path) -> Any:
    class Saved:
        path = written(tmp_path / "s", streams.pv64(), DomainType.PV)

    with MemoryImage(Saved.path, index=False) as image:
        index_of(Saved).write_bytes(beside.encode(image.fd, image.began, image.map, image.contents))  # type: ignore[arg-type]
    return Saved


def loaded(path: Path) -> bool:
    with path.open("rb") as file:
        return beside.load(file.fileno(), str(path)) is not None


def test_no_index_of_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "s", streams.pv64(), DomainType.PV)
    facts = path.stat()
    with MemoryImage(path, index=False) as image:
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), b"other", facts.st_size // 2)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        with pytest.raises(InputError, match="changed while it was read"):
            beside.encode(image.fd, image.began, image.map, image.contents)


def test_an_index_that_is_larger_than_one_can_be_is_not_read(indexed: Any) -> None:
    index = index_of(indexed)
    assert loaded(indexed.path)
    length = 1 << 43
    index.write_bytes(beside.MAGIC + length.to_bytes(8, "little") + bytes(32))
    os.truncate(index, 64 + length)
    assert not loaded(indexed.path)


def test_an_index_that_is_no_file_is_not_waited_for(indexed: Any) -> None:
    index_of(indexed).unlink()
    os.mkfifo(index_of(indexed))
    assert not loaded(indexed.path)


def test_an_index_of_a_kind_of_guest_that_there_is_not(indexed: Any) -> None:
    good = index_of(indexed).read_bytes()
    domain = 64 + 60
    assert good[domain : domain + 4] == bytes([1, 0, 0, 0])
    index_of(indexed).write_bytes(signed(good[:domain] + bytes([7]) + good[domain + 1 :]))
    assert not loaded(indexed.path)
