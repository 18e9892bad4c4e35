"""A pass over a tenth of the guest, suspended: single pages anywhere, and runs of 64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.guests import guest, memory_of, pages_of
from benchmarks.measure import in_turn, timed
from benchmarks.native import reference
from benchmarks.rows import Row, compared
from benchmarks.savers import Marks
from benchmarks.switched import Dirtier, SwitchedOurs, SwitchedTheirs, anywhere

RUN = 64
KINDS = ("null", "socketpair", "tmpfs")


class Bench:
    """One guest with some of its pages dirtied."""

    def __init__(self, context: Context, hv: Any, domid: int, pages: int) -> None:
        self.ffi, self.lib = reference()
        self.repeats = context.repeats
        self.ours = SwitchedOurs(hv, domid)
        self.theirs = SwitchedTheirs(hv, domid, context.library) if context.library else None
        self.mapping = memory_of(hv, domid, pages)
        self.address = self.ffi.cast("void *", int(hv._ffi.cast("uintptr_t", self.mapping._cdata)))

    def seconds(self, fd: int, kind: str, pfns: Sequence[int]) -> dict[str, list[float]]:
        """The time that the pass takes, by each saver in turn."""
        dirtier, numbers = Dirtier(self.ours.guest, pfns), self.ffi.new("uint64_t[]", list(pfns))

        def bare() -> float:
            sinks.rewind(fd, kind)
            return timed(lambda: self.lib.ref_writev_pages(fd, self.address, numbers, len(pfns)))

        def saved_by(saver: Any) -> Callable[[], float]:
            def action() -> float:
                sinks.rewind(fd, kind)
                marks: Marks = saver.switched(fd, dirtier)
                return marks.last_pass

            return action

        actions = {"bare": bare, "ours": saved_by(self.ours)}
        if self.theirs:
            actions["theirs"] = saved_by(self.theirs)
        return dict(zip(actions, in_turn(self.repeats, *actions.values())))


def _rows(what: str, kind: str, pages: int, seconds: dict[str, list[float]]) -> Iterator[Row]:
    fields: dict[str, Any] = {"scale": 1e9 / pages, "unit": "ns/page"}
    if kind != "null":
        names = ("bare writev", "ours")
        title = f"{what} to {kind}: of bare writev"
        yield compared("sparse", title, seconds["bare"], seconds["ours"], names=names, **fields)
    if "theirs" in seconds:
        names = ("libxenguest", "ours")
        title = f"{what} to {kind}: over libxenguest"
        yield compared("sparse", title, seconds["theirs"], seconds["ours"], names=names, **fields)


def run(context: Context) -> Iterator[Row]:
    """Rows for both kinds of pages and each output."""
    size = context.size("1G", "64M")
    pages = pages_of(size)
    with guest(size) as (hv, domid):
        bench = Bench(context, hv, domid, pages)
        with bench.mapping:
            for what, run_length in (("10 % anywhere", 1), (f"10 % in runs of {RUN}", RUN)):
                pfns = anywhere(bench.ours.guest, size, pages // 10, run_length)
                for kind in KINDS:
                    context.say(f"sparse pass, {what}, to {kind}")
                    with sinks.opened(kind) as fd:
                        yield from _rows(what, kind, len(pfns), bench.seconds(fd, kind, pfns))
