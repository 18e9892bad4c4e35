"""Python's own time: for each batch of a full pass, and while the guest is suspended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, Callable

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.guests import describe, guest, machine, pages_of
from benchmarks.measure import Spread, in_turn, timed
from benchmarks.native import reference
from benchmarks.rows import Goal, Row, of_values
from benchmarks.savers import Ours
from benchmarks.switched import Dirtier, SwitchedOurs, anywhere
from pyxcsr.hypervisor.library import Library

A_BATCH, OF_A_PASS, PAUSED = (Goal(x, least=False) for x in (5.0, 1.0, 50.0))
BATCH = 1024


class BareBatches:
    """All batches of a full pass in one loop in C."""

    def __init__(self, hv: Any, domid: int, pages: int, stack: ExitStack) -> None:
        from pyxcsr._stub import ffi as core_ffi
        from pyxcsr._stub import lib as core

        self.ffi, self.lib = reference()
        self._core_ffi, self._core = core_ffi, core
        control = hv.stub.guest(domid)
        leaves = [control.mfn(x) for x in control.leaf_pfns()]
        p2m = stack.enter_context(closing(hv.map_p2m(domid, pages, leaves)))
        self.save: Any = stack.enter_context(closing(hv.new_save(domid, pages, p2m)))
        self.result, self.count = self.ffi.new("uint32_t[]", 64), self.ffi.new("uint64_t *")
        self.sinks = stack

    def _pointer(self, thing: Any) -> Any:
        return self.ffi.cast("void *", int(self._core_ffi.cast("uintptr_t", thing)))

    def __call__(self, sink: Any) -> None:
        """One full pass."""
        self.save.mark_all()
        self.save.pass_begin(False)
        function = self._pointer(self._core_ffi.addressof(self._core, "xcsr_batch"))
        save, out = self._pointer(self.save._cdata), self._pointer(sink._cdata)
        rc = self.lib.ref_batches(function, save, out, self.result, self.count)
        assert rc == 0, rc


def batches(context: Context) -> Iterator[Row]:
    """Python's time for each batch of a full pass."""
    size = context.size("1G", "16M")
    pages = pages_of(size)
    with guest(size) as (hv, domid), ExitStack() as stack:
        bare, saver = BareBatches(hv, domid, pages, stack), Ours(hv, domid)
        fd, socket = stack.enter_context(sinks.null()), stack.enter_context(sinks.socketpair())
        sink = stack.enter_context(closing(hv.open_sink(fd)))
        context.say(f"Python's time in a full pass of {size}")
        in_c, with_python, to_socket = in_turn(
            context.repeats,
            lambda: timed(lambda: bare(sink)),
            lambda: saver.save(fd).last_pass,
            lambda: saver.save(socket).last_pass,
        )
    spent = [b - a for a, b in zip(in_c, with_python)]
    figures = {"in C us": Spread.of(in_c).median * 1e6, "with Python us": Spread.of(with_python).median * 1e6}
    count = pages / BATCH
    note = f"of a pass to /dev/null, {count:.0f} batches"
    each = [x * 1e6 / count for x in spent]
    yield of_values("python", "a batch", each, unit="us", goal=A_BATCH, figures=figures, note=note)
    share = [100 * x / y for x, y in zip(spent, to_socket)]
    yield of_values("python", "of a full pass to a socket", share, unit="%", goal=OF_A_PASS)


class Names:
    """Has these names, as a module has."""

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

    def overhead(self) -> float:
        """What timing adds to a call, in seconds, outside what it notes."""
        kept, count = self.calls[:], 20_000
        plain: Callable[[], Any] = list
        noted = self.timing(plain)
        bare = timed(lambda: [plain() for _ in range(count)])
        both = timed(lambda: [noted() for _ in range(count)])
        inside = sum(x for _, x in self.calls[len(kept) :])
        self.calls[:] = kept
        return max(0.0, (both - bare - inside) / count)


def paused(context: Context) -> Iterator[Row]:
    """Python's time while a guest is suspended, 50 pages dirty."""
    from pyxcsr._stub import lib as core

    size, clock = context.size("4G", "64M"), Clock()
    with machine(size) as hv, sinks.socketpair() as fd:
        hv._lib = clock.library(core)
        domid = hv.stub.create(describe(size))
        saver = SwitchedOurs(hv, domid)
        dirtier = Dirtier(saver.guest, anywhere(saver.guest, size, 50))
        context.say(f"Python's time with {size} suspended")
        overhead, counts, in_c = clock.overhead(), [], []

        def action() -> float:
            clock.calls.clear()
            marks = saver.switched(fd, dirtier)
            mine = [x for x in clock.calls if marks.suspended <= x[0] < marks.complete]
            complete = sum(x for begin, x in mine if begin + x <= marks.complete)
            counts.append(len(mine))
            in_c.append(complete)
            return marks.paused - complete - overhead * len(mine)

        (spent,) = in_turn(context.repeats, action)
        hv.stub.destroy(domid)
    figures = {"in C us": Spread.of(in_c[1:]).median * 1e6, "calls into C -": float(max(counts))}
    values = [x * 1e6 for x in spent]
    yield of_values("python", "while the guest is suspended", values, unit="us", goal=PAUSED, figures=figures)


def run(context: Context) -> Iterator[Row]:
    """Rows."""
    yield from batches(context)
    yield from paused(context)
