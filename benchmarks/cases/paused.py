"""The paused phase, from suspended to the end of the stream, by the guest's size and by how many pages it has dirtied.

The live pass goes to /dev/null; what is written once the guest is suspended goes to a socket that another process
reads. So 64 GiB need not be pushed through a socket to learn what the last 50 pages cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Callable

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.goals import SHORTER
from benchmarks.guests import describe, machine, pages_of
from benchmarks.measure import Spread, in_turn, less_stub
from benchmarks.model import Sample, model
from benchmarks.rows import Goal, Row, compared, of_values
from benchmarks.switched import Dirtier, SwitchedOurs, SwitchedTheirs, anywhere

GOALS = {("4G", 50): SHORTER, ("64G", 50): Goal(40)}
HOLES_GOAL = Goal(1.0, least=False)


class Bench:
    """One guest, and the time for which each saver lets it wait."""

    def __init__(self, context: Context, hv: Any, domid: int, size: str) -> None:
        self.context, self.hv, self.domid, self.size = context, hv, domid, size
        self.ours = SwitchedOurs(hv, domid)
        self.theirs = SwitchedTheirs(hv, domid, context.library) if context.library else None

    def actions(self, dirty: int, fd: int) -> dict[str, Callable[[], float]]:
        """For each saver: a save of the guest with ``dirty`` pages dirtied, which returns the seconds paused."""
        dirtier = Dirtier(self.ours.guest, anywhere(self.ours.guest, self.size, dirty))
        actions: dict[str, Callable[[], float]] = {"ours": lambda: self.ours.switched(fd, dirtier).paused}
        if self.theirs:
            theirs = self.theirs
            actions["theirs"] = lambda: theirs.switched(fd, dirtier).paused
        return actions

    def seconds(self, dirty: int, kind: str = "socketpair") -> dict[str, list[float]]:
        """The seconds paused, of each saver in turn."""
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
                theirs, ours = seconds["theirs"], seconds["ours"]
                yield compared("paused", what, theirs, ours, goal=goal, names=names)
                if goal:
                    what += ", less the stub's part"
                    yield compared("paused", what, less_stub(theirs), less_stub(ours), names=names)
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
    yield from with_holes(context, context.size("2G", "64M"))  # both have their shared_info below 4 GiB
    yield from model(found)
