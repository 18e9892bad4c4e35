"""A save without a guest and without a hypervisor: the saver's judgement over a made-up world with a clock of its own.

The guest writes ``rate`` pages a second, anywhere in ``hot`` of its pages. The output takes a page in ``page`` seconds.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Optional

from pyxcsr.policy import Decision, Policy
from pyxcsr.report import PassReport, SaveReport
from pyxcsr.transfer.deciding import Deciding
from pyxcsr.transfer.outlook import Outlook

FETCH, SWEEP, STATE, PASS, PYTHON, SUSPEND = 0.0001, 0.0003, 0.0003, 0.0001, 0.0002, 0.004


class Outcome(NamedTuple):
    """What came of it. ``pages``: sent in all."""

    pause: float
    predicted: Optional[float]
    passes: int
    pages: int
    seconds: float
    stopped: str


class World:
    """A guest, an output and a clock. ``rate`` may be a function of the time."""

    def __init__(self, nr_pfns: int, rate: float | Callable[[float], float], page: float, hot: int = 0) -> None:
        self.nr_pfns, self.page, self.hot = nr_pfns, page, hot or nr_pfns
        self.rate: Callable[[float], float] = rate if callable(rate) else lambda now: rate
        self.now = 0.0
        self._dirty = 0.0

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        """The guest goes on for so long."""
        steps = 20
        for _ in range(steps):
            writes = self.rate(self.now) * seconds / steps
            self._dirty = self.hot - (self.hot - self._dirty) * math.exp(-writes / self.hot)
            self.now += seconds / steps

    def count(self) -> int:
        return round(self._dirty)

    def fetch(self) -> int:
        dirty, self._dirty = round(self._dirty), 0.0
        self.wait(FETCH + SWEEP)
        return dirty


def simulate(world: World, policy: Policy) -> Outcome:
    """A live save, step by step as the saver makes it (``Saver._precopy``)."""
    report = SaveReport(1, True)
    outlook = Outlook(1, world.clock)
    deciding = Deciding(policy, report, outlook, world.count)
    outlook.begin()

    def one_pass(dirty: int) -> None:
        busy = PASS + dirty * world.page
        world.wait(busy + PYTHON)
        done = PassReport(len(report.passes), False, dirty, pages=dirty, bytes=4096 * dirty, seconds=busy + PYTHON)
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
    world.wait(SUSPEND)
    left = world.fetch()
    pause = FETCH + PASS + left * world.page + STATE
    return Outcome(pause, predicted, len(report.passes), report.pages + left, world.now + pause, report.stopped)
