"""Rows of numbers, against what a plain loop makes of them."""

from __future__ import annotations

import random
from array import array

import pytest

from pyxcsr.stream.records import packed
from pyxcsr.stream.rules.entries import ordinary_row
from pyxcsr.stream.runs import in_a_row, row, row_in_bytes, row_of

TOP = (1 << 64) - 1
CASES = [(0, 1, 1), (0, 0, 3), (7, 1, 512), (5 << 60 | 9, 1, 1024), (0xF << 60, 1, 700), (1 << 40, 1 << 20, 513)]


@pytest.mark.parametrize(("first", "step", "count"), [*CASES, (TOP - 4, 1, 5), (TOP, 0, 2), (3, 4096, 16384)])
def test_a_row(first: int, step: int, count: int) -> None:
    assert row(first, step, count) == array("Q", [first + step * x for x in range(count)])


def test_more_counts_than_are_remembered() -> None:
    for count in [*range(1, 60), *range(1, 60)]:
        assert row(count, 3, count).tolist() == [count + 3 * x for x in range(count)]


def test_what_does_not_fit_is_no_row() -> None:
    with pytest.raises(OverflowError):
        row(TOP - 3, 1, 5)
    assert row_of(array("Q", [TOP - 1, TOP, 0])) is None
    assert row_of(array("Q", [TOP - 1, TOP])) == range(TOP - 1, TOP + 1)


def test_rows_are_found_and_nothing_else_is() -> None:
    rng = random.Random(1)
    found = 0
    for _ in range(2000):
        first, count = rng.choice((0, 5, 1 << 60, TOP - 40)), rng.choice((1, 2, 3, 31))
        entries = list(range(first, first + count))
        if rng.random() < 0.7:
            entries[rng.randrange(count)] = rng.choice((0, first, first + 1, TOP))
        if rng.random() < 0.3:
            entries[rng.randrange(count)], entries[0] = entries[0], entries[rng.randrange(count)]
        wanted = all(b == a + 1 for a, b in zip(entries, entries[1:]))
        found += wanted
        row = row_of(array("Q", entries))
        assert (row is not None) == wanted and (row is None or list(row) == entries)
        assert in_a_row(entries) == wanted and in_a_row(range(first, first + count))
    assert 500 < found < 1500


@pytest.mark.parametrize("first", [0, 1, 65534, 65535, 65536, 0x12345678, (1 << 52) - 70, (1 << 63) + 5, TOP - 65535])
def test_a_row_in_bytes(first: int) -> None:
    for count in (1, 2, 3, 70, 1022):
        made = row_in_bytes(first, count)
        assert (made is None) == (first % 65536 + count > 65536)
        assert made is None or made == packed(range(first, first + count))


def test_entries_in_a_row_are_found_and_nothing_else_is() -> None:
    rng = random.Random(2)
    found = 0
    for _ in range(3000):
        first, count = rng.choice((0, 5, 65500, 65535, (1 << 52) - 40, 1 << 52)), rng.choice((1, 2, 3, 31))
        entries = [x | rng.choice((0, 0, 0, 9, 13, 15)) << 60 for x in range(first, first + count)]
        if rng.random() < 0.5:
            entries[rng.randrange(count)] ^= 1 << rng.randrange(64)
        pfns = [x & (1 << 52) - 1 for x in entries]
        plain = pfns == list(range(pfns[0], pfns[0] + count)) and not any(x >> 52 & 0xFF for x in entries)
        wanted = plain and pfns[0] % 65536 + count <= 65536
        row = ordinary_row(packed(entries))
        assert row == (range(pfns[0], pfns[0] + count) if wanted else None)
        found += wanted
    assert 1000 < found < 2000
