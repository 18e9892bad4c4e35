"""A full pass of a suspended guest: ours beside libxenguest's and beside a bare writev of the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.goals import FEWER_NS
from benchmarks.guests import guest, memory_of, pages_of
from benchmarks.measure import in_turn, less_stub, timed
from benchmarks.native import reference
from benchmarks.rows import Goal, Row, compared, of_values
from benchmarks.savers import Ours, Saver, Theirs

BARE = Goal(0.92)
NEVER_BELOW = Goal(1.0)
BESIDES = "setup, state records, tidying up"


class Bench:
    """One guest, its savers, and the bare write of its memory."""

    def __init__(self, context: Context, hv: Any, domid: int, pages: int) -> None:
        self.pages, self.repeats = pages, context.repeats
        self.ffi, self.lib = reference()
        self.ours = Ours(hv, domid)
        self.theirs = Theirs(hv, domid, context.library) if context.library else None
        self.mapping = memory_of(hv, domid, pages)
        self.address = self.ffi.cast("void *", int(hv._ffi.cast("uintptr_t", self.mapping._cdata)))
        self.lib.ref_touch(self.address, pages)

    def bare(self, fd: int) -> None:
        """Heads and pages, from one resident mapping."""
        rc = self.lib.ref_writev(fd, self.address, self.pages)
        if rc:
            raise OSError(-rc, "the bare writev failed")

    def seconds(self, fd: int, kind: str) -> dict[str, list[float]]:
        """The time that the pass takes, by each way in turn."""

        def bare() -> float:
            sinks.rewind(fd, kind)
            return timed(lambda: self.bare(fd))

        def saved_by(saver: Saver) -> Callable[[], float]:
            def action() -> float:
                sinks.rewind(fd, kind)
                return saver.save(fd).last_pass

            return action

        actions = {"bare": bare, "ours": saved_by(self.ours)}
        if self.theirs:
            actions["theirs"] = saved_by(self.theirs)
        return dict(zip(actions, in_turn(self.repeats, *actions.values())))

    def besides(self, fd: int) -> list[float]:
        """How long our saves take besides the pass: setup, state records, tidying up."""

        def action() -> float:
            marks = self.ours.save(fd)
            return marks.whole - marks.last_pass

        return in_turn(self.repeats, action)[0]


def _rows(kind: str, pages: int, seconds: dict[str, list[float]]) -> Iterator[Row]:
    fields: dict[str, Any] = {"scale": 1e9 / pages, "unit": "ns/page"}
    ours = seconds["ours"]
    if kind != "null":
        names = ("bare writev", "ours")
        yield compared("full", f"to {kind}: of bare writev", seconds["bare"], ours, goal=BARE, names=names, **fields)
    if "theirs" in seconds:
        names, goal = ("libxenguest", "ours"), None if kind == "null" else NEVER_BELOW
        theirs = seconds["theirs"]
        yield compared("full", f"to {kind}: over libxenguest", theirs, ours, goal=goal, names=names, **fields)
        if kind == "null":
            what = "to null, less the stub's part: over libxenguest"
            yield compared("full", what, less_stub(theirs), less_stub(ours), goal=FEWER_NS, names=names, **fields)
    rate = [pages * 4096 / x / 1e9 for x in ours]
    yield of_values("full", f"to {kind}: ours", rate, unit="GB/s")


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
                    yield from _rows(kind, pages, bench.seconds(fd, kind))
                    if kind == "null":
                        values = [x * 1e6 for x in bench.besides(fd)]
                        yield of_values("full", "a save without its pass", values, unit="us", note=BESIDES)
