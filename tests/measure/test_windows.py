"""Windows of all lengths, made of bitmaps, against sets in Python; the schedule; the curve."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from measure.fake import SetMeter
from pyxcsr.measure.curve import Curve
from pyxcsr.measure.windows import COARSE, FINEST, Windows, leaves, lengths_for

Leaf = tuple[float, set[int]]


def quick() -> bool:
    return True


def expected(leaf_list: list[Leaf], level: int) -> list[set[int]]:
    """The windows of 2^level seconds that are complete, cut out of the leaves by the clock."""
    length, found, at = 2.0**level, [], 0.0
    now: set[int] = set()
    for seconds, pfns in leaf_list:
        if seconds > length:
            now, at = set(), at + seconds
            continue
        now = now | pfns
        at += seconds
        if at % length == 0:
            found.append(now)
            now = set()
    return found


@pytest.mark.parametrize("seed", range(5))
def test_against_sets(seed: int) -> None:
    rng, meter = random.Random(seed), SetMeter(4096)
    windows, done = Windows(meter, FINEST, COARSE), list[Leaf]()
    for level in leaves(FINEST, COARSE, 7.0, quick):
        pfns = {7, *(rng.randrange(4096) for _ in range(rng.randrange(50)))}
        done.append((2.0**level, pfns))
        meter.sets[0] = set(pfns)
        windows.leaf(level, 2.0**level, len(pfns))
    for row in windows.counted():
        level = round(math.log2(row.seconds))
        if level < COARSE:
            continue
        sets = expected(done, level)
        assert row.windows == len(sets) and row.most == max(map(len, sets))
        assert row.pages == pytest.approx(sum(map(len, sets)) / len(sets))
    assert [x.seconds for x in windows.counted()] == [2.0**x for x in range(FINEST, 3)]
    assert windows.distinct == len(set.union(*(x for _, x in done)))
    assert windows.steady == len(set.intersection(*expected(done, 0)))


def test_the_finest_windows_are_counted() -> None:
    meter = SetMeter(64)
    windows = Windows(meter, FINEST, COARSE)
    for i, level in enumerate(leaves(FINEST, COARSE, 1.0, quick)):
        meter.sets[0] = {i}
        windows.leaf(level, 2.0**level, 1)
    by_length = {x.seconds: x for x in windows.counted()}
    assert (by_length[2.0**FINEST].windows, by_length[2.0**FINEST].pages) == (8, 1)
    assert (by_length[2.0 ** (FINEST + 1)].windows, by_length[2.0 ** (FINEST + 1)].pages) == (4, 2)
    assert by_length[0.125].windows == 8 and by_length[0.125].most == 8
    assert by_length[1.0].pages == 15


def test_fetching_that_is_slow_makes_windows_longer() -> None:
    assert lengths_for(0.0001) == (FINEST, COARSE)
    for fetch in (0.002, 0.01, 0.1, 0.7):
        finest, coarse = lengths_for(fetch)
        assert 2.0**finest >= 8 * fetch and coarse == max(COARSE, finest)
    assert lengths_for(1e9) == (4, 4)


def total(found: Iterator[int]) -> float:
    return sum(2.0**x for x in found)


def test_the_schedule_fills_the_time() -> None:
    assert total(leaves(FINEST, COARSE, 10.0, quick)) == 10.0
    assert total(leaves(FINEST, COARSE, 0.01, quick)) == 0.125  # one coarse window at least
    assert set(leaves(FINEST, COARSE, 10.0, lambda: False)) == {COARSE}  # fetching has become slow
    assert list(leaves(2, 2, 9.0, quick)) == [2, 2]


def test_the_curve_goes_through_what_was_measured() -> None:
    curve = Curve([(0.1, 100), (1.0, 1000), (10.0, 1000)], 1500)
    assert curve.pages(0.1) == pytest.approx(100) and curve.pages(1.0) == pytest.approx(1000)
    assert curve.pages(0.01) == pytest.approx(10) and curve.pages(0.5) == pytest.approx(500)
    assert curve.pages(5.0) == pytest.approx(1000) and curve.pages(100.0) == pytest.approx(1000)
    assert curve.pages(0.0) == 0


def test_the_curve_never_falls_and_never_passes_the_limit() -> None:
    curve = Curve([(0.1, 100), (1.0, 90), (2.0, 500)], 600)
    at = [curve.pages(x / 50) for x in range(500)]
    assert at == sorted(at) and max(at) == 600
    mixed = Curve([(0.18, 1000), (0.16, 1100), (0.05, 300)], 5000)  # windows that came out longer than they should
    assert mixed.pages(0.16) == pytest.approx(1100) and mixed.pages(0.05) == pytest.approx(300)
    assert Curve([], 10).pages(1.0) == 0 and Curve([(1.0, 0)], 10).pages(5.0) == 0
    assert Curve([(1.0, 8)], 10).pages(0.5) == 4
