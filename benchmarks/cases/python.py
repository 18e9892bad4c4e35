"""Python's own time: for each batch of a full pass, and while the guest is suspended.

Each call into the core is timed where it leaves Python; the rest of the time between two marks is Python's. What the
timing itself adds is measured and subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Callable

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.guests import describe, machine, pages_of
from benchmarks.measure import Spread, in_turn, timed
from benchmarks.rows import Goal, Row, of_values
from benchmarks.savers import Ours
from benchmarks.switched import Dirtier, SwitchedOurs, anywhere
from pyxcsr.hypervisor.library import Library

A_BATCH, OF_A_PASS, PAUSED = (Goal(x, least=False) for x in (5.0, 1.0, 50.0))
BATCH = 1024


class Names:
    """An object with the given names, in place of a module."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def __dir__(self) -> list[str]:
        return list(self._names)

    def __getattr__(self, name: str) -> Any:
        return self._names[name]


class Clock:
    """Notes when each call into C began, and how long it took."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, float]] = []
        self.overhead = self._measure_overhead()

    def timing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""
        now, note = time.monotonic, self.calls.append

        def call(*args: Any) -> Any:
            begin = now()
            result = function(*args)
            note((begin, now() - begin))
            return result

        return call

    def library(self, lib: Any) -> Library:
        """The core's functions, timed, behind the lock that they always have."""
        names = {x: getattr(lib, x) for x in dir(lib)}
        return Library(
            Names({x: self.timing(y) if x.startswith("xcsr_") and callable(y) else y for x, y in names.items()})
        )

    def _measure_overhead(self) -> float:
        """How much the timing adds to a call, in seconds, besides what it notes."""
        count = 20_000
        plain: Callable[[], Any] = list
        noted = self.timing(plain)
        bare = timed(lambda: [plain() for _ in range(count)])
        both = timed(lambda: [noted() for _ in range(count)])
        inside = sum(x for _, x in self.calls)
        self.calls.clear()
        return max(0.0, (both - bare - inside) / count)

    def in_c(self, begin: float, end: float) -> tuple[float, int]:
        """The seconds in C between two marks, and in how many calls. The last may end after the second mark."""
        mine = [x for x in self.calls if begin <= x[0] < end]
        return sum(min(at + seconds, end) - at for at, seconds in mine), len(mine)


class Timed:
    """A saver with a clock: splits the time between two marks."""

    def __init__(self, clock: Clock, save: Callable[[], tuple[float, float]]) -> None:
        self._clock, self._save = clock, save
        self.in_c: list[float] = []
        self.calls: list[int] = []

    def __call__(self) -> float:
        """Saves once; returns the seconds that Python took."""
        self._clock.calls.clear()
        begin, end = self._save()
        seconds, calls = self._clock.in_c(begin, end)
        self.in_c.append(seconds)
        self.calls.append(calls)
        return end - begin - seconds - self._clock.overhead * calls

    def figures(self) -> dict[str, float]:
        """Medians of the time in C, and of the number of calls."""
        return {"in C us": Spread.of(self.in_c[1:]).median * 1e6, "calls -": Spread.of(self.calls).median}


def batches(context: Context, hv: Any, clock: Clock) -> Iterator[Row]:
    """Python's time for each batch of a full pass."""
    size = context.size("1G", "16M")
    count = pages_of(size) / BATCH
    context.say(f"Python's time in a full pass of {size}")
    with ExitStack() as stack:
        domid = hv.stub.create(describe(size))
        stack.callback(hv.stub.destroy, domid)
        saver = Ours(hv, domid)
        null, socket = stack.enter_context(sinks.null()), stack.enter_context(sinks.socketpair())

        def save() -> tuple[float, float]:
            marks = saver.save(null)
            return marks.suspended, marks.pages_done

        timed_save = Timed(clock, save)
        spent, to_socket = in_turn(context.repeats, timed_save, lambda: saver.save(socket).last_pass)
    each, figures = [x * 1e6 / count for x in spent], timed_save.figures()
    note = f"of a pass to /dev/null, {count:.0f} batches"
    yield of_values("python", "a batch", each, unit="us", goal=A_BATCH, figures=figures, note=note)
    share = [100 * x / y for x, y in zip(spent, to_socket)]
    yield of_values("python", "of a full pass to a socket", share, unit="%", goal=OF_A_PASS)


def paused(context: Context, hv: Any, clock: Clock) -> Iterator[Row]:
    """Python's time while a guest is suspended, 50 pages dirty."""
    size = context.size("4G", "64M")
    context.say(f"Python's time with {size} suspended")
    with ExitStack() as stack:
        domid = hv.stub.create(describe(size))
        stack.callback(hv.stub.destroy, domid)
        saver, fd = SwitchedOurs(hv, domid), stack.enter_context(sinks.socketpair())
        dirtier = Dirtier(saver.guest, anywhere(saver.guest, size, 50))

        def save() -> tuple[float, float]:
            marks = saver.switched(fd, dirtier)
            return marks.suspended, marks.complete

        timed_save = Timed(clock, save)
        (spent,) = in_turn(context.repeats, timed_save)
    values = [x * 1e6 for x in spent]
    what = "while the guest is suspended"
    yield of_values("python", what, values, unit="us", goal=PAUSED, figures=timed_save.figures())


def run(context: Context) -> Iterator[Row]:
    """Rows for a full pass, and for the paused phase."""
    from pyxcsr._stub import lib as core

    clock = Clock()
    with machine(context.size("5G", "96M"), backed=0) as hv:
        hv._lib = clock.library(core)
        yield from batches(context, hv, clock)
        yield from paused(context, hv, clock)
