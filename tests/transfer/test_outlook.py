"""What a save makes of its measurements, and limits in time: with a clock that the test moves."""

from __future__ import annotations

import pytest

import pyxcsr
from pyxcsr.policies.adaptive import AdaptivePolicy
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.report import PassReport, SaveReport
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.transfer.costs import DIRTY_PAGE, FIXED, HANDFUL
from pyxcsr.transfer.deadline import Bandwidth, Deadline
from pyxcsr.transfer.deciding import Deciding
from pyxcsr.transfer.outlook import (
    FETCH,
    FETCHES,
    LATELY,
    OWN,
    SHORT,
    STATE,
    STATE_VCPU,
    SUSPENDING,
    WINDOW,
    Outlook,
)
from pyxcsr.transfer.recent import Recent


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def a_pass(iteration: int, pages: int, seconds: float, held: float = 0.0) -> PassReport:
    return PassReport(iteration, False, pages, pages=pages, bytes=4096 * pages, seconds=seconds, seconds_held=held)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def like_passes(
    outlook: Outlook, clock: Clock, count: int, pages: int, seconds: float, busy: float, unmapping: float = 0.0,
    waited: float = 0.0,
) -> None:  # fmt: skip
    """So many live passes, one like the other, over dirty pages that are all apart."""
    for iteration in range(1, count + 1):
        outlook.fetched(pages, clock.now, 0.0)
        outlook.marked(pages)
        outlook.passed(a_pass(iteration, pages, seconds), busy, unmapping, waited)


def test_before_anything_is_known(clock: Clock) -> None:
    outlook = Outlook(2, clock)
    assert outlook.pause(0) is None and outlook.dirty_rate is None and outlook.bandwidth is None
    outlook.passed(a_pass(0, 10_000, 1.0), 1.0, 0.0, 0.0)
    assert outlook.pause(0) == pytest.approx(FETCH + FIXED + OWN * 1e-4 + STATE + 2 * STATE_VCPU)


def test_the_pause(clock: Clock) -> None:
    outlook = Outlook(1, clock)
    outlook.begin()
    outlook.passed(a_pass(0, 100_000, 2.0), 2.0, 0.0, 0.0)
    assert (outlook.page_seconds, outlook.bandwidth) == (2e-5, 4096 * 50_000)
    clock.now += 2.0
    began = clock.now
    clock.now += 0.01
    assert not outlook.has_fetched
    outlook.fetched(40_000, began, 0.004)
    assert outlook.dirty_rate == pytest.approx(20_000) and outlook.has_fetched
    outlook.rehearsed(0.003, at_once=True)
    fixed = 0.004 + FIXED + 0.003 + (20_000 * SUSPENDING + OWN) * 2e-5
    assert outlook.pause_seconds == pytest.approx(fixed)
    assert outlook.pause(1000) == pytest.approx(fixed + 0.02)


def test_an_end_in_steps_takes_what_passes_take_besides_their_batches(clock: Clock) -> None:
    """At once it does not: then that is in the rehearsal."""
    pauses = []
    for at_once in (False, True):
        outlook = Outlook(1, clock)
        outlook.passed(a_pass(0, 100_000, 2.0), 1.9, 0.0, 0.0)
        outlook.passed(a_pass(1, 0, 0.0015), 0.001, 0.0, 0.0)
        outlook.rehearsed(0.003, at_once=at_once)
        pauses.append(outlook.pause_seconds)
    assert pauses[0] == pytest.approx(pauses[1] + 0.0005)


def test_unmapping_is_not_part_of_the_pause(clock: Clock) -> None:
    """Passes took 4 ms for 1000 pages, 1 ms of which went into what a suspended guest does not wait for."""
    outlook = Outlook(1, clock)
    outlook.passed(a_pass(0, 100_000, 0.4), 0.3, 0.1, 0.0)
    like_passes(outlook, clock, 4, 1000, 0.004, busy=0.003, unmapping=0.001)
    outlook.rehearsed(0.0, at_once=True)
    assert outlook.pause(1000) == pytest.approx(0.003, rel=0.05)


def test_what_is_dirty_now(clock: Clock) -> None:
    outlook = Outlook(1, clock)
    outlook.begin()
    clock.now += 2.0
    outlook.fetched(1000, clock.now, 0.0)
    clock.now += 1.0
    assert outlook.dirty_now(10_000) == 500 and outlook.dirty_now(300) == 300
    outlook.looked(800)
    assert (outlook.dirty_rate, outlook.dirty_now(10_000)) == (800, 800)
    clock.now += 0.5
    assert outlook.dirty_now(10_000) == 1200
    outlook.fetched(1200, clock.now, 0.0)
    assert outlook.dirty_now(10_000) == 0, "they are in the bitmap that was fetched"


def test_what_delayed_one_bitmap_does_not_delay_the_next(clock: Clock) -> None:
    outlook = Outlook(1, clock)
    outlook.rehearsed(0.0, at_once=True)
    for seconds in [0.02] * (FETCHES - 1) + [0.01]:
        outlook.fetched(0, clock.now, seconds)
    assert outlook.pause_seconds == pytest.approx(0.01 + FIXED)  # pages cost nothing as yet: no pass was made


def test_runs_are_those_of_the_pass_that_is_made_with_them(clock: Clock) -> None:
    """The next bitmap was counted already when the pass over the last one is told, never the other way round."""
    scattered, dense = Outlook(1, clock), Outlook(1, clock)
    for outlook, runs in (scattered, 1000), (dense, 10):
        outlook.passed(a_pass(0, 100_000, 0.05), 0.05, 0.0, 0.0)
        outlook.fetched(1000, clock.now, 0.0)
        outlook.marked(runs)
        outlook.passed(a_pass(1, 1000, 0.004), 0.004, 0.0, 0.0)
    assert scattered.pause(1000) == pytest.approx(0.004 + STATE + STATE_VCPU, rel=0.2)
    few = scattered.pause(10), dense.pause(10)
    assert few[0] is not None and few[1] is not None and few[1] > few[0]


def test_a_guest_that_writes_in_bursts(clock: Clock) -> None:
    """Its rate is told over a time that is long enough, and over no more than that."""
    outlook = Outlook(1, clock)
    outlook.begin()
    for seconds, dirty in (1.0, 100_000), (0.5 * WINDOW, 60), (0.3 * WINDOW, 0), (0.3 * WINDOW, 20):
        clock.now += seconds
        outlook.fetched(dirty, clock.now, 0.0)
    assert outlook.dirty_rate == pytest.approx((20 + 0 + 0.8 * 60) / WINDOW), "of the oldest as much as is lacking"
    clock.now += WINDOW / 2
    outlook.looked(50)
    assert outlook.dirty_rate == pytest.approx((50 + 20) / WINDOW)
    outlook.fetched(50, clock.now, 0.0)
    assert outlook.dirty_rate == pytest.approx((50 + 20) / WINDOW), "what was looked at counts once"


def test_what_a_guest_dirties_while_it_suspends(clock: Clock) -> None:
    """As much as in the last moments: a short time has more new pages for each second than the long one before."""
    outlook = Outlook(1, clock)
    outlook.begin()
    outlook.passed(a_pass(0, 100_000, 1.0), 1.0, 0.0, 0.0)
    clock.now += 1.0
    outlook.fetched(1000, clock.now, 0.0)
    outlook.passed(a_pass(1, 1000, 0.005), 0.005, 0.0, 0.0)
    before, steady = outlook.pause(0), outlook.page_seconds
    clock.now += LATELY
    outlook.looked(40)
    assert outlook.dirty_rate == pytest.approx((40 + 1000 * (WINDOW - LATELY)) / WINDOW)
    after = outlook.pause(0)
    assert before is not None and after is not None and steady is not None
    assert after - before == pytest.approx((40 / LATELY - 1000) * SUSPENDING * steady, rel=0.05)


def test_which_rehearsals_read_the_bitmap(clock: Clock) -> None:
    """Not those of a guest so large that this takes long, once it is known how long; it would stand still for it."""
    few, long = Outlook(1, clock), Outlook(1, clock)
    assert few.reads_bitmap
    for count in range(1, FETCHES + 1):
        few.fetched(10, clock.now, SHORT)
        assert few.reads_bitmap == (count < FETCHES)
    long.fetched(10, clock.now, 1.1 * SHORT)
    assert not long.reads_bitmap


def test_a_bitmap_that_was_rehearsed_counts_once(clock: Clock) -> None:
    pauses = []
    for with_bitmap in False, True:
        outlook = Outlook(1, clock)
        outlook.fetched(0, clock.now, 0.02)
        outlook.rehearsed(0.003, at_once=True, with_bitmap=with_bitmap)
        pauses.append(outlook.pause_seconds)
    assert pauses == [pytest.approx(0.023 + FIXED), pytest.approx(0.003 + FIXED)]


def test_a_trial_tells_what_a_handful_costs(clock: Clock) -> None:
    """With what the first write took: its reader had slept then, as it will have when the guest has suspended."""
    outlook = Outlook(1, clock)
    outlook.wrote(3e-5)
    outlook.wrote(1e-5)
    outlook.passed(a_pass(0, 100_000, 0.4), 0.4, 0.0, 0.0)
    like_passes(outlook, clock, 2, 1000, 0.005, busy=0.005)
    outlook.rehearsed(0.0, at_once=True)
    before = outlook.pause(1000)
    outlook.tried(20, 4e-4)
    assert outlook.pause(20 - OWN) == pytest.approx(4.3e-4, rel=0.01)
    assert outlook.pause(1000) == before
    outlook.tried(0, 0.0)
    assert outlook.pause(20 - OWN) == pytest.approx(4.3e-4, rel=0.01), "none of the pages was there"


def test_how_many_pages_are_tried(clock: Clock) -> None:
    outlook = Outlook(1, clock)
    outlook.begin()
    outlook.fetched(0, clock.now, 0.0)
    tried = []
    for dirty in 0, 1, 20, HANDFUL - OWN, HANDFUL - OWN + 1, 5000:
        outlook.looked(dirty)
        tried.append(outlook.pages_to_try(10_000))
    assert tried == [0, 1 + OWN, 20 + OWN, HANDFUL, 0, 0]


def test_the_mean_of_what_was_measured_last() -> None:
    recent = Recent(10)
    assert recent.mean() is None and recent.mean(2, 6) == 3
    recent.add(4, 4)
    recent.add(0, 8)
    assert recent.mean() == 3 and recent.mean(8, 0) == 1
    assert recent.mean(enough=0) is None and recent.mean(enough=2) == 5 and recent.mean(2, 0, enough=2) == 0
    recent.add(10, 30)
    assert recent.mean() == 3 and recent.mean(5, 0) == 1.5 and recent.mean(10, 0) == 0


def test_before_a_pass_over_dirty_pages_one_costs_what_it_costs_alone(clock: Clock) -> None:
    outlook = Outlook(1, clock)
    outlook.passed(a_pass(0, 50_000, 0.05), 0.05, 0.0, 0.0)
    assert outlook.page_seconds == pytest.approx(DIRTY_PAGE), "in a pass over all of memory a page costs less"


def test_what_a_page_costs_while_the_guest_runs(clock: Clock) -> None:
    """With what the pause is without: unmapping, and the bandwidth limit. What each pass takes anyway is not in it.

    The limit is the one that there is now, however long the passes were held by another one.
    """
    outlook = Outlook(1, clock)
    outlook.limited(PAGE_BYTES * 25_000)
    outlook.passed(a_pass(0, 100_000, 2.0), 2.0, 0.0, 0.0)
    for iteration, pages in enumerate((1000, 400, 150, 60, 30, 20), 1):
        outlook.fetched(pages, clock.now, 0.0)
        outlook.marked(pages)
        done = a_pass(iteration, pages, 0.002 + 40e-6 * pages, held=10e-6 * pages)
        outlook.passed(done, 30e-6 * pages, 10e-6 * pages, 0.0)
    assert outlook.send_seconds == pytest.approx(40e-6, rel=0.1)
    assert outlook.page_seconds == pytest.approx(20e-6, rel=0.1)
    for bandwidth, seconds in ((None, 30e-6), (PAGE_BYTES * 1000, 1e-3), (1 << 40, 30e-6)):
        outlook.limited(bandwidth)
        assert outlook.send_seconds == pytest.approx(seconds, rel=0.1)


def test_a_bandwidth_limit_that_is_changed_is_told_once(clock: Clock) -> None:
    outlook, told = Outlook(1, clock), list[bool]()
    report = SaveReport(1, True)
    report.passes.append(a_pass(0, 1000, 0.1))

    def policy(stats: PrecopyStats) -> Decision:
        told.append(stats.bandwidth_changed)
        return Decision.CONTINUE

    deciding = Deciding(policy, report, outlook, lambda: 1000)
    outlook.limited(1 << 20)
    outlook.begin()
    for limit in (1 << 20, 2 << 20, 2 << 20, None, None):
        outlook.limited(limit)
        for dirty in (None, 1000):
            deciding.ask(dirty, nr_pfns=65536, bytes_sent=1, seconds=2.6)
    assert told == [False, False, True, True, False, False, True, True, False, False]


def test_a_guest_dirties_pages_at_full_speed_while_it_suspends(clock: Clock) -> None:
    """It has had a tenth of its processor time, and then a hundredth: too little to tell much by that alone."""
    outlook = Outlook(1, clock)
    outlook.begin()
    outlook.slowed = 0.9
    clock.now += 10 * LATELY
    outlook.fetched(round(LATELY * 60_000), clock.now, 0.0)
    outlook.slowed = 0.99
    clock.now += 10 * LATELY
    outlook.looked(0)
    assert outlook.suspending() == pytest.approx(0.9 * 60_000 * SUSPENDING)


def test_a_slow_output(clock: Clock) -> None:
    """It takes a page in 40 us, and we need 5. What it takes while the guest suspends the pause does not wait for."""
    outlook = Outlook(1, clock)
    outlook.passed(a_pass(0, 100_000, 4.0), 4.0, 0.0, 3.5)
    like_passes(outlook, clock, 3, 3000, 0.12, busy=0.12, waited=0.105)
    outlook.rehearsed(0.0, at_once=True)
    room = SUSPENDING / 40e-6
    assert outlook.pause(10_000) == pytest.approx((10_000 - room) * 40e-6, rel=0.02)
    assert outlook.pause(100) == pytest.approx(100 * 5e-6, rel=0.1, abs=FIXED), "it has room for all of these"
    assert outlook.send_seconds == pytest.approx(40e-6, rel=0.05)
    outlook.passed(a_pass(4, 300, 0.0015), 0.0015, 0.0, 0.0)
    assert outlook.pause(10_000) == pytest.approx((10_000 - room) * 40e-6, rel=0.02), "it says nothing of many"
    outlook.passed(a_pass(5, 3000, 0.015), 0.015, 0.0, 0.0)
    assert outlook.pause(10_000) == pytest.approx(10_000 * 5e-6, rel=0.05), "it has become faster"


def with_a_pipe(clock: Clock, pages: int, seconds: float, waited: float) -> Outlook:
    """Three passes into a pipe that holds 256 pages."""
    outlook = Outlook(1, clock)
    outlook.room = 256 * 4096
    outlook.passed(a_pass(0, 100_000, 0.4), 0.4, 0.0, 0.2)
    like_passes(outlook, clock, 3, pages, seconds, busy=seconds, waited=waited)
    outlook.rehearsed(0.0, at_once=True)
    return outlook


def test_an_output_has_room_for_no_more_than_it_holds(clock: Clock) -> None:
    """It takes a page in 4 us, and so 1250 while the guest suspends; but a pipe holds 256 and no more than those."""
    outlook = with_a_pipe(clock, 3000, 0.012, waited=0.006)
    assert outlook.pause(1000) == pytest.approx((1000 - 256) * 4e-6, rel=0.05)
    assert outlook.pause(250) == pytest.approx(250 * 2e-6, rel=0.1, abs=2 * FIXED)


def test_a_little_waiting_is_waited_again(clock: Clock) -> None:
    """The output is about as fast as we are: for 1 of 10 us it was waited, which the last pass does as well."""
    outlook = with_a_pipe(clock, 10_000, 0.1, waited=0.01)
    assert outlook.pause(10_000) == pytest.approx(0.1 * (1 - 256 / 10_000), rel=0.03)
    like_passes(outlook, clock, 1, 10_000, 0.09, busy=0.09)
    assert outlook.pause(10_000) == pytest.approx(0.09, rel=0.03), "not any more"


def test_the_bandwidth_limit_does_not_hold_while_the_guest_is_paused(clock: Clock) -> None:
    outlook = Outlook(1, clock)
    outlook.passed(a_pass(0, 10_000, 5.0, held=4.0), 5.0, 0.0, 0.0)
    assert outlook.page_seconds == pytest.approx(1e-4)
    assert outlook.bandwidth == pytest.approx(4096 * 2000)


# -- the time for the whole


def test_a_timeout_that_aborts(clock: Clock) -> None:
    deadline = Deadline(pyxcsr.Limits(timeout=10), 7, clock)
    clock.now += 9.9
    deadline.check()
    assert deadline.suspends() is None
    clock.now += 0.1
    assert deadline.suspends() is None
    with pytest.raises(pyxcsr.Cancelled, match="longer than its timeout of 10 s") as error:
        deadline.check()
    assert (error.value.by, error.value.limit, error.value.domid, error.value.errno) == ("limit", "timeout", 7, 110)


def test_a_timeout_that_suspends(clock: Clock) -> None:
    limits = pyxcsr.Limits(timeout=10, on_timeout="suspend")
    deadline = Deadline(limits, 7, clock)
    assert deadline.suspends() is None
    clock.now += 10
    deadline.check()
    assert deadline.suspends() == "timeout: 10 s were over"
    limits.timeout = 20.0
    assert deadline.suspends() is None, "it may be changed"
    limits.suspend_now = True
    assert deadline.suspends() == "it was asked for while the save ran"


@pytest.mark.parametrize(("output", "pause"), [("fast", 0.6), ("slow", 2.9)])
def test_the_first_look_is_judged_by_what_it_found(clock: Clock, output: str, pause: float) -> None:
    """Before it, nothing was known to be dirty: of so few pages a slow output takes all at once."""
    outlook = Outlook(1, clock)
    outlook.room = 1 << 20
    outlook.begin()
    done, waited = a_pass(0, 65536, 2.6), 2.5 if output == "slow" else 0.0
    clock.now += 2.6
    outlook.passed(done, 2.6 if waited else 0.6, 0.0, waited)
    report = SaveReport(1, True)
    report.passes.append(done)
    policy = AdaptivePolicy(pyxcsr.Limits(max_downtime=1.0))
    seen: list[PrecopyStats] = []

    def asked(stats: PrecopyStats) -> Decision:
        seen.append(stats)
        return policy(stats)

    decision = Deciding(asked, report, outlook, lambda: 65000).ask(None, nr_pfns=65536, bytes_sent=1, seconds=2.6)
    assert decision is (Decision.CONTINUE if output == "slow" else Decision.STOP_AND_COPY)
    assert seen[0].predicted_pause == pytest.approx(outlook.pause(65000)) == pytest.approx(pause, rel=0.15)


def test_a_limit_that_holds_in_the_pause_makes_it_longer(clock: Clock) -> None:
    outlook, limits = Outlook(1, clock), pyxcsr.Limits(bandwidth=4104 * 1000)
    like_passes(outlook, clock, 2, 20000, 0.1, 0.1)
    bandwidth, free = Bandwidth(limits, FakeSink()), outlook.pause(20000)  # type: ignore[arg-type]
    assert bandwidth.held() == 0.0 and free is not None and free < 0.2
    outlook.held = bandwidth.held
    limits.bandwidth_while_paused = True
    assert outlook.pause(20000) == pytest.approx(20.0, rel=0.05)


class FakeSink:
    def __init__(self) -> None:
        self.set: list[object] = []

    def limit(self, rate: object) -> None:
        self.set.append(rate)


@pytest.mark.parametrize(("while_paused", "calls"), [(False, [1 << 20, 2 << 20, None]), (True, [1 << 20, 2 << 20])])
def test_bandwidth(while_paused: bool, calls: list[object]) -> None:
    limits, sink = pyxcsr.Limits(bandwidth="1M", bandwidth_while_paused=while_paused), FakeSink()
    bandwidth = Bandwidth(limits, sink)  # type: ignore[arg-type]
    bandwidth.apply(False)
    bandwidth.apply(False)
    limits.bandwidth = 2 << 20
    bandwidth.apply(False)
    bandwidth.apply(True)
    bandwidth.apply(True)
    assert sink.set == calls


def test_without_a_limit_the_sink_is_left_alone() -> None:
    sink = FakeSink()
    Bandwidth(pyxcsr.Limits(), sink).apply(False)  # type: ignore[arg-type]
    assert sink.set == []


def test_a_pass_without_pages_says_nothing_of_one_with_a_few(clock: Clock) -> None:
    """The last pass has a few: a guest that suspends writes them."""
    outlook = Outlook(1, clock)
    outlook.passed(a_pass(0, 100_000, 0.4), 0.4, 0.0, 0.0)
    before = outlook.pause(0)
    outlook.passed(a_pass(1, 0, 0.0), 0.0, 0.0, 0.0)
    assert outlook.pause(0) == before
