"""Page tables in a row, more than a batch has room for: the batch ends, and nothing is lost or sent twice."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import PageData
from pyxcsr.stream.rules.verify import verify
from pyxcsr.switches import ORDINARY, VARIABLE

AT_ONCE = 64
TABLES = (1, 2, 3, 4, 9, 10, 11, 12)
SIZE = 520 << 20


class Read(NamedTuple):
    """What a stream has: how often each pfn; how many tables and how many pfns in each record."""

    pfns: Counter[int]
    tables: list[int]
    nr_pfns: list[int]


def read(fd: int) -> Read:
    found = Read(Counter(), [], [])
    with open(fd, "rb") as stream:
        for record in StreamReader(stream):
            if isinstance(record, PageData):
                found.pfns.update(x & (1 << 52) - 1 for x in record.entries)
                found.tables.append(sum(x >> 60 in TABLES for x in record.entries))
                found.nr_pfns.append(len(record.entries))
    return found


@pytest.fixture
def large(hv: StubBackend) -> int:
    """A guest whose tables lie in a row among the first pages. Most of its pages take no memory."""
    pages = SIZE // 4096
    hv.stub.reset(frames=pages + pages // 64 + (1 << 16), window=True)
    fields = {"packed": True, "filled": False, "fixmap": False, "writer": "none"}
    return hv.stub.create(pyxcsr.StubGuest.pv64(mem=SIZE, **fields))


@pytest.mark.parametrize("without", ["", ORDINARY])
def test_a_batch_ends_before_the_first_table_too_many(
    hv: StubBackend, large: int, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, without)
    guest = hv.stub.guest(large)
    tables = sum(len(guest.pfns_of_type(x)) for x in (PageType(x) for x in TABLES))
    assert tables > AT_ONCE, "else the test tests nothing"
    gone = [x for x in guest.pfns_of_type(PageType.NOTAB) if 560 < x < 1000][::7]  # behind the tables
    guest.balloon_out(gone)
    guest.shut_down(2)
    with ThreadPoolExecutor(1) as pool:
        from_us, to_us = os.pipe()
        reading = pool.submit(read, from_us)
        try:
            report = pyxcsr.save(hv, large, to_us, live=False)
        finally:
            os.close(to_us)
        found = reading.result()
    assert set(found.pfns) == set(range(report.nr_pfns)) and set(found.pfns.values()) == {1}
    assert sum(found.tables) == tables and max(found.tables) == AT_ONCE
    (done,) = report.passes
    assert (done.pages, done.holes, done.deferred) == (len(guest.pfns_with_memory()), len(gone), 0)
    assert gone and found.nr_pfns[0] < gone[0]


def test_what_it_refers_to_is_all_there(hv: StubBackend, large: int) -> None:
    """By our rules: each entry of each table names a page that was sent."""
    hv.stub.guest(large).shut_down(2)
    with ThreadPoolExecutor(1) as pool:
        from_us, to_us = os.pipe()

        def judged() -> object:
            with open(from_us, "rb") as stream:
                return verify(StreamReader(stream))

        reading = pool.submit(judged)
        try:
            pyxcsr.save(hv, large, to_us, live=False)
        finally:
            os.close(to_us)
        report = reading.result()
    assert report.complaints == []  # type: ignore[attr-defined]
