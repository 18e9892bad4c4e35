"""What following a p2m costs when it does not change: in a live save, and by the sweep alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Callable

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.guests import describe, guest, machine, pages_of
from benchmarks.measure import computed, in_turn
from benchmarks.native import reference
from benchmarks.rows import Goal, Row, compared, of_values
from benchmarks.savers import Ours

GOALS = {"the live pass": Goal(0.97), "paused": Goal(0.85)}
SWEEP = Goal(0.7)
BYTES = 12  # a pfn: its entry, and what was sent

CACHES = 128 << 20
"""More bytes than the caches of any machine here hold."""


class Sweep:
    """A guest's memory, all of it sent once, and nothing changed since."""

    def __init__(self, hv: Any, domid: int, pages: int, stack: ExitStack) -> None:
        self.ffi, self.lib = reference()
        guest_of = hv.stub.guest(domid)
        p2m = hv.map_p2m(domid, pages, [guest_of.mfn(x) for x in guest_of.leaf_pfns()])
        stack.callback(p2m.close)
        p2m.leaf_pfns()
        self.save = hv.new_save(domid, pages, p2m)
        stack.callback(self.save.close)
        self.save.follow()
        self.save.logdirty_enable()
        stack.callback(self.save.logdirty_disable)
        self._send_all(hv, stack.enter_context(sinks.opened("null")))
        self.save.logdirty_clean(False)
        if self.sweep(final=False).marked:
            raise AssertionError("the sweep found changes where there are none")
        self.words = self.ffi.new("uint64_t[]", pages * BYTES // 8)
        self.others = self.ffi.new("uint64_t[]", CACHES // 8)
        for words in (self.words, self.others):  # written: else all of it were one page of zeros
            self.ffi.memmove(words, b"\1" * (8 * len(words)), 8 * len(words))

    def _send_all(self, hv: Any, fd: int) -> None:
        sink = hv.open_sink(fd)
        self.save.mark_all()
        self.save.pass_begin(False)
        while not self.save.batches(sink, lambda: None).done:
            pass
        sink.close()

    def sweep(self, final: bool) -> Any:
        """A sweep as after a live pass, or as after the guest was suspended (``final``)."""
        return self.save.sweep(final)

    def read(self) -> None:
        """Reads once the memory that a whole sweep looks at."""
        self.lib.ref_read(self.words, len(self.words), 1)

    def seconds(self, repeats: int) -> list[list[float]]:
        """The seconds of a plain read, a whole sweep and one after suspend, in turn, with cold caches."""

        def cold(action: Callable[[], object]) -> Callable[[], float]:
            def measured() -> float:
                self.lib.ref_read(self.others, len(self.others), 1)
                return computed(action)

            return measured

        actions = (self.read, lambda: self.sweep(final=False), lambda: self.sweep(final=True))
        return in_turn(repeats, *map(cold, actions))


def _sweeps(context: Context) -> Iterator[Row]:
    size = context.size("4G", "64M")
    pages = pages_of(size)
    context.say(f"sweep of {size}")
    with guest(size) as (hv, domid), ExitStack() as stack:
        read, whole, paused = Sweep(hv, domid, pages, stack).seconds(context.repeats)
    what = f"a sweep of {size}: of a plain read of p2m and what was sent"
    yield compared("follow", what, read, whole, goal=SWEEP, names=("plain read", "ours"))
    yield of_values("follow", f"the sweep of {size} after suspend", [x * 1e6 for x in paused], unit="us")


class Saves:
    """Live saves of one guest with either setting."""

    def __init__(self, hv: Any, domid: int, fd: int) -> None:
        self.fd, self.savers = fd, [Ours(hv, domid, p2m_changes=x) for x in ("abort", "follow")]
        self.passes: list[list[float]] = [[], []]
        self.paused: list[list[float]] = [[], []]

    def save(self, i: int) -> float:
        """The processor time of a whole save."""
        seconds = computed(lambda: self.savers[i].save(self.fd, live=True))
        self.passes[i].append(self.savers[i].report.passes[0].seconds)
        self.paused[i].append(self.savers[i].marks.paused)
        return seconds

    def rows(self, what: str, repeats: int) -> Iterator[Row]:
        """Rows that compare both settings, measured in turn."""
        whole = in_turn(repeats, lambda: self.save(0), lambda: self.save(1))
        parts = {"the live pass": self.passes, "paused": self.paused, "all of it": whole}
        for part, (abort, follow) in parts.items():
            yield compared(
                "follow",
                f"{what}, {part}: abort over follow",
                abort[-repeats:],
                follow[-repeats:],
                goal=GOALS.get(part),
                names=("abort", "follow"),
            )


def _saves(context: Context) -> Iterator[Row]:
    """With mappings that cost next to nothing, and with those of an ordinary stub: an mmap() for each run of frames."""
    for size, window in ((context.size("1G", "16M"), True), (context.size("256M", "16M"), False)):
        what = f"a live save of {size}" + ("" if window else ", mappings by mmap()")
        context.say(what)
        with machine(size, window=window) as hv, sinks.opened("null") as fd:
            domid = hv.stub.create(describe(size))
            yield from Saves(hv, domid, fd).rows(what, context.repeats)
            hv.stub.destroy(domid)


def run(context: Context) -> Iterator[Row]:
    """Rows for the sweep and for whole saves."""
    yield from _sweeps(context)
    yield from _saves(context)
