"""The time for which a guest waits: from suspended to the end of the stream, against its size and what it dirtied.

The live pass before goes to /dev/null; what is written once the guest is suspended goes to a socket that another
process reads. So 64 GiB need not be pushed through a socket to learn what the last 50 pages cost.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Optional

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.guests import describe, machine, pages_of
from benchmarks.measure import Spread, in_turn
from benchmarks.model import Sample, model
from benchmarks.rows import Goal, Row, compared, of_values
from benchmarks.savers import Ours, Theirs
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.backend import Sink
from pyxcsr.hypervisor.stub import StubError

GOALS = {("4G", 50): Goal(5), ("64G", 50): Goal(40)}
HOLES_GOAL = Goal(1.0, least=False)
WORD = bytes(8)


class _SwitchedSink(Sink):
    """A sink of ours that becomes another one."""

    def __init__(self, backend: Any, first: int, then: int) -> None:
        super().__init__(backend, first)
        self._other: Optional[Sink] = Sink(backend, then)

    def switch(self) -> None:
        """From the first output to the other."""
        assert self._other is not None
        self._cdata, self._other._cdata = self._other._cdata, self._cdata

    def close(self) -> None:
        other, self._other = self._other, None
        if other:
            other.close()
        super().close()


class _SwitchedHypervisor:
    """The hypervisor, with such a sink as its output."""

    def __init__(self, hv: Any, then: int) -> None:
        self._hv, self._then = hv, then
        self.sink: Optional[_SwitchedSink] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hv, name)

    def open_sink(self, fd: int) -> _SwitchedSink:
        """The saver's output."""
        self.sink = _SwitchedSink(self._hv, fd, self._then)
        return self.sink


class PausedOurs(Ours):
    """pyxcsr.save, written to /dev/null until the guest is suspended."""

    def paused(self, fd: int, before: Callable[[], None]) -> float:
        """Seconds."""
        hv, switched = self.hv, _SwitchedHypervisor(self.hv, fd)

        def switch() -> None:
            before()
            assert switched.sink is not None
            switched.sink.switch()

        self.hv = switched
        try:
            with sinks.null() as null:
                return self.save(null, live=True, before=switch).paused
        finally:
            self.hv = hv


class PausedTheirs(Theirs):
    """xc_domain_save, the same way: its descriptor is made another one."""

    def paused(self, fd: int, before: Callable[[], None]) -> float:
        """Seconds."""
        with sinks.null() as null:

            def switch() -> None:
                before()
                os.dup2(fd, null)

            return self.save(null, live=True, before=switch).paused


class Dirtier:
    """Writes to so many data pages of a guest, the same ones each time, anywhere in it."""

    def __init__(self, hv: Any, domid: int, size: str, count: int) -> None:
        self._guest = hv.stub.guest(domid)
        rng, last = random.Random(count), pages_of(size)
        first = last * 3 // 512 + 128  # beyond the tables: they are the guest's first pages
        chosen: set[int] = set()
        while len(chosen) < count:
            pfn = rng.randrange(first, last)
            if self._is_data(pfn):
                chosen.add(pfn)
        self._pages = sorted(chosen)

    def _is_data(self, pfn: int) -> bool:
        try:
            return bool(self._guest.types([pfn]) == [PageType.NOTAB])
        except StubError as error:
            assert error.facts["errno"] == errno.ENOENT  # ballooned out
            return False

    def __call__(self) -> None:
        for pfn in self._pages:
            self._guest.write_page(pfn, WORD)


class Bench:
    """One guest, and the time for which each saver lets it wait."""

    def __init__(self, context: Context, hv: Any, domid: int, size: str) -> None:
        self.context, self.hv, self.domid, self.size = context, hv, domid, size
        self.ours = PausedOurs(hv, domid)
        self.theirs = PausedTheirs(hv, domid, context.library) if context.library else None

    def actions(self, dirty: int, fd: int) -> dict[str, Callable[[], float]]:
        """Of both savers, with so many pages dirtied."""
        dirtier = Dirtier(self.hv, self.domid, self.size, dirty)
        actions: dict[str, Callable[[], float]] = {"ours": lambda: self.ours.paused(fd, dirtier)}
        if self.theirs:
            theirs = self.theirs
            actions["theirs"] = lambda: theirs.paused(fd, dirtier)
        return actions

    def seconds(self, dirty: int, kind: str = "socketpair") -> dict[str, list[float]]:
        """In turn."""
        with sinks.opened(kind) as fd:
            actions = self.actions(dirty, fd)
            return dict(zip(actions, in_turn(self.context.repeats, *actions.values())))


@contextmanager
def guests(context: Context, *described: tuple[str, dict[str, Any]]) -> Iterator[list[Bench]]:
    """Guests of these sizes and fields on one machine."""
    with machine(*(size for size, _ in described)) as hv, ExitStack() as stack:
        benches = []
        for size, fields in described:
            domid = hv.stub.create(describe(size, **fields))
            stack.callback(hv.stub.destroy, domid)
            benches.append(Bench(context, hv, domid, size))
        yield benches


def by_size(context: Context, size: str, counts: Sequence[int], found: dict[str, list[Sample]]) -> Iterator[Row]:
    """Rows for one guest; what was measured goes to ``found`` for the model."""
    context.say(f"paused phase: a guest of {size}")
    with guests(context, (size, {})) as (bench,):
        for dirty in counts:
            seconds = bench.seconds(dirty)
            for by, values in seconds.items():
                found.setdefault(by, []).append(Sample(pages_of(size), dirty, values))
            what = f"{size}, {dirty} pages dirty"
            if "theirs" in seconds:
                goal, names = GOALS.get((size, dirty)), ("libxenguest", "ours")
                yield compared("paused", what, seconds["theirs"], seconds["ours"], goal=goal, names=names)
            else:
                yield of_values("paused", f"{what}: ours", [x * 1e6 for x in seconds["ours"]], unit="us")


def with_holes(context: Context, size: str) -> Iterator[Row]:
    """The same guest with and without half of it ballooned out."""
    context.say(f"paused phase: {size}, half of it ballooned out")
    with guests(context, (size, {}), (size, {"holes": 0.5, "seed": 1})) as (plain, holey), ExitStack() as stack:
        fd = stack.enter_context(sinks.socketpair())
        pairs = [(by, plain.actions(50, fd)[by], holey.actions(50, fd)[by]) for by in plain.actions(50, fd)]
        for by, without, holes in pairs:
            first, second = in_turn(context.repeats, without, holes)
            who = "ours" if by == "ours" else "libxenguest"
            figures = {"without us": Spread.of(first).median * 1e6, "with us": Spread.of(second).median * 1e6}
            longer = [b / a for a, b in zip(first, second)]
            goal = HOLES_GOAL if by == "ours" else None
            yield of_values("paused", f"{size} with holes, to without: {who}", longer, goal=goal, figures=figures)


def run(context: Context) -> Iterator[Row]:
    """Rows by size and dirty count; holes; the model."""
    found: dict[str, list[Sample]] = {}
    counts = (50, 1000) if context.quick else (50, 1000, 10000)
    sizes = ("64M", "256M") if context.quick else ("4G", "16G", "32G", "64G")
    for size in sizes:
        yield from by_size(context, size, counts, found)
    yield from with_holes(context, context.size("4G", "64M"))
    yield from model(found)
