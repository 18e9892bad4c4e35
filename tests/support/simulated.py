"""A save without a guest and without a hypervisor: the saver's judgement over a made-up world with a clock of its own.

The guest writes ``rate`` pages a second, anywhere in ``hot`` of its pages. The output takes a page in ``page`` seconds,
and no more of them in a second than the bandwidth limit allows.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Optional, cast

from pyxcsr.policy import Decision, Policy
from pyxcsr.report import PassReport, SaveReport
from pyxcsr.stream.format import PAGE_BYTES
from pyxcsr.transfer.deciding import Deciding
from pyxcsr.transfer.outlook import Outlook
from pyxcsr.transfer.throttle import MOST, START, STEP
from pyxcsr.transfer.throttling import Throttling

FETCH, SWEEP, STATE, PASS, PYTHON, SUSPEND = 0.0001, 0.0003, 0.0003, 0.0001, 0.0002, 0.004


class Outcome(NamedTuple):
    """What came of it. ``pages``: sent in all; ``left``: of these, for the pause."""

    pause: float
    predicted: Optional[float]
    passes: int
    pages: int
    seconds: float
    stopped: str
    report: SaveReport

    @property
    def left(self) -> int:
        """Pages left for the pause."""
        return self.report.passes[-1].dirty


class World:
    """A guest, an output and a clock. ``rate`` and ``limit``, in pages a second, may be functions of the time."""

    def __init__(
        self, nr_pfns: int, rate: float | Callable[[float], float], page: float, hot: int = 0,
        limit: Callable[[float], Optional[float]] = lambda now: None,
    ) -> None:  # fmt: skip
        self.nr_pfns, self.page, self.hot = nr_pfns, page, hot or nr_pfns
        self.rate: Callable[[float], float] = rate if callable(rate) else lambda now: rate
        self.now, self.taken = 0.0, 0.0
        self._dirty = 0.0
        self._limit = limit

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        """The guest goes on for so long."""
        steps = 20
        for _ in range(steps):
            writes = self.rate(self.now) * (1.0 - self.taken) * seconds / steps
            self._dirty = self.hot - (self.hot - self._dirty) * math.exp(-writes / self.hot)
            self.now += seconds / steps

    def count(self) -> int:
        return round(self._dirty)

    def fetch(self) -> int:
        dirty, self._dirty = round(self._dirty), 0.0
        self.wait(FETCH + SWEEP)
        return dirty


    def bandwidth(self) -> Optional[int]:
        """The limit, in bytes."""
        limit = self._limit(self.now)
        return None if limit is None else round(limit * PAGE_BYTES)

    def send(self, pages: int) -> float:
        """Sends them while the guest goes on. Returns for how many seconds the limit has held that up."""
        held, slices = 0.0, 50
        for _ in range(slices if pages else 0):
            seconds, limit = pages / slices * self.page, self._limit(self.now)
            longer = max(pages / slices / limit - seconds, 0.0) if limit else 0.0
            self.wait(seconds + longer)
            held += longer
        return held


class Taken:
    """Plays Throttling: takes time from the world's guest."""

    wanted = True

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def taken(self) -> float:
        return self._world.taken

    def step(self) -> bool:
        before = self.taken
        self._world.taken = min(before + STEP if before else START, MOST)
        return self.taken > before


def simulate(world: World, policy: Policy, *, throttle: bool = False) -> Outcome:
    """A live save, step by step as the saver makes it (``Saver._precopy``)."""
    report = SaveReport(1, True)
    outlook = Outlook(1, world.clock)
    throttling = cast("Throttling", Taken(world)) if throttle else None
    deciding = Deciding(policy, report, outlook, world.count, throttling)
    outlook.limited(world.bandwidth())
    outlook.begin()

    def one_pass(dirty: int) -> None:
        began = world.now
        world.wait(PASS)
        held = world.send(dirty)
        busy = world.now - began
        world.wait(PYTHON)
        outlook.limited(world.bandwidth())
        sent = {"pages": dirty, "bytes": 4096 * dirty}
        done = PassReport(len(report.passes), False, dirty, **sent, seconds=busy + PYTHON, seconds_held=held)
        report.passes.append(done)
        outlook.passed(done, busy, 0.0, 0.0)

    def ask(dirty: Optional[int]) -> Decision:
        return deciding.ask(dirty, nr_pfns=world.nr_pfns, bytes_sent=4096 * report.pages, seconds=world.now)

    dirty, decision = world.nr_pfns, Decision.CONTINUE
    while True:
        one_pass(dirty)
        if decision is not Decision.CONTINUE or ask(None) is not Decision.CONTINUE:
            break
        began = world.now
        dirty = world.fetch()
        outlook.fetched(dirty, began, FETCH)
        decision = ask(dirty)
    world.wait(STATE)
    outlook.rehearsed(STATE, at_once=True)
    predicted = outlook.pause(outlook.dirty_now(world.nr_pfns)) if outlook.dirty_rate is not None else None
    deciding.suspends(0)
    world.taken = 0.0
    world.wait(SUSPEND)
    left, passes, pages = world.fetch(), len(report.passes), report.pages
    report.passes.append(PassReport(passes, True, left))
    deciding.finish()
    pause = FETCH + PASS + left * world.page + STATE
    return Outcome(pause, predicted, passes, pages + left, world.now + pause, report.stopped, report)
