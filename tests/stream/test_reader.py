"""The reader: typed records in order, bounded memory, pipes, a clear word for what is not a stream."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import streams as build

from pyxcsr.errors import NotAStream, StreamError, StreamTruncated, UsageError
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.source import READ_STEP, Source, open_input

PV = build.assemble(build.pv64())


def read(data: bytes) -> list[rec.Record]:
    return list(StreamReader(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("records", "kind", "version"),
    [
        (build.pv64(), DomainType.PV, 3),
        (build.pv32(), DomainType.PV, 3),
        (build.hvm(), DomainType.HVM, 3),
        (build.version2(build.pv64()), DomainType.PV, 2),
        (build.version2(build.hvm()), DomainType.HVM, 2),
    ],
    ids=["pv64", "pv32", "hvm", "pv64-v2", "hvm-v2"],
)
def test_reads_back_what_was_written(records: list[rec.Record], kind: DomainType, version: int) -> None:
    data = build.assemble(records, kind, version)
    reader = StreamReader(io.BytesIO(data))
    assert reader.image_header == rec.ImageHeader(version)
    assert reader.domain_header == rec.DomainHeader(kind, 4, 17)
    assert list(reader) == records
    assert reader.offset == len(data)


def test_offsets() -> None:
    at = fmt.IMAGE_HEADER.size + fmt.DOMAIN_HEADER.size
    for record in read(PV):
        assert record.offset == at
        assert PV[at : at + 4] == record.code.to_bytes(4, "little")
        at += len(rec.frame(record))
    assert at == len(PV)


def test_reads_nothing_beyond_end() -> None:
    source = io.BytesIO(PV + b"what comes next")
    reader = StreamReader(source)
    assert isinstance(list(reader)[-1], rec.End)
    assert source.read() == b"what comes next"
    assert list(reader) == []


def test_counts_what_follows() -> None:
    reader = StreamReader(io.BytesIO(PV + bytes(3_000_000)))
    for _ in reader:
        pass
    after = reader.after_end()
    assert after is not None and (after.offset, after.bytes, after.what) == (len(PV), 3_000_000, "all zero")


@pytest.mark.parametrize("piece", [1, 7, 4096, 65536])
def test_pipe_with_short_reads(piece: int) -> None:
    """A pipe hands out what the writer happened to write; nothing beyond END is taken from it."""
    out, into = os.pipe()

    def write() -> None:
        for at in range(0, len(PV), piece):
            os.write(into, PV[at : at + piece])
        os.write(into, b"next")
        os.close(into)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert list(StreamReader(out)) == build.pv64()
        assert os.read(out, 100) == b"next"
    finally:
        writer.join()
        os.close(out)


@pytest.mark.parametrize("buffered", [False, True])
def test_non_blocking_input_is_waited_for(buffered: bool) -> None:
    """As libvirt, asyncio and ssh hand it down: nothing to read now is not the end."""
    out, into = os.pipe()
    os.set_blocking(out, False)

    def feed() -> None:
        with os.fdopen(into, "wb", buffering=0) as file:
            for at in range(0, len(PV), 30_000):
                time.sleep(0.02)
                file.write(PV[at : at + 30_000])

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(out, "rb", buffering=4096 if buffered else 0) as file:
        assert [record.code for record in StreamReader(file)] == [record.code for record in read(PV)]
    feeder.join()


def test_an_object_that_cannot_be_waited_for() -> None:
    class Empty(io.RawIOBase):
        def readinto(self, view: object) -> None:
            return None

    with pytest.raises(UsageError, match="no descriptor that could be waited for"):
        list(StreamReader(Empty()))


@pytest.mark.parametrize("data", [PV, build.assemble(build.hvm(4), DomainType.HVM)], ids=["pv", "hvm"])
def test_truncation_anywhere(data: bytes) -> None:
    """Cut at each offset (in the midst of pages, at every 13th): always said to be truncated, and where."""
    boundaries = [record.offset for record in read(data)]
    view = memoryview(data)
    inside = {at for start in boundaries if start is not None for at in range(start, start + 300)}
    for cut in range(1, len(data)):
        if cut % 13 and cut not in inside:
            continue
        with pytest.raises(StreamTruncated) as caught:
            list(StreamReader(io.BytesIO(view[:cut])))
        error = caught.value
        assert error.offset <= cut
        assert error.got < error.wanted
        assert f"ends at byte {cut}" in str(error)
        if cut >= 40:
            assert error.offset == max(at for at in boundaries if at is not None and at <= cut)


def test_end_missing_is_said() -> None:
    with pytest.raises(StreamTruncated, match="without an END record") as caught:
        read(PV[:-8])
    assert caught.value.offset == len(PV) - 8
    assert caught.value.record is None


XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "input is empty"),
        (b"\0", "not a libxc stream"),
        (b"hello, world, here is no stream at all", "begins with 68 65 6c 6c 6f"),
        (random.Random(1).randbytes(7) + bytes(60), "not a libxc stream"),
        (XL_MAGIC + bytes(16), "save file of xl"),
        (b"LibxlFmt" + struct.pack(">II", 2, 0), "a libxl stream"),
        (b"libvirt-xml\n \0 \r" + bytes(20), "save file of libvirt"),
        (b"XenSavedDomv2-\n" + bytes(20), "XenServer or XCP-ng"),
        (b"XenSavedDomain\n" + bytes(20), "legacy suspend image"),
        (b"LibvirtQemudSave" + bytes(20), "QEMU or KVM guest"),
        (gzip.compress(PV), "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(30), "compressed with zstd"),
        (struct.pack("<QQ", 0x10000, (1 << 64) - 1) + bytes(30), "legacy"),
        (struct.pack("<QQQ", 0x40000, 0x1234, 0x1235), "legacy"),
        (struct.pack("<II", 0x40000, 0xFFFFFFFF) + bytes(30), "legacy"),
        (PV[:8] + b"XENG" + PV[12:], "0x58454e47, not 0x58454e46"),
        (PV[:12] + struct.pack(">I", 1) + PV[16:], "version 1"),
        (PV[:12] + struct.pack(">I", 4) + PV[16:], "version 4"),
        (PV[:16] + b"\0\1" + PV[18:], "big-endian"),
    ],
)
def test_not_a_stream(data: bytes, words: str) -> None:
    reader = StreamReader(io.BytesIO(data))
    for _ in range(2):
        with pytest.raises(NotAStream) as caught:
            list(reader)
        assert words in str(caught.value)
        assert caught.value.offset == 0


@pytest.mark.parametrize("kind", [0, 3, 4, 0xFFFF_FFFF])
def test_unknown_domain_type(kind: int) -> None:
    reader = StreamReader(io.BytesIO(PV[:24] + struct.pack("<I", kind) + PV[28:]))
    for _ in range(2):
        with pytest.raises(StreamError, match="neither x86 PV") as caught:
            list(reader)
        assert (caught.value.offset, caught.value.record) == (24, "domain header")


def test_wrong_page_shift() -> None:
    with pytest.raises(StreamError, match="page shift 13"):
        read(PV[:28] + struct.pack("<H", 13) + PV[30:])


def test_record_above_the_limit() -> None:
    header = fmt.RECORD_HEADER.pack(9, fmt.RECORD_LENGTH_MAX + 1)
    reader = StreamReader(io.BytesIO(PV[:40] + header + bytes(64)))
    for _ in range(2):
        with pytest.raises(StreamError, match="134217729 is above the limit") as caught:
            list(reader)
        assert (caught.value.offset, caught.value.record) == (40, "HVM_CONTEXT")


def test_wrong_body_names_offset_and_record() -> None:
    data = PV[:40] + fmt.RECORD_HEADER.pack(8, 8) + bytes(8)
    with pytest.raises(StreamError) as caught:
        read(data)
    assert (caught.value.offset, caught.value.record) == (40, "X86_TSC_INFO")


def test_unknown_records_are_handed_out() -> None:
    records = build.hvm()
    records.insert(3, rec.Unknown(0x8000_0042, b"abc"))
    assert read(build.assemble(records, DomainType.HVM))[3] == rec.Unknown(0x8000_0042, b"abc")


def test_a_long_record_takes_several_steps() -> None:
    body = random.Random(1).randbytes(1000) * (READ_STEP * 2 // 1000 + 5)
    records = [rec.HvmContext(body), rec.End()]
    assert read(build.assemble(records, DomainType.HVM))[0] == records[0]


_MEASURE = """
import sys, tracemalloc
from pyxcsr.errors import StreamTruncated
from pyxcsr.stream.reader import StreamReader
tracemalloc.start()
try:
    for record in StreamReader(0):
        del record
except StreamTruncated:
    pass
print(tracemalloc.get_traced_memory()[1])
"""


def _peak(data: bytes) -> int:
    """Bytes that reading ``data`` from a pipe takes at most, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _MEASURE], input=data, stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def test_a_claim_of_128_mib_allocates_nothing_of_it() -> None:
    claim = PV[:40] + fmt.RECORD_HEADER.pack(9, fmt.RECORD_LENGTH_MAX) + bytes(1000)
    assert _peak(claim) < READ_STEP + (1 << 20)


def test_memory_is_bounded_by_a_record() -> None:
    """A stream of 48 MiB in records of 1024 pages is read within a few of them."""
    record = rec.frame(build.pages_of(range(1024)))
    assert _peak(PV[:40] + record * 12 + rec.frame(rec.End())) < 4 * len(record)


def test_open_input(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(PV)
    with open_input(str(path)) as fd:
        assert len(list(StreamReader(fd))) == len(build.pv64())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(FileNotFoundError), open_input(str(tmp_path / "none")):
        pass


def test_the_descriptor_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(PV)
    with path.open("rb") as file:
        reader = StreamReader(file.fileno())
        list(reader)
        del reader
        os.fstat(file.fileno())


def test_a_directory_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), open_input(str(tmp_path)):
        pass
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        list(StreamReader(fd))
    os.close(fd)


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(b"garbage")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(8):
        with open_input(str(path)) as fd, pytest.raises(NotAStream):
            list(StreamReader(fd))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two streams."""
    path = tmp_path / "stream"
    path.write_bytes(PV * 2)
    return path


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_file_that_cannot_be_read_is_refused(path: Path, buffering: int) -> None:
    closed = open(path, "rb", buffering)  # noqa: SIM115 - it is closed in the next line
    closed.close()
    memory = io.BytesIO(PV)
    memory.close()
    for file in (closed, memory, gzip.GzipFile(fileobj=io.BytesIO(), mode="wb")):
        with pytest.raises(UsageError, match=r"has been closed|not open for reading"):
            StreamReader(file)
    with open(path, "ab", buffering) as out, tempfile.NamedTemporaryFile("wb") as wrapped:
        for only in (out, wrapped):
            with pytest.raises(UsageError, match="not open for reading"):
                StreamReader(only)
        with pytest.raises(UsageError, match="writing only"):
            StreamReader(out.fileno())
        number = os.dup(out.fileno())
    os.close(number)
    for fd in (number, 1 << 40):
        with pytest.raises(UsageError, match="no open file descriptor"):
            StreamReader(fd)


def test_an_object_of_ones_own_need_not_say_that_it_can_be_read() -> None:
    class Own(io.RawIOBase):
        inside = io.BytesIO(PV)

        def readinto(self, view: Any) -> int:
            return self.inside.readinto(view)

    assert not Own().readable() and len(list(StreamReader(Own()))) == len(build.pv64())


@pytest.mark.parametrize("pages", [True, False])
def test_a_file_that_is_closed_meanwhile(path: Path, pages: bool) -> None:
    with path.open("rb") as file:
        records = StreamReader(file).raw_records(pages=pages)
        next(records)
    with pytest.raises(UsageError, match="keep it open"):
        list(records)


@pytest.mark.parametrize("pages", [True, False])
def test_a_descriptor_that_becomes_another_files(path: Path, tmp_path: Path, pages: bool) -> None:
    """Its bytes would have been read as this stream's."""
    fd = os.open(path, os.O_RDONLY)
    records = StreamReader(fd).raw_records(pages=pages)
    next(records)
    os.close(fd)
    with pytest.raises(UsageError, match=f"{fd} has been closed"):
        next(records)
    records = StreamReader(Source(os.open(path, os.O_RDONLY))).raw_records(pages=pages)
    next(records)
    (tmp_path / "other").write_bytes(PV)
    os.close(fd)
    assert os.open(tmp_path / "other", os.O_RDONLY) == fd
    with pytest.raises(UsageError, match="another file's now"):
        list(records)
    os.close(fd)
