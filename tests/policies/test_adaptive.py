"""The policy that goes by measured rates, in a made-up world with a clock of its own, beside libxenguest's policy."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Optional

import pytest
from support.simulated import Outcome, World, simulate

import pyxcsr
from pyxcsr.policies.adaptive import BEYOND, EXPECTED, MAX_ITERATIONS, REST, AdaptivePolicy
from pyxcsr.policy import Decision, PrecopyStats, SimplePolicy
from pyxcsr.transfer.outlook import Outlook

RATES = [0, 1_000, 20_000, 60_000, 400_000]
SIZES = {"256M": 1 << 16, "4G": 1 << 20}
OUTPUTS = {"100 MB/s": 4096 / 1e8, "1 GB/s": 4096 / 1e9, "unlimited": 1.2e-6}
HOT = {"anywhere": 0, "in 4000 pages": 4000}


def adaptive(**limits: Any) -> AdaptivePolicy:
    return AdaptivePolicy(pyxcsr.Limits(**limits))


@pytest.mark.parametrize("hot", HOT)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rate", RATES)
def test_the_matrix(rate: int, size: str, output: str, hot: str) -> None:
    """Never paused longer than with libxenguest's policy."""

    def world() -> World:
        return World(SIZES[size], rate, OUTPUTS[output], HOT[hot])

    libxc, ours = simulate(world(), SimplePolicy()), simulate(world(), AdaptivePolicy())
    assert ours.pause <= libxc.pause * 1.03 + 0.0003
    within = simulate(world(), adaptive(max_downtime=0.1))
    feasible = ours.pause * 1.3 <= 0.1
    assert (within.pause <= 0.1) == feasible or within.passes == MAX_ITERATIONS or within.pause <= 0.1
    assert not feasible or within.pause <= 0.1


def test_predictions() -> None:
    """Within 30 % in nine of ten saves of two passes or more."""
    good = total = 0
    for policy in (SimplePolicy, AdaptivePolicy):
        for rate in RATES:
            for pfns in SIZES.values():
                for page in OUTPUTS.values():
                    out = simulate(World(pfns, rate, page), policy())
                    total += out.passes >= 2
                    good += out.passes >= 2 and abs((out.predicted or 0) - out.pause) <= 0.3 * out.pause
    assert total >= 40 and good >= 0.9 * total


def over_the_matrix(*, hopeless: bool) -> list[tuple[Outcome, Outcome]]:
    pairs = []
    for rate in RATES:
        for pfns in SIZES.values():
            for page in OUTPUTS.values():
                if (rate * page > 1.2) == hopeless:
                    libxc, ours = (simulate(World(pfns, rate, page), x) for x in (SimplePolicy(), AdaptivePolicy()))
                    pairs.append((libxc, ours))
    return pairs


def test_a_hopeless_guest_is_not_sent_over_and_over() -> None:
    pairs = over_the_matrix(hopeless=True)
    assert pairs and all(ours.pages <= libxc.pages for libxc, ours in pairs)
    assert sum(ours.pages for _, ours in pairs) < 0.75 * sum(libxc.pages for libxc, _ in pairs)


def test_a_guest_that_converges_slowly_is_paused_for_much_less() -> None:
    """It dirties 0.8 pages for each one sent: five passes leave a tenth of the guest, more leave next to nothing."""
    libxc, ours = (simulate(World(1 << 20, 20_000, 4e-5), x) for x in (SimplePolicy(), AdaptivePolicy()))
    assert libxc.pause > 3 and ours.pause < 0.2
    assert ours.passes <= MAX_ITERATIONS


def test_an_idle_guest_needs_no_second_pass() -> None:
    libxc, ours = (simulate(World(1 << 16, 0, 1e-6), x) for x in (SimplePolicy(), AdaptivePolicy()))
    assert (libxc.passes, ours.passes) == (2, 1)


def test_a_burst_does_not_end_the_passes() -> None:
    """Three milliseconds of writes at full speed, just in the second pass."""

    def rate(now: float) -> float:
        return 400_000 if 0.2650 < now < 0.2680 else 1000

    ours, libxc = (simulate(World(1 << 16, rate, 4e-6), x) for x in (AdaptivePolicy(), SimplePolicy()))
    assert ours.pause <= libxc.pause * 1.03 + 0.0003


# -- limits


def test_max_downtime_ends_the_passes_when_it_is_met() -> None:
    world = [World(1 << 20, 20_000, 4e-5) for _ in range(2)]
    free, limited = simulate(world[0], AdaptivePolicy()), simulate(world[1], adaptive(max_downtime=1.0))
    assert limited.pause <= 1.0 and limited.passes < free.passes
    assert limited.stopped == EXPECTED


def test_max_downtime_that_cannot_be_kept_goes_on_to_the_iteration_limit() -> None:
    out = simulate(World(1 << 16, 400_000, 4e-5), adaptive(max_downtime=0.1, max_iterations=7))
    assert out.passes == 7 and out.stopped.startswith("max_iterations: 7 live passes were made (")


def test_a_lull_is_used() -> None:
    """A guest that is busy for six seconds, and then is not: with a limit the save waits for that."""

    def rate(now: float) -> float:
        return 400_000 if now < 3 else 500

    out = simulate(World(1 << 16, rate, 4e-6), adaptive(max_downtime=0.02))
    assert out.pause <= 0.02 and out.passes < MAX_ITERATIONS


def test_with_a_timeout_there_is_no_other_limit() -> None:
    """The same, but the guest is busy for so long that thirty passes are not enough."""

    def rate(now: float) -> float:
        return 400_000 if now < 20 else 500

    out = simulate(World(1 << 16, rate, 4e-6), adaptive(max_downtime=0.02, timeout=60))
    assert out.pause <= 0.02 and out.passes > MAX_ITERATIONS
    assert simulate(World(1 << 16, rate, 4e-6), adaptive(timeout=60)).passes <= MAX_ITERATIONS


def test_passes_that_win_nothing_are_not_made_without_a_rest() -> None:
    policy = adaptive(max_downtime=1e-6, timeout=60)
    for iteration in range(1, 40):
        assert policy(stats(iteration, None, looked=1000)) is Decision.CONTINUE
        assert policy.rest == (REST if iteration >= MAX_ITERATIONS else 0.0), iteration
        assert policy(stats(iteration, 1000, looked=1000)) is Decision.CONTINUE
    assert policy(stats(40, None, looked=500)) is Decision.CONTINUE and policy.rest == 0, "this one wins something"


def test_target_dirty() -> None:
    out = simulate(World(1 << 16, 60_000, 4e-6), adaptive(target_dirty=15_000))
    assert out.passes == 1 or out.stopped == EXPECTED
    out = simulate(World(1 << 16, 60_000, 4e-6), adaptive(target_dirty=0, max_iterations=3))
    assert out.passes == 3


@pytest.mark.parametrize("limits", [{}, {"max_downtime": 0.1}, {"target_dirty": 200}])
def test_abort_if_busy(limits: dict[str, Any]) -> None:
    with pytest.raises(pyxcsr.Cancelled, match=r"after [1-5] passes, abort_if_busy: the guest dirties pages") as error:
        simulate(World(1 << 16, 400_000, 4e-5), adaptive(abort_if_busy=True, **limits))
    assert error.value.by == "policy" and error.value.limit == "abort_if_busy" and error.value.facts["errno"] == 16
    for rate in (0, 1000, 20_000):
        simulate(World(1 << 16, rate, 4e-6), adaptive(abort_if_busy=True, **limits))


def test_abort_if_busy_at_the_iteration_limit() -> None:
    """It is not faster than the output, but two passes are not enough for what was asked."""
    with pytest.raises(pyxcsr.Cancelled, match="the limits cannot be kept"):
        simulate(World(1 << 20, 20_000, 4e-5), adaptive(abort_if_busy=True, max_downtime=0.1, max_iterations=2))


def test_limits_may_change_while_it_runs() -> None:
    limits = pyxcsr.Limits(max_downtime=0.001)
    policy = AdaptivePolicy(limits)

    def tuned(stats: PrecopyStats) -> Decision:
        if stats.iteration == 4:
            limits.max_downtime = 10.0
        return policy(stats)

    assert simulate(World(1 << 16, 400_000, 4e-6), tuned).passes == 4


# -- a bandwidth limit that is changed while it runs


def lifted(at: float, before: Optional[float], after: Optional[float]) -> Callable[[float], Optional[float]]:
    """The limit in pages a second, by the time."""
    return lambda now: before if now < at else after


LIFTED = {
    # the time, and what is asked for; the first pass takes four seconds if the limit stays
    "at the beginning": (0.5, {"abort_if_busy": True}),
    "in the midst of the first pass": (2.2, {"abort_if_busy": True}),
    "nothing is asked for": (2.2, {}),
    "both": (2.2, {"max_downtime": 0.01, "abort_if_busy": True}),
    "in the second pass": (4.1, {"max_downtime": 0.01}),
    "later in the second pass": (6.0, {"max_downtime": 0.01}),
}


@pytest.mark.parametrize("after", [None, 100_000])
@pytest.mark.parametrize("name", LIFTED)
def test_a_limit_that_is_lifted_saves_the_save(name: str, after: Optional[float]) -> None:
    """Under the old one the guest rewrote all of its memory in a pass; without one it is no match for the output."""
    at, limits = LIFTED[name]
    out = simulate(World(4096, 20_000, 4e-6, limit=lifted(at, 1024, after)), adaptive(**limits))
    assert out.pause < 0.002 and out.passes <= 6 and 4096 * 4e-6 > 0.016, "a pause for all of it"


@pytest.mark.parametrize("dirty", [1000, 65000])
def test_what_was_measured_under_another_limit_decides_nothing(dirty: int) -> None:
    """A decision is put off by a pass, and what has been futile was so under the old limit."""
    policy, last = adaptive(abort_if_busy=True), {"last_pages": dirty}
    assert policy(stats(1, None, looked=dirty, last_pages=2 * dirty)) is Decision.CONTINUE
    assert policy(stats(2, None, looked=dirty, bandwidth_changed=True, **last)) is Decision.CONTINUE
    if dirty < 65000:
        assert policy(stats(3, None, looked=dirty, **last)) is Decision.CONTINUE, "the first one that wins nothing"
    assert policy(stats(4, None, looked=dirty, **last)) is Decision.ABORT


def test_the_last_pass_is_the_last_whatever_the_limit() -> None:
    last = {"looked": 1000, "bandwidth_changed": True}
    policy = adaptive(abort_if_busy=True, max_iterations=3)
    assert policy(stats(3, None, **last)) is Decision.STOP_AND_COPY and policy.reason.startswith("max_iterations")
    policy = adaptive(abort_if_busy=True, max_iterations=3, max_downtime=0.1)
    assert policy(stats(3, None, **last)) is Decision.ABORT and "the limits cannot be kept" in policy.reason


def test_a_limit_that_was_changed_is_no_reason_to_throttle() -> None:
    def throttle() -> bool:
        raise AssertionError("by what was measured under another limit")

    told = stats(2, None, looked=1000, bandwidth_changed=True, throttle=throttle)
    assert adaptive(max_downtime=0.1, throttle=True)(told) is Decision.CONTINUE


def test_what_was_asked_for_is_reached_under_any_limit() -> None:
    policy = adaptive(max_downtime=10.0)
    assert policy(stats(2, None, looked=1000, bandwidth_changed=True)) is Decision.STOP_AND_COPY


def test_a_limit_that_is_lowered() -> None:
    """To less than the guest dirties: it is known at once that it is too fast for that, and told after two passes."""
    world = World(1 << 16, 20_000, 4e-6, limit=lifted(0.1, None, 1024))
    with pytest.raises(pyxcsr.Cancelled, match=r"pages as fast as they can be sent .* and 1024 can be sent"):
        simulate(world, adaptive(abort_if_busy=True))


# -- throttling


@pytest.mark.parametrize("limits", [{"target_dirty": 100}, {"target_dirty": 400}, {"target_dirty": 3000}])
def test_a_target_is_judged_by_what_is_left_for_the_pause(limits: dict[str, int]) -> None:
    """The guest dirties 240 pages while it suspends, with all of its processor time, however few it did before."""
    out = simulate(World(8192, 60_000, 1e-4, 2048), adaptive(throttle=True, **limits), throttle=True)
    can_be = limits["target_dirty"] > 300
    assert out.report.target_reached is (out.left < limits["target_dirty"]) is can_be
    assert (out.stopped == EXPECTED) is can_be and out.report.dirty_left == out.left
    assert can_be or (out.passes < MAX_ITERATIONS and out.stopped == BEYOND), "no pass brings it there"


@pytest.mark.parametrize(("rate", "bandwidth", "target"), [(20_000, 250_000, 50), (60_000, 250_000, 300)])
def test_a_target_below_what_a_suspending_guest_writes_ends_no_save(rate: int, bandwidth: int, target: int) -> None:
    """Nor does it have a timeout waited for."""
    out = simulate(World(1 << 16, rate, 1 / bandwidth), adaptive(abort_if_busy=True, target_dirty=target))
    assert out.passes < 12 and out.stopped == BEYOND and not out.report.target_reached
    limits = {"target_dirty": target, "throttle": True, "timeout": 20.0}
    out = simulate(World(1 << 16, rate, 1 / bandwidth), adaptive(**limits), throttle=True)
    assert out.passes < 12 and out.seconds < 5 and out.stopped == BEYOND


def test_a_bandwidth_that_is_changed_a_little_again_and_again() -> None:
    """A program that controls it by `tune` must not keep the save from deciding."""
    outlook = Outlook(1)
    changed = []
    for limit in (None, 20_000, 20_010, 19_990, 21_000, 22_500, 30_000, None, None):
        outlook.limited(limit)
        changed.append(outlook.bandwidth_changed)
        outlook.bandwidth_changed = False
    assert changed == [False, True, False, False, False, True, True, True, False]


def test_a_pause_is_predicted_of_a_guest_that_has_its_time_back() -> None:
    out = simulate(World(8192, 60_000, 1e-4, 2048), adaptive(throttle=True, max_downtime=0.03), throttle=True)
    assert out.predicted == pytest.approx(out.pause, rel=0.35) and out.pause > 0.02
    assert out.passes == MAX_ITERATIONS, "more than it may be, with the margin"


def test_the_numbers_of_libxenguest_are_about_the_fetched_bitmap() -> None:
    """One more pass sends these pages; what is left then are others."""
    world = World(1 << 14, 2000, 1e-6)
    out = simulate(world, SimplePolicy(5, 50))
    assert out.report.target_reached is True and out.report.target_dirty == 50


@pytest.mark.parametrize("rate", [60_000, 400_000])
def test_it_throttles_before_it_gives_up(rate: int) -> None:
    """Even if the pause would be short: with abort_if_busy it would be none at all."""
    out = simulate(World(4096, rate, 5e-5), adaptive(throttle=True, abort_if_busy=True), throttle=True)
    assert out.pause < 0.3 and out.passes > 2
    with pytest.raises(pyxcsr.Cancelled, match="abort_if_busy"):
        simulate(World(4096, rate, 5e-5), adaptive(abort_if_busy=True))
    assert simulate(World(4096, rate, 5e-5), adaptive(throttle=True), throttle=True).passes <= 2, "it is bearable"


# -- the questions one by one


def stats(iteration: int, dirty: Any, looked: Any = None, **more: Any) -> PrecopyStats:
    fields: dict[str, Any] = {"last_pages": 1000, "last_seconds": 1.0, "page_seconds": 1e-3, "pause_seconds": 1e-3}
    look = None if looked is None else lambda: looked
    return PrecopyStats(iteration, dirty, 65536, look=look, **{**fields, **more})


def test_once_the_bitmap_is_fetched_the_pass_is_made() -> None:
    assert AdaptivePolicy()(stats(2, 0, looked=0)) is Decision.CONTINUE


def test_where_xen_cannot_be_asked_it_decides_by_the_bitmap() -> None:
    policy = AdaptivePolicy()
    assert policy(stats(1, None)) is Decision.CONTINUE
    assert policy(stats(1, 500)) is Decision.CONTINUE
    assert policy(stats(2, 0)) is Decision.STOP_AND_COPY
    assert policy(stats(MAX_ITERATIONS, None)) is Decision.STOP_AND_COPY


@pytest.mark.parametrize(
    ("limits", "decision", "why"),
    [
        ({"abort_if_busy": True, "max_downtime": 1.0}, Decision.ABORT, "abort_if_busy: it is not known whether"),
        ({"abort_if_busy": True, "target_dirty": 9}, Decision.ABORT, "abort_if_busy: it is not known whether"),
        ({"abort_if_busy": True}, Decision.STOP_AND_COPY, "max_iterations: 30"),
        ({"max_downtime": 1.0}, Decision.STOP_AND_COPY, "max_iterations: 30"),
    ],
)
def test_the_last_question_where_xen_cannot_be_asked(limits: dict[str, Any], decision: Decision, why: str) -> None:
    """Whoever asked that a limit be kept, or the save end, does not get a pause of unknown length."""
    policy = adaptive(**limits)
    assert policy(stats(MAX_ITERATIONS, None)) is decision
    assert policy.reason.startswith(why)


RATES_OF_PASSES = {
    # the passes: 300 pages in 5 ms each, 4 ms of which they take whatever they send
    "short passes": ({"dirty_rate": 60_000, "send_seconds": 1 / 300_000}, False),
    "a page takes long": ({"dirty_rate": 60_000, "send_seconds": 1 / 60_000}, True),
    "not known": ({}, True),
}


@pytest.mark.parametrize("name", RATES_OF_PASSES)
def test_a_guest_is_busy_if_a_page_takes_as_long_to_send_as_to_dirty(name: str) -> None:
    """Not if it dirties as many in a pass as the pass has sent: in short passes everybody does."""
    rates, busy = RATES_OF_PASSES[name]
    last: dict[str, Any] = {"last_pages": 300, "last_seconds": 0.005, **rates}
    policy = adaptive()
    assert policy(stats(5, None, looked=310, **last)) is Decision.CONTINUE
    assert policy(stats(6, None, looked=310, **last)) is Decision.STOP_AND_COPY
    assert policy.reason.startswith("the guest dirties pages as fast as they can be sent (6") == busy, policy.reason
    ends = adaptive(abort_if_busy=True)
    ends(stats(5, None, looked=310, **last))
    decision = ends(stats(6, None, looked=310, **last))
    assert decision is (Decision.ABORT if busy else Decision.STOP_AND_COPY)


def test_one_pass_without_a_gain_is_forgiven() -> None:
    policy = AdaptivePolicy()
    assert policy(stats(1, None, looked=1000)) is Decision.CONTINUE
    assert policy(stats(2, None, looked=500)) is Decision.CONTINUE, "it wins something: the count begins anew"
    assert policy(stats(3, None, looked=1000)) is Decision.CONTINUE
    assert policy(stats(4, None, looked=1000)) is Decision.STOP_AND_COPY
    assert policy.reason.startswith("the guest dirties pages as fast as they can be sent (1000 a second, and 1000")


CALM: dict[str, Any] = {"dirty_rate": 1500, "send_seconds": 3e-4}
"""A guest that dirties far fewer pages than can be sent, if the passes did not take a tenth of a second anyway."""


def looks(policy: AdaptivePolicy, *dirty: int) -> list[Decision]:
    """What it says to one look after the other, each pass having sent what the look before it saw."""
    last = (1000, *dirty)
    return [policy(stats(n, None, looked=dirty[n - 1], last_pages=last[n - 1], **CALM)) for n in range(1, len(last))]


USUAL_OR_NOT = {
    # how many pages are dirty after each pass: the guest is suspended after the last one
    "it rises, and falls to what is usual": (500, 250, 200, 240, 300, 205),
    "it never falls": (500, 250, 200, 240, 300, 330, 360, 390),
    "as many as ever": (500, 250, 200, 200, 201),
    "it falls by chance, but not below the usual": (500, 250, 200, 240, 300, 280, 250),
    "it falls by so much that it counts as won": (500, 250, 200, 240, 300, 120, 60, 60, 60),
}


@pytest.mark.parametrize("name", USUAL_OR_NOT)
def test_it_ends_where_no_more_pages_are_dirty_than_usual(name: str) -> None:
    """Two passes in turn that win nothing are likeliest after a moment when the guest has dirtied more than usual."""
    *going_on, last = looks(AdaptivePolicy(), *USUAL_OR_NOT[name])
    assert last is Decision.STOP_AND_COPY and set(going_on) == {Decision.CONTINUE}


def test_no_pass_is_made_for_that_of_a_guest_that_is_faster_than_its_output() -> None:
    policy, busy = AdaptivePolicy(), {"dirty_rate": 1e5, "send_seconds": 1e-5}
    assert policy(stats(1, None, looked=1000, last_pages=1000, **busy)) is Decision.CONTINUE
    assert policy(stats(2, None, looked=1500, last_pages=1000, **busy)) is Decision.STOP_AND_COPY


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.4])
def test_a_steady_state_with_chance_in_it(noise: float) -> None:
    """On the whole, the pages that are left are no more than such a pass leaves; and not many more passes are made."""
    left, passes = [], []
    for seed in range(400):
        chance, policy, dirty = random.Random(seed), AdaptivePolicy(), 32768
        for iteration in range(1, 100):
            last, mean = dirty, 1500 * (0.1 + dirty * 3e-4)
            dirty = round(min(32768, mean * chance.lognormvariate(-noise * noise / 2, noise)))
            told = stats(iteration, None, looked=dirty, last_pages=last, page_seconds=3e-4, pause_seconds=0.02, **CALM)
            if policy(told) is not Decision.CONTINUE:
                break
        left.append(dirty)
        passes.append(iteration)
    assert sum(left) / len(left) < 1.15 * 1500 * 0.1 / (1 - 1500 * 3e-4)
    assert sum(passes) / len(passes) < 15


def test_an_object_serves_one_save_after_another() -> None:
    policy = AdaptivePolicy()
    for _ in range(2):
        assert policy(stats(1, None, looked=1000)) is Decision.CONTINUE
        assert policy(stats(2, None, looked=1000)) is Decision.STOP_AND_COPY


@pytest.mark.parametrize("share", [0.5, 0.6, 0.8, 0.9])
def test_a_limit_is_reached_once_a_guest_has_become_less_busy(share: float) -> None:
    """Each pass wins less than half, after many that won nothing; to wait between them would undo it."""
    page, policy, last, now = 5e-4, adaptive(max_downtime=0.1, timeout=600), 4096.0, 0.0
    for iteration in range(1, 100):
        rate = (1.2 if iteration < 40 else share) / page
        seconds = 0.002 + last * page
        dirty = round(min(4096, rate * seconds))
        told = stats(iteration, None, looked=dirty, last_pages=round(last), last_seconds=seconds, dirty_rate=rate,
                     page_seconds=page, send_seconds=page)  # fmt: skip
        now += seconds + policy.rest
        if policy(told) is not Decision.CONTINUE:
            break
        last = min(4096, dirty + rate * policy.rest)
    assert policy.reason == EXPECTED and iteration <= 75 and now < 120


def test_a_limit_that_comes_nearer_is_no_reason_to_abort() -> None:
    """Two passes that won nothing came first."""
    policy, last = adaptive(max_downtime=0.5, abort_if_busy=True), 4000
    for iteration, (left, rate) in enumerate([(0.99, 1600), (0.99, 1600), *[(0.91, 1810)] * 30], 1):
        dirty = round(last * left)
        rates = {"page_seconds": 5e-4, "send_seconds": 5e-4, "dirty_rate": rate}
        told = stats(iteration, None, looked=dirty, last_pages=last, **rates)
        if policy(told) is not Decision.CONTINUE:
            break
        last = dirty
    assert policy.reason == EXPECTED


def test_a_guest_with_a_few_dirty_pages_is_not_busy() -> None:
    policy = adaptive(abort_if_busy=True)
    few = {"looked": 10, "last_pages": 10}
    assert policy(stats(2, None, **few)) is Decision.CONTINUE
    assert policy(stats(3, None, **few)) is Decision.STOP_AND_COPY


def test_all_memory_rewritten_is_enough_to_know() -> None:
    assert AdaptivePolicy()(stats(1, None, looked=65000, last_pages=65536)) is Decision.STOP_AND_COPY


def test_a_restless_guest_is_suspended() -> None:
    assert AdaptivePolicy()(stats(1, None, p2m_restless=True)) is Decision.STOP_AND_COPY


@pytest.mark.parametrize("looked", [None, 60000, 10])
@pytest.mark.parametrize("limits", [{}, {"max_downtime": 0.1}, {"target_dirty": 50}])
def test_a_restless_guest_is_not_suspended_for_longer_than_allowed(limits: dict[str, Any], looked: int | None) -> None:
    """If that is impossible, it is to stay here."""
    allowed = not limits or looked == 10
    policy = adaptive(abort_if_busy=True, **limits)
    assert policy(stats(1, None, looked, p2m_restless=True)) is (Decision.STOP_AND_COPY if allowed else Decision.ABORT)
    assert policy.reason.startswith("abort_if_busy: the guest changed its p2m") is not allowed
    assert adaptive(**limits)(stats(1, None, looked, p2m_restless=True)) is Decision.STOP_AND_COPY


def test_a_look_is_only_made_for_who_asks() -> None:
    def look() -> int:
        raise AssertionError("nobody asked")

    told = PrecopyStats(1, None, 1000, look=look)
    assert SimplePolicy()(told) is Decision.CONTINUE
    assert told == PrecopyStats(1, None, 1000) and "look" not in repr(told)
