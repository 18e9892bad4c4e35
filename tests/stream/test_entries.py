"""The entries of PAGE_DATA, judged ahead of its pages."""

from __future__ import annotations

import pytest

from pyxcsr.frames import PageType
from pyxcsr.stream.entries import problem

LIMIT = 1000
PAGE = 4096


def entry(pfn: int, kind: int = PageType.NOTAB) -> int:
    return int(kind) << 60 | pfn


def test_what_is_right() -> None:
    entries = [entry(1), entry(999, PageType.L1TAB), entry(3, PageType.XTAB)]
    assert problem(entries, 8 + 24 + 2 * PAGE, LIMIT, True) == ""
    without = [entry(1), entry(999, PageType.XALLOC), entry(3, PageType.BROKEN)]
    assert problem(without, 8 + 24 + PAGE, LIMIT, False) == ""


@pytest.mark.parametrize(
    ("entries", "length", "text"),
    [
        ([], 8, "cannot have 0 entries"),
        ([entry(1)], 16, "cannot have 1 entries"),
        ([entry(1), entry(1)], 24 + 2 * PAGE, "listed twice"),
        ([entry(LIMIT)], 16 + PAGE, "pfn 0x3e8, which is beyond the end of the p2m"),
        ([entry(1) | 1 << 52], 16 + PAGE, "reserved bits"),
        ([entry(1, 5)], 16 + PAGE, "type that does not exist"),
    ],
)
def test_what_is_wrong(entries: list[int], length: int, text: str) -> None:
    assert text in problem(entries, length, LIMIT, True)
    assert problem(entries, length, LIMIT, False)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 9, 10, 11, 12])
def test_page_tables_where_there_are_none(kind: int) -> None:
    assert problem([entry(1, kind)], 16 + PAGE, LIMIT, True) == ""
    assert "called a page table" in problem([entry(1, kind)], 16 + PAGE, LIMIT, False)
