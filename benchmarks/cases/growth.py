"""How time grows: scanning with the guest's size; the paused phase with the dirty pages, not with size times pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Callable

from benchmarks import sinks
from benchmarks.cases.scan import GIB, Bench, bitmap, name
from benchmarks.context import Context
from benchmarks.guests import describe, machine, memory_of, pages_of
from benchmarks.measure import Spread, in_turn, timed
from benchmarks.native import reference
from benchmarks.rows import Goal, Row, of_values
from benchmarks.switched import Dirtier, SwitchedOurs, anywhere

LINEAR, NO_PRODUCT, LIKE_BARE = (Goal(x, least=False) for x in (1.1, 1.15, 1.1))
FEW = 50


def scan(context: Context) -> Iterator[Row]:
    """How many times longer a pfn takes in a large bitmap than in a small one, compared with a plain read of both."""
    ffi, _ = reference()
    small, large = (GIB // 16, GIB) if context.quick else (64 * GIB, 1024 * GIB)
    context.say(f"growth of the scan from {name(small)} to {name(large)}")
    times: dict[int, list[list[float]]] = {}
    for pfns in (small, large):
        times[pfns] = Bench(bitmap(ffi, pfns, 0.0001, False), pfns).seconds(context.repeats)
    scale = large / small
    core = [b / a / scale for a, b in zip(times[small][2], times[large][2])]
    read = [b / a / scale for a, b in zip(times[small][1], times[large][1])]
    figures = {"a plain read x": Spread.of(read).median}
    what = f"scan, a pfn, {name(large)} to {name(small)}"
    yield of_values("growth", what, core, figures=figures, note="caches end between the two sizes")
    beside = [x / y for x, y in zip(core, read)]
    yield of_values("growth", f"{what}: over that of a plain read", beside, goal=LINEAR)


class Guest:
    """One guest, and saves of it with pages dirtied."""

    def __init__(self, hv: object, domid: int, size: str, fd: int) -> None:
        self.saver, self._size, self._fd = SwitchedOurs(hv, domid), size, fd

    def action(self, dirty: int) -> Callable[[], float]:
        """A save with ``dirty`` pages dirty, which returns the seconds paused."""
        dirtier = Dirtier(self.saver.guest, anywhere(self.saver.guest, self._size, dirty))
        return lambda: self.saver.switched(self._fd, dirtier).paused


def paused(context: Context) -> Iterator[Row]:
    """How long a dirty page takes in a large guest: compared with a small guest, and with a bare write of the page."""
    small, large = ("64M", "256M") if context.quick else ("4G", "32G")
    many = 2000 if context.quick else 10000
    context.say(f"growth of the paused phase: {small} and {large}, {FEW} and {many} pages")
    with machine(small, large) as hv, ExitStack() as stack:
        null, socket = stack.enter_context(sinks.null()), stack.enter_context(sinks.socketpair())
        domids = [hv.stub.create(describe(x, filled=False)) for x in (small, large)]
        guests = [Guest(hv, domid, size, null) for domid, size in zip(domids, (small, large))]
        bare = stack.enter_context(Bare(hv, domids[0], small, socket))
        actions = [guest.action(dirty) for guest in guests for dirty in (FEW, many)]
        a, b, c, d = in_turn(context.repeats, *actions)
        to_socket = Guest(hv, domids[0], small, socket)
        both = [x.action(dirty) for x in (to_socket, bare) for dirty in (FEW, many)]
        e, f, g, h = in_turn(context.repeats, *both)
        stack.close()
        for domid in domids:
            hv.stub.destroy(domid)
    names = (f"{small} ns", f"{large} ns")
    what = f"a dirty page to /dev/null, {large} to {small}"
    yield _page_row(what, names, _each(many, c, d), _each(many, a, b), NO_PRODUCT)
    names = ("bare writev ns", "ours ns")
    what = f"a dirty page of {small} to a socket, to bare writev"
    yield _page_row(what, names, _each(many, e, f), _each(many, g, h), LIKE_BARE)


def _each(many: int, few_seconds: list[float], many_seconds: list[float]) -> list[float]:
    """How many seconds each further dirty page takes."""
    return [(y - x) / (many - FEW) for x, y in zip(few_seconds, many_seconds)]


def _page_row(what: str, names: tuple[str, str], ours: list[float], other: list[float], goal: Goal) -> Row:
    figures = {name: Spread.of(x).median * 1e9 for name, x in zip(names, (other, ours))}
    return of_values("growth", what, [x / y for x, y in zip(ours, other)], goal=goal, figures=figures)


class Bare:
    """Bare writes of pages, for comparison."""

    def __init__(self, hv: object, domid: int, size: str, fd: int) -> None:
        self._ffi, self._lib = reference()
        self._mapping = memory_of(hv, domid, pages_of(size))
        address = int(self._mapping._backend._ffi.cast("uintptr_t", self._mapping._cdata))
        self._address, self._fd = self._ffi.cast("void *", address), fd
        from benchmarks.savers import Saver

        self._guest, self._size = Saver(hv, domid).guest, size

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *exc: object) -> None:
        self._mapping.close()

    def action(self, dirty: int) -> Callable[[], float]:
        """Writes ``dirty`` pages, and returns the seconds."""
        numbers = self._ffi.new("uint64_t[]", anywhere(self._guest, self._size, dirty))
        return lambda: timed(lambda: self._lib.ref_writev_pages(self._fd, self._address, numbers, dirty))


def run(context: Context) -> Iterator[Row]:
    """Rows for the scan, and for the paused phase."""
    yield from scan(context)
    yield from paused(context)
