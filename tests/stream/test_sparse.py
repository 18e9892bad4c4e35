"""Streams whose pages are passed over: what is found is what is found by reading all of it, from any input."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import pytest
from support import streams as build

from pyxcsr.errors import StreamError
from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream import sparse
from pyxcsr.stream.format import DomainType, RecordType
from pyxcsr.stream.reader import RawRecord, StreamReader
from pyxcsr.stream.rules.verify import VerifyReport, verify
from pyxcsr.stream.source import Source
from stream.rules import hvm_cases  # noqa: F401  (adds to CASES)
from stream.rules.cases import CASES

PV = build.assemble(build.pv64())
HVM = build.assemble(build.hvm(), DomainType.HVM)
START = fmt.IMAGE_HEADER.size + fmt.DOMAIN_HEADER.size


@contextmanager
def descriptor(data: bytes, tmp_path: Path) -> Iterator[int]:
    """A file's descriptor that does not stand at the file's beginning."""
    path = tmp_path / "stream"
    path.write_bytes(b"before" + data)
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 6, os.SEEK_SET)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def buffered(data: bytes, tmp_path: Path) -> Iterator[io.BufferedReader]:
    path = tmp_path / "stream"
    path.write_bytes(data)
    with path.open("rb") as file:
        yield file


@contextmanager
def packed(data: bytes, tmp_path: Path) -> Iterator[gzip.GzipFile]:
    """It has the descriptor of a much shorter file, and can seek."""
    path = tmp_path / "stream"
    path.write_bytes(gzip.compress(data))
    with gzip.open(path) as file:
        yield file


@contextmanager
def pipe(data: bytes, tmp_path: Path) -> Iterator[int]:
    program = f"import sys; sys.stdout.buffer.write(open({str(tmp_path / 'stream')!r}, 'rb').read())"
    (tmp_path / "stream").write_bytes(data)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield child.stdout.fileno()


@contextmanager
def memory(data: bytes, tmp_path: Path) -> Iterator[io.BytesIO]:
    yield io.BytesIO(data)


INPUTS: list[Callable[[bytes, Path], Any]] = [descriptor, buffered, packed, pipe, memory]


def whole(data: bytes) -> VerifyReport:
    """What verify finds when it reads all of the bodies."""
    reader = StreamReader(io.BytesIO(data))
    reader.raw_records = lambda *, pages=True: StreamReader.raw_records(reader)  # type: ignore[assignment, misc]
    return verify(reader)


def found(report: VerifyReport) -> dict[str, Any]:
    return report.to_dict()


@pytest.mark.parametrize("data", [PV, HVM], ids=["pv", "hvm"])
@pytest.mark.parametrize("opened", INPUTS)
def test_records_are_the_same_but_for_their_pages(opened: Any, data: bytes, tmp_path: Path) -> None:
    full = list(StreamReader(io.BytesIO(data)).raw_records())
    with opened(data, tmp_path) as file:
        thin = list(StreamReader(file).raw_records(pages=False))
    assert [(x.offset, x.code, x.size, bytes(x.padding)) for x in thin] == [
        (x.offset, x.code, x.size, bytes(x.padding)) for x in full
    ]
    for one, other in zip(thin, full):
        if one.code != RecordType.PAGE_DATA:
            assert one.tables is None
            assert bytes(one.body) == bytes(other.body)
            continue
        assert bytes(other.body[: len(one.body)]) == bytes(one.body)
        assert {at: bytes(page) for at, page in (one.tables or {}).items()} == tables_of(other)


def tables_of(raw: RawRecord) -> dict[int, bytes]:
    record = raw.decode()
    assert isinstance(record, rec.PageData)
    contents = [(kind, bytes(page)) for _, kind, page in record.items() if page is not None]
    return {at: page for at, (kind, page) in enumerate(contents) if PageType(kind).level}


@pytest.mark.parametrize("opened", INPUTS)
def test_every_case_is_judged_alike(opened: Any, tmp_path: Path) -> None:
    """A pipe is a process of its own each time, so it gets a part of them."""
    cases = CASES[::7] if opened is pipe else CASES
    for case in cases:
        with opened(case.data, tmp_path) as file:
            assert found(verify(StreamReader(file))) == found(whole(case.data)), case.name


@pytest.mark.parametrize("data", [PV, HVM], ids=["pv", "hvm"])
@pytest.mark.parametrize("opened", [descriptor, buffered, memory])
def test_every_cut_is_told_alike(opened: Any, data: bytes, tmp_path: Path) -> None:
    ends = {START + 3, len(data) - 1}
    for raw in StreamReader(io.BytesIO(data)).raw_records():
        ends |= {raw.offset, raw.offset + 7, raw.offset + 8, raw.offset + 15, raw.offset + raw.size - 1}
        ends |= set(range(raw.offset + 16, raw.offset + raw.size, 2048 + 5))
    for end in sorted(ends):
        with opened(data[:end], tmp_path) as file:
            assert found(verify(StreamReader(file))) == found(whole(data[:end])), end


def test_lengths_that_do_not_fit_the_entries_are_told_alike() -> None:
    chance = random.Random(5)
    at = next(x.offset for x in StreamReader(io.BytesIO(PV)).raw_records() if x.code == RecordType.PAGE_DATA)
    seen = set()
    for _ in range(400):
        data = bytearray(PV)
        place = at + chance.choice([4, 5, 8, 9, 12, *range(16, 96)])
        data[place] = chance.randrange(256)
        report = found(verify(StreamReader(io.BytesIO(bytes(data)))))
        assert report == found(whole(bytes(data))), place
        seen |= {x["rule"] for x in report["complaints"]}
    assert {"length", "reserved", "duplicate-pfn", "pfn-bound"} <= seen


def test_what_stands_after_a_stream_is_found_behind_passed_pages() -> None:
    assert [x.rule for x in verify(StreamReader(io.BytesIO(PV + b"more"))).complaints] == ["after-end"]


class Counting(io.FileIO):
    """A file that counts what is read of it."""

    count = 0

    def readinto(self, buffer: Any) -> Any:
        got = super().readinto(buffer)
        self.count += got or 0
        return got


def test_pages_are_not_read_where_the_input_can_seek(tmp_path: Path) -> None:
    data = build.assemble(build.pv64(2048, batch=1024))
    (tmp_path / "stream").write_bytes(data)
    with Counting(tmp_path / "stream") as file:
        report = verify(StreamReader(file))  # type: ignore[arg-type]
        assert report.pages > 2000
        assert file.count < len(data) // 20
        assert found(report) == found(whole(data))


def test_a_file_that_grows_is_followed_to_its_new_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        assert source.skip(60) == 60
        with path.open("ab") as more:
            more.write(bytes(100))
        assert source.skip(120) == 120
        assert source.offset == 180
        assert source.skip(100) == 20
        assert source.skip(1) == 0


def test_skip_takes_what_was_peeked_at_first() -> None:
    source = Source(io.BytesIO(bytes(range(100))))
    assert source.peek(10) == bytes(range(10))
    assert source.skip(4) == 4
    assert bytes(source.read(2)) == b"\4\5"
    assert source.skip(10) == 10
    assert bytes(source.read(1)) == bytes([16])
    assert source.offset == 17


def test_a_position_beyond_the_end_is_not_moved_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    with path.open("rb", buffering=0) as file:
        file.seek(20)
        assert Source(file).skip(5) == 0
        assert file.tell() == 20


@pytest.mark.parametrize("seed", range(20))
def test_tables_among_entries(seed: int) -> None:
    chance = random.Random(seed)
    types = bytes(chance.choices(range(16), k=chance.choice([1, 7, 300])))
    slow, page = [], 0
    for entry, kind in enumerate(types):
        if kind in (1, 2, 3, 4, 9, 10, 11, 12):
            slow.append((entry, page))
        page += kind in (0, 1, 2, 3, 4, 9, 10, 11, 12)
    assert list(sparse.tables_among(types)) == slow
    assert sparse.nr_with_data(types) == page


def test_a_body_that_ends_early_says_how_much_there_was() -> None:
    body = rec.PageData.build([(3, PageType.L1TAB, bytes(PAGE_SIZE)), (4, PageType.NOTAB, bytes(PAGE_SIZE))]).encode()
    for end in (0, 5, 8, 20, 24, 30, 24 + PAGE_SIZE, len(body) - 1):
        with pytest.raises(sparse.CutOff) as error:
            sparse.take(Source(io.BytesIO(body[:end])), len(body))
        assert error.value.got == end
    assert sparse.take(Source(io.BytesIO(body)), len(body)).nr_passed == 2 * PAGE_SIZE


def test_an_error_of_the_input_is_the_error(tmp_path: Path) -> None:
    """One that cannot be read at all: the pages are passed over, what stands behind them is not."""
    with pytest.raises((OSError, StreamError)):
        verify(StreamReader(os.open(tmp_path, os.O_RDONLY)))
