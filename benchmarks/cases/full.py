"""A full pass, guest suspended: ours beside libxenguest's and beside a bare writev of the same octets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable

from benchmarks import sinks
from benchmarks.cases.mapping import stub_cost
from benchmarks.context import Context
from benchmarks.guests import guest, memory_of, pages_of
from benchmarks.measure import Spread, in_turn, timed
from benchmarks.native import reference
from benchmarks.rows import Goal, Row, compared, of_values
from benchmarks.savers import Marks, Ours, Saver, Theirs

BARE = Goal(0.92)
NEVER_BELOW = Goal(1.0)
FEWER_NS = Goal(3.0)


class Bench:
    """One guest, its savers, and the bare write of its memory."""

    def __init__(self, context: Context, hv: Any, domid: int, pages: int) -> None:
        self.pages, self.repeats = pages, context.repeats
        self.ffi, self.lib = reference()
        self.ours = Ours(hv, domid)
        self.theirs = Theirs(hv, domid, context.library) if context.library else None
        self.mapping = memory_of(hv, domid, pages)
        self.address = self.ffi.cast("void *", int(hv._ffi.cast("uintptr_t", self.mapping._at)))
        self.lib.ref_touch(self.address, pages)

    def bare(self, fd: int) -> None:
        """Heads and pages, from one resident mapping."""
        rc = self.lib.ref_writev(fd, self.address, self.pages)
        if rc:
            raise OSError(-rc, "the bare writev failed")

    def seconds(self, fd: int, kind: str) -> dict[str, list[float]]:
        """Of the pass, in turn; ``saves``: of our save as a whole."""
        whole: list[float] = []

        def bare() -> float:
            sinks.rewind(fd, kind)
            return timed(lambda: self.bare(fd))

        def saved_by(saver: Saver, note: Callable[[Marks], None] = lambda _: None) -> Callable[[], float]:
            def action() -> float:
                sinks.rewind(fd, kind)
                marks = saver.save(fd)
                note(marks)
                return marks.last_pass

            return action

        actions = {"bare": bare, "ours": saved_by(self.ours, lambda marks: whole.append(marks.whole))}
        if self.theirs:
            actions["theirs"] = saved_by(self.theirs)
        measured = dict(zip(actions, in_turn(self.repeats, *actions.values())))
        return {**measured, "whole": whole[1:]}


def _rows(kind: str, pages: int, seconds: dict[str, list[float]]) -> Iterator[Row]:
    scale, unit = 1e9 / pages, "ns/page"
    ours = seconds["ours"]
    if kind != "null":
        names = ("bare writev", "ours")
        what = f"to {kind}: of bare writev"
        yield compared("full", what, seconds["bare"], ours, goal=BARE, scale=scale, unit=unit, names=names)
    if "theirs" in seconds:
        names, goal = ("libxenguest", "ours"), FEWER_NS if kind == "null" else NEVER_BELOW
        what = f"to {kind}: over libxenguest"
        yield compared("full", what, seconds["theirs"], ours, goal=goal, scale=scale, unit=unit, names=names)
    yield from _info(kind, pages, ours, seconds["whole"])


def _info(kind: str, pages: int, ours: Sequence[float], whole: Sequence[float]) -> Iterator[Row]:
    rate = [pages * 4096 / x / 1e9 for x in ours]
    yield of_values("full", f"to {kind}: ours", rate, unit="GB/s")
    if kind == "null":
        beside = [(a - b) * 1e6 for a, b in zip(whole, ours)]
        yield of_values("full", "a save without its pass", beside, unit="us", note="setup, state records, tidying up")


def without_stub(pages: int, seconds: dict[str, list[float]], stub: list[float]) -> Iterator[Row]:
    """The pass to /dev/null less what the stub takes of it."""
    scale = 1e9 / pages
    yield of_values("full", "the stub's part of any pass", [x * scale for x in stub], unit="ns/page")
    part = Spread.of(stub).median
    theirs, ours = ([x - part for x in seconds[by]] for by in ("theirs", "ours"))
    what, names = "to null, less the stub's part: over libxenguest", ("libxenguest", "ours")
    yield compared("full", what, theirs, ours, scale=scale, unit="ns/page", names=names)


def run(context: Context) -> Iterator[Row]:
    """Rows for each output."""
    size = context.size("1G", "16M")
    pages = pages_of(size)
    with guest(size) as (hv, domid):
        bench = Bench(context, hv, domid, pages)
        with bench.mapping:
            for kind in sinks.KINDS:
                context.say(f"full pass of {size} to {kind}")
                with sinks.opened(kind) as fd:
                    seconds = bench.seconds(fd, kind)
                yield from _rows(kind, pages, seconds)
                if kind == "null" and context.library:
                    yield from without_stub(pages, seconds, stub_cost(context, hv, domid, pages))
