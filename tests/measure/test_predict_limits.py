"""Predictions with limits, beside what the policy itself makes of the same guest and the same output."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.simulated import FETCH, SWEEP, World, simulate

import pyxcsr
from pyxcsr.measure.curve import Curve
from pyxcsr.measure.predict import Guest, Prediction, predict
from pyxcsr.policies.adaptive import MAX_ITERATIONS, AdaptivePolicy
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.transfer.outlook import SUSPENDING

PAGES = 1 << 16
SPEED = 25_000
"""Pages a second that the output takes."""

RATES = [500, 2_000, 10_000, 20_000, 60_000, 200_000]
LIMITS: dict[str, dict[str, Any]] = {
    "a pause": {"max_downtime": 0.1},
    "a pause, or none": {"max_downtime": 0.1, "abort_if_busy": True},
    "a target": {"target_dirty": 500},
    "both": {"max_downtime": 0.5, "target_dirty": 100},
    "passes": {"max_iterations": 2},
    "passes, or none": {"max_downtime": 0.02, "max_iterations": 3, "abort_if_busy": True},
    "busy": {"abort_if_busy": True},
}


def guest_of(rate: float, hot: int = PAGES) -> Guest:
    points = [(2.0**k, hot * (1 - math.exp(-rate * 2.0**k / hot))) for k in range(-8, 6)]
    return Guest(Curve(points, hot), PAGES, 1, FETCH + SWEEP)


def predicted(rate: float, hot: int = PAGES, speed: float = SPEED, **limits: Any) -> Prediction:
    return predict(guest_of(rate, hot), speed * PAGE_BYTES, pyxcsr.Limits(**limits))


@pytest.mark.parametrize("hot", [PAGES, 3000])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("limits", LIMITS.values(), ids=list(LIMITS))
def test_it_ends_as_the_policy_ends_it(limits: dict[str, Any], rate: int, hot: int) -> None:
    found = predicted(rate, hot, **limits)
    policy = AdaptivePolicy(pyxcsr.Limits(**limits))
    try:
        out = simulate(World(PAGES, rate, 1 / SPEED, hot), policy)
    except pyxcsr.Cancelled as error:
        assert error.limit == "abort_if_busy" and found.ends == "aborted"
        return
    assert found.ends == "saved"
    limit = limits.get("max_downtime")
    if limit is not None and not 0.7 * limit < found.pause < limit / 0.7:
        assert found.within is (out.pause <= limit)
    assert found.passes <= limits.get("max_iterations", MAX_ITERATIONS)
    assert out.pause <= 1.3 * found.pause + 0.01  # the policy makes passes that win little, too


def test_at_the_timeout_the_save_ends() -> None:
    found = predicted(60_000, max_downtime=0.1, timeout=5.0)
    assert (found.ends, found.why, found.seconds) == ("aborted", "timeout", 5.0)
    assert found.pages == pytest.approx(5.0 * SPEED, rel=0.01) and found.passes == 3


def test_or_the_guest_is_suspended() -> None:
    """In the midst of the first pass: what is left of that, and what the guest has written."""
    found = predicted(1000, hot=1000, timeout=1.0, on_timeout="suspend")
    assert (found.ends, found.why, found.passes) == ("saved", "timeout", 1)
    dirty = guest_of(1000, 1000).curve.pages(1.0 + SUSPENDING)
    assert found.dirty == pytest.approx(PAGES - SPEED + dirty, rel=0.01)
    assert found.seconds == pytest.approx(1.0 + SUSPENDING + found.pause)
    assert predicted(1e9, timeout=1.0, on_timeout="suspend").dirty == PAGES


def test_a_timeout_that_is_never_reached_changes_nothing() -> None:
    assert predicted(2_000, timeout="1h") == predicted(2_000)


def test_what_cannot_be_kept_is_waited_for_until_the_timeout() -> None:
    """By more passes than the policy makes otherwise; and a very long wait is not gone through pass by pass."""
    hour = predicted(60_000, hot=3000, max_downtime=0.1, timeout="1h")
    assert (hour.ends, hour.why, hour.seconds) == ("aborted", "timeout", 3600.0)
    hour_pages = guest_of(60_000, 3000).curve.pages(0.1)
    assert hour.passes == pytest.approx(3600 * SPEED / hour_pages, rel=0.05)
    years = predicted(60_000, hot=3000, max_downtime=0.1, timeout=1e9, on_timeout="suspend")
    assert years.seconds == pytest.approx(1e9) and years.within is False
    most = predicted(60_000, hot=3000, max_downtime=0.1, timeout=1e9, max_iterations=1000)
    assert (most.passes, most.why, most.ends) == (1000, "passes used up", "saved")


def test_passes_of_an_idle_guest_do_not_fill_the_time() -> None:
    idle = Guest(Curve([], 0), PAGES, 1, 0.0)
    found = predict(idle, SPEED * PAGE_BYTES, pyxcsr.Limits(max_downtime=1e-6, timeout=60))
    assert found.why == "timeout" and found.passes < 1000


@pytest.mark.parametrize("most", [1, 29, 30, 31, 40, 1000])
@pytest.mark.parametrize("limits", [{"max_downtime": 1e-6}, {"target_dirty": 10}, {}], ids=str)
def test_as_many_passes_as_are_allowed(most: int, limits: dict[str, Any]) -> None:
    """More than the policy makes of its own accord, too, and without a timeout."""
    found = predicted(20_000, hot=3000, max_iterations=most, **limits)
    if limits:
        assert (found.passes, found.why, found.ends) == (most, "passes used up", "saved")
        assert (found.within, found.target_reached).count(False) == 1
    else:
        assert found.passes <= min(most, 16) and found.within is found.target_reached is None
    ended = predicted(20_000, hot=3000, max_iterations=most, max_downtime=1e-6, abort_if_busy=True)
    assert (ended.ends, ended.within) == ("aborted", None)


def test_a_target_that_no_pass_reaches() -> None:
    """The guest dirties as many while it suspends: what is left by a pass decides then, as in the policy."""
    dirtied = guest_of(60_000).curve.pages(SUSPENDING)
    found = predicted(60_000, target_dirty=int(dirtied), speed=1e6)
    assert (found.why, found.target_reached) == ("short enough", False) and found.passes < MAX_ITERATIONS
    found = predicted(60_000, target_dirty=int(1.5 * dirtied), speed=1e6)
    assert (found.why, found.target_reached) == ("short enough", True)


def test_the_bandwidth_limit_holds_for_the_live_passes() -> None:
    fast, slow = predicted(1000), predicted(1000, bandwidth=int(SPEED / 5 * PAGE_BYTES))
    assert slow.seconds > 4 * fast.seconds and slow.pause < 5 * fast.pause
    paused = predicted(1000, bandwidth=int(SPEED / 5 * PAGE_BYTES), bandwidth_while_paused=True)
    assert paused.pause > 1.5 * slow.pause
    assert predicted(1000, bandwidth=int(SPEED * 5 * PAGE_BYTES)) == fast
