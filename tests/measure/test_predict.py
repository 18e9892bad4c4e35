"""Predictions over curves of which the answer is known by hand."""

from __future__ import annotations

import math

import pytest

import pyxcsr
from pyxcsr import Limits
from pyxcsr.measure.curve import Curve
from pyxcsr.measure.predict import MAX_ITERATIONS, Guest, predict
from pyxcsr.measure.result import DirtyRate
from pyxcsr.measure.windows import Counted
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.transfer.costs import FIXED
from pyxcsr.transfer.outlook import STATE, STATE_VCPU, SUSPENDING

FLAT = FIXED + STATE + STATE_VCPU
MB = 1e6


def guest_of(rate: float, pages: int = 65536, fetch: float = 0.0) -> Guest:
    """One that writes each page once: ``rate`` pages a second, without end."""
    return Guest(Curve([(0.01, rate * 0.01), (100.0, rate * 100)], 1e12), pages, 1, fetch)


def test_an_idle_guest() -> None:
    idle = Guest(Curve([], 0), 1000, 1, 0.0)
    found = predict(idle, PAGE_BYTES * 1000)
    assert (found.passes, found.pages, found.dirty, found.within) == (1, 1000, 0, None)
    assert found.seconds == pytest.approx(1.0 + SUSPENDING + FLAT) and found.pause == pytest.approx(FLAT)


def test_half_the_bandwidth_is_dirtied() -> None:
    """Each pass leaves half of what it sent: the limit decides how many there are."""
    slow = PAGE_BYTES * 10000
    found = predict(guest_of(5000), slow, Limits(max_downtime=0.05))
    left = 65536.0
    passes = 0
    while True:
        left, passes = left / 2, passes + 1
        if 1.3 * (FLAT + (left + 5000 * SUSPENDING) / 10000) <= 0.05:
            break
    assert (found.passes, found.within, found.why) == (passes, True, "short enough")
    assert found.pause == pytest.approx(FLAT + (left + 5000 * SUSPENDING) / 10000, rel=0.01)
    sent = 65536 * (2 - 2.0 ** (1 - passes))
    assert found.seconds == pytest.approx(sent / 10000 + SUSPENDING + found.pause, rel=0.01)
    assert found.bytes == pytest.approx((sent + found.dirty) * PAGE_BYTES, rel=0.01)


def test_a_guest_that_is_faster_than_the_output() -> None:
    found = predict(guest_of(20000), PAGE_BYTES * 10000)
    assert (found.passes, found.within, found.why) == (1, None, "no further gain")
    assert found.pause > 10


def test_a_limit_that_cannot_be_kept_is_waited_for() -> None:
    """As the policy does it: the guest may become less busy."""
    found = predict(guest_of(20000), PAGE_BYTES * 10000, Limits(max_downtime=0.3))
    assert (found.passes, found.within, found.why) == (MAX_ITERATIONS, False, "passes used up")
    assert found.seconds > 30 * 65536 / 10000


def test_the_same_pages_again_and_again() -> None:
    """2000 hot pages: nothing gets fewer, however fast the output, and the pause is that of 2000 pages."""
    hot = Guest(Curve([(0.015, 2000), (10.0, 2000)], 65536), 65536, 1, 0.0)
    for bandwidth in (100 * MB, 1000 * MB):
        found = predict(hot, bandwidth)
        assert found.dirty == 2000 and found.within is None and found.passes == 1
        assert found.pause == pytest.approx(FLAT + 2000 * PAGE_BYTES / bandwidth)


def test_passes_are_used_up() -> None:
    found = predict(guest_of(8900), PAGE_BYTES * 10000, Limits(max_downtime=1e-6, max_iterations=4))
    assert (found.passes, found.why) == (4, "passes used up")
    assert predict(guest_of(8900), PAGE_BYTES * 10000, Limits(max_downtime=1e-6)).passes <= MAX_ITERATIONS


def test_a_faster_output_never_has_a_longer_pause() -> None:
    guest = Guest(Curve([(2.0**x, 3000 * (1 - math.exp(-(2.0**x)))) for x in range(-6, 5)], 9000), 9000, 2, 1e-4)
    pauses = [predict(guest, speed * MB, Limits(max_downtime=0.01)).pause for speed in (1, 10, 100, 1000)]
    assert pauses == sorted(pauses, reverse=True)


def measured(**other: object) -> DirtyRate:
    windows = [Counted(0.125, 80, 120.0, 130), Counted(1.0, 10, 800.0, 900), Counted(8.0, 1, 3000.0, 3000)]
    fields = {"domid": 3, "seconds": 10.0, "nr_pfns": 65536, "tot_pages": 65000, "nr_vcpus": 2, "bitmaps": 85}
    fields |= {"fetch_seconds": 1e-4, "windows": windows, "distinct": 3400, "steady": 9, "per_range": 1024}
    return DirtyRate(**{**fields, "ranges": [0] * 64, **other})  # type: ignore[arg-type]


def test_the_rate_is_that_of_a_second() -> None:
    found = measured()
    assert found.pages_per_second == 800 and found.curve.pages(10.0) == pytest.approx(3400)
    assert found.to_dict()["windows"][0]["pages_per_second"] == 960
    assert found.predict(1e9, 0.1).within is True


WRONG = [
    (0,), (float("nan"),), (10**310,), (float("inf"),), ("1G",), (1e9, 0), (1e9, "300"), (1e9, None, 0),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_numbers(wrong: tuple[object, ...]) -> None:
    with pytest.raises(pyxcsr.UsageError):
        measured().predict(*wrong)  # type: ignore[arg-type]


def test_limits_are_given_once() -> None:
    found = measured()
    assert found.predict(1e9, "300ms") == found.predict(1e9, limits=Limits(max_downtime=0.3))
    assert found.predict(1e9, 0.3, 2) == found.predict(1e9, limits=Limits(max_downtime=0.3, max_iterations=2))
    with pytest.raises(pyxcsr.UsageError, match="put them there"):
        found.predict(1e9, 0.3, limits=Limits())
