"""Measuring time: what is compared runs in turn, and ratios are taken within a turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Callable

Action = Callable[[], float]
"""Runs once; returns the seconds that count."""


class Seconds(float):
    """A time in seconds, of which ``stub`` seconds were the stub's own."""

    stub: float

    def __new__(cls, seconds: float, stub: float) -> Seconds:
        made = super().__new__(cls, seconds)
        made.stub = stub
        return made


def less_stub(values: Sequence[float]) -> list[float]:
    """The times without the stub's own part. A time that does not say how much that is stays as it is."""
    return [x - x.stub if isinstance(x, Seconds) else x for x in values]


@dataclass(frozen=True)
class Spread:
    """A median with the quartiles round it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        ordered = sorted(values)
        quarter = (len(ordered) - 1) / 4
        return cls(median(ordered), ordered[int(quarter)], ordered[-1 - int(quarter)])


@dataclass
class _BestOf:
    runs: int = 1


BEST_OF = _BestOf()
"""How many runs of each action a turn takes the best of (``--best``)."""


def timed(function: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def computed(function: Callable[[], object]) -> float:
    """The processor time of a call that neither waits nor writes. Time in which other processes ran is not counted."""
    begin = time.thread_time()
    function()
    return time.thread_time() - begin


def in_turn(repeats: int, *actions: Action) -> list[list[float]]:
    """The seconds of each action in each of ``repeats`` turns. Every other turn runs in reverse order.

    Each action runs once before, which is not counted. On a busy machine a turn may take the best of several runs: see
    :data:`BEST_OF`.
    """
    seconds: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()
    for turn in range(repeats):
        order = range(len(actions)) if turn % 2 == 0 else reversed(range(len(actions)))
        for i in order:
            seconds[i].append(min(actions[i]() for _ in range(BEST_OF.runs)))
    return seconds


def ratios(reference: Sequence[float], ours: Sequence[float]) -> list[float]:
    """How many times faster ours is, turn by turn."""
    return [a / b for a, b in zip(reference, ours)]
