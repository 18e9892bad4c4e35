"""Windows of all lengths, made of bitmaps, against sets in Python; the schedule; the curve."""

from __future__ import annotations

import random

import pytest

from measure.fake import SetMeter
from pyxcsr.measure.curve import Curve
from pyxcsr.measure.windows import Read, Windows, period_for, reads_for


def measured(seconds: float, period: int, rng: random.Random) -> tuple[Windows, list[set[int]]]:
    """Windows over a guest that writes one page always and others by chance, and what it wrote in each period."""
    meter = SetMeter(4096)
    windows, periods = Windows(meter, period), list[set[int]]()
    for _ in range(round(seconds / 2.0**period)):
        now, reads = set[int](), list[Read]()
        for level in reads_for(period, 0.0):
            now |= {7, *(rng.randrange(4096) for _ in range(rng.randrange(50)))}
            reads.append(Read(level, 2.0**level, len(now)))
        now |= {rng.randrange(4096) for _ in range(rng.randrange(50))}
        meter.sets[0] = set(now)
        windows.period(reads, 2.0**period, len(now))
        periods.append(now)
    return windows, periods


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("period", [0, 1, -2])
def test_against_sets(seed: int, period: int) -> None:
    """Neighbours make longer windows, by twos."""
    windows, periods = measured(7.0 if period < 1 else 14.0, period, random.Random(seed))
    by_length = {x.seconds: x for x in windows.counted()}
    for more in range(3):
        each = 2**more
        sets = [set.union(*periods[i : i + each]) for i in range(0, len(periods) - each + 1, each)]
        row = by_length[2.0 ** (period + more)]
        assert row.windows == len(sets) and row.most == max(map(len, sets))
        assert row.pages == pytest.approx(sum(map(len, sets)) / len(sets))
    assert windows.distinct == len(set.union(*periods))
    assert windows.steady == (len(set.intersection(*periods)) if period >= 0 else None)
    assert sum(windows.spread(64)) == windows.distinct and windows.period_seconds == 2.0**period


def test_what_is_read_within_a_period() -> None:
    """One window of each shorter length, which all begin with it."""
    windows = Windows(SetMeter(64), 0)
    assert windows.empty
    for i in range(4):
        windows.period([Read(level, 2.0**level, 10 + level + i) for level in reads_for(0, 0.001)], 1.0, 20)
    by_length = {x.seconds: x for x in windows.counted()}
    assert sorted(by_length) == [2.0**x for x in range(-6, 3)] and not windows.empty
    assert (by_length[1 / 64].windows, by_length[1 / 64].pages, by_length[1 / 64].most) == (4, 5.5, 7)
    assert (by_length[0.5].windows, by_length[0.5].pages, by_length[1.0].pages) == (4, 10.5, 20)


def test_fetching_that_is_slow_makes_windows_longer() -> None:
    assert period_for(10.0, 0.0001) == 0 and reads_for(0, 0.0001) == [-6, -5, -4, -3, -2, -1]
    for fetch in (0.002, 0.01, 0.1, 0.7):
        period = period_for(10.0, fetch)
        assert 2.0**period >= 8 * fetch and all(2.0**x >= 8 * fetch for x in reads_for(period, fetch))
    assert period_for(10.0, 1e9) == 4 and reads_for(4, 1e9) == []


def test_a_short_time_has_short_periods() -> None:
    assert [period_for(x, 0.0) for x in (0.001, 0.13, 0.3, 0.9, 1.0, 90.0)] == [-3, -3, -2, -1, 0, 0]


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
