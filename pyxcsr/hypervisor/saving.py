"""Saving a domain through libxenctrl: the passes, and the stream's way out. Part of the backend."""

from __future__ import annotations

from pyxcsr.errors import OutputError, UsageError
from pyxcsr.hypervisor.core import WAIT_MS, Child
from pyxcsr.hypervisor.faults import E_OUTPUT
from pyxcsr.hypervisor.interface import BatchResult, LookResult, SweepResult, Trial
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Optional

    from pyxcsr.hypervisor.core import Core
    from pyxcsr.hypervisor.ending import Plan
    from pyxcsr.hypervisor.interface import Again, EndPlan, EndResult, SinkHandle

BATCHES_US = 20_000
"""For how long batches follow each other in C, in microseconds, before Python looks at signals and cancellation."""


class Sink(Child):
    """The stream's way out."""

    over = "this output has been closed"

    def __init__(self, backend: Core, fd: int) -> None:
        out, why = backend._ffi.new("xcsr_sink **"), backend._ffi.new("xcsr_error *")
        if backend._lib.xcsr_sink_open(fd, WAIT_MS, out, why):
            text = backend._text(why.text)
            raise OutputError(f"cannot write the stream: {text}", errno=why.err, offset=0)
        super().__init__(backend, out[0])

    @property
    def offset(self) -> int:
        return int(self._backend._lib.xcsr_sink_offset(self._live()))

    def durable(self, expected: int) -> None:
        self._backend._lib.xcsr_sink_durable(self._live(), expected)

    def limit(self, bytes_per_second: Optional[int]) -> None:
        self._backend._lib.xcsr_sink_limit(self._live(), bytes_per_second or 0)

    @property
    def seconds_held(self) -> float:
        return int(self._backend._lib.xcsr_sink_held_us(self._live())) / 1e6

    @property
    def seconds_waited(self) -> float:
        return int(self._backend._lib.xcsr_sink_waited_us(self._live())) / 1e6

    @property
    def room(self) -> Optional[int]:
        return int(self._backend._lib.xcsr_sink_room(self._live())) or None

    def write(self, data: bytes, again: Again) -> None:
        lib, sink = self._backend._lib, self._live()
        pinned = self._backend._ffi.from_buffer("char[]", data)  # alive until the last byte is out
        rc = lib.xcsr_sink_write(sink, pinned, len(data))
        while rc == lib.XCSR_AGAIN:
            again()
            rc = lib.xcsr_sink_flush(sink)
        if rc:
            raise self._backend._exception(lib.xcsr_sink_error(sink), {"offset": self.offset})

    def _free(self, cdata: Any) -> None:
        self._backend._lib.xcsr_sink_close(cdata)


def _batch_result(out: Any) -> BatchResult:
    return BatchResult(
        bool(out.done),
        out.nr_batches,
        out.nr_pfns,
        out.nr_pages,
        out.nr_holes,
        out.nr_deferred,
        out.nr_tables,
        out.nr_ahead,
        out.nr_bytes,
        out.next_pfn,
        out.busy_us / 1e6,
        out.unmapping_us / 1e6,
    )


def _sweep_result(out: Any) -> SweepResult:
    return SweepResult(*(int(getattr(out, field)) for field in SweepResult._fields))


class Save(Child):
    """One save's state in C."""

    over = "this save is over"

    def __init__(self, backend: Core, cdata: Any, domid: int) -> None:
        super().__init__(backend, cdata, domid=domid)
        self._result = backend._ffi.new("xcsr_batch_result *")
        self._plan: Optional[Plan] = None
        self._end_result: Any = None
        self._trial: Any = None

    def without_ordinary(self) -> None:
        """From now on each pfn of a batch is looked at by itself, also where all is as usual."""
        self._call(self._backend._lib.xcsr_without_ordinary)

    def with_holes(self) -> None:
        """From now on each gfn without a page has an entry."""
        self._call(self._backend._lib.xcsr_with_holes)

    def without_rows(self) -> None:
        """The same for what is remembered of pfns in a row."""
        self._call(self._backend._lib.xcsr_without_rows)

    def logdirty_enable(self) -> bool:
        return bool(self._number(self._backend._lib.xcsr_logdirty_enable, "uint32_t *"))

    def logdirty_disable(self) -> None:
        self._call(self._backend._lib.xcsr_logdirty_disable)

    def logdirty_clean(self, final: bool) -> int:
        return self._number(self._backend._lib.xcsr_logdirty_clean, "uint64_t *", final)

    def logdirty_count(self) -> int:
        return self._number(self._backend._lib.xcsr_logdirty_count, "uint64_t *")

    def count_runs(self) -> int:
        return int(self._backend._lib.xcsr_count_runs(self._live()))

    def mark_all(self) -> None:
        self._call(self._backend._lib.xcsr_mark_all)

    def mark_data(self) -> int:
        return self._number(self._backend._lib.xcsr_mark_data, "uint64_t *")

    def written(self, mfns: Sequence[int]) -> bool:
        return bool(self._number(self._backend._lib.xcsr_written, "uint32_t *", len(mfns), self._backend._frames(mfns)))

    def merge_deferred(self) -> int:
        return self._number(self._backend._lib.xcsr_merge_deferred, "uint64_t *")

    def follow(self) -> None:
        self._call(self._backend._lib.xcsr_follow)

    def sweep(self, final: bool) -> SweepResult:
        out = self._backend._ffi.new("xcsr_sweep_result *")
        self._call(self._backend._lib.xcsr_sweep, final, out)
        return _sweep_result(out)

    @property
    def nr_pfns(self) -> int:
        return int(self._backend._lib.xcsr_save_nr_pfns(self._live()))

    def has_data(self, pfn: int) -> bool:
        return bool(self._backend._lib.xcsr_save_has_data(self._live(), pfn))

    def broken(self, most: int) -> tuple[int, list[int]]:
        nr, pfns = self._backend._ffi.new("uint64_t *"), self._backend._ffi.new("uint64_t[]", most)
        self._call(self._backend._lib.xcsr_save_broken, most, pfns, nr)
        return int(nr[0]), list(pfns[0 : min(most, int(nr[0]))])

    def watch_pages(self) -> int:
        return self._number(self._backend._lib.xcsr_watch_pages, "uint64_t *")

    def look_at_physmap(self, again: Again) -> LookResult:
        lib, ffi = self._backend._lib, self._backend._ffi
        at, out = ffi.new("uint64_t *", 0), ffi.new("xcsr_look_result *")
        totals = [0, 0, 0, 0]
        while not out.done:
            if at[0]:
                again()
            self._call(lib.xcsr_physmap_look, at, BATCHES_US, out)
            totals = [x + int(getattr(out, field)) for x, field in zip(totals, LookResult._fields)]
        return LookResult(*totals)

    def grow(self, nr_pfns: int) -> None:
        self._call(self._backend._lib.xcsr_save_grow, nr_pfns)

    def map_ahead(self, wanted: Optional[bool]) -> None:
        lib = self._backend._lib
        how = {True: lib.XCSR_AHEAD_ALWAYS, False: lib.XCSR_AHEAD_NEVER, None: lib.XCSR_AHEAD_MEASURED}
        self._call(lib.xcsr_map_ahead, how[wanted])

    def pass_begin(self, suspended: bool) -> None:
        self._call(self._backend._lib.xcsr_pass_begin, suspended)

    def paused(self) -> None:
        self._call(self._backend._lib.xcsr_paused)

    def goes_on(self) -> None:
        self._call(self._backend._lib.xcsr_goes_on)

    def batches(self, sink: SinkHandle, again: Again) -> BatchResult:
        lib, out, to = self._backend._lib, self._result, self._sink(sink)
        rc = lib.xcsr_batches(self._live(), to, BATCHES_US, out)
        while rc == lib.XCSR_AGAIN:
            again()
            rc = lib.xcsr_batches(self._live(), self._sink(sink), BATCHES_US, out)
        if rc:
            self._backend._check(rc, offset=sink.offset, **self._facts)
        return _batch_result(out)

    def prepare_end(self, plan: EndPlan) -> None:
        from pyxcsr.hypervisor.ending import Plan

        made = Plan(self._backend, plan)
        self._call(self._backend._lib.xcsr_prepare_end, made.cdata)
        self._plan, self._end_result = made, self._backend._ffi.new("xcsr_end_result *")
        self._trial = self._backend._ffi.new("xcsr_trial *")
        lib = self._backend._lib
        # so that the guest does not wait for that, and the rehearsal is not longer by it
        for name in ("xcsr_rehearse_end", "xcsr_end", "XCSR_AGAIN", "xcsr_logdirty_disable"):
            getattr(lib, name)

    def rehearse_end(self, again: Again, with_bitmap: bool, pages: int, to_pipe: bool) -> Trial:
        lib, trial = self._backend._lib, self._trial
        trial.nr_pages, trial.to_pipe, trial.us = pages, to_pipe, 0
        rc = lib.xcsr_rehearse_end(self._live(), with_bitmap, trial)
        while rc == lib.XCSR_AGAIN:
            again()
            rc = lib.xcsr_rehearse_end(self._live(), with_bitmap, trial)
        self._backend._check(rc, **self._facts)
        return Trial(int(trial.nr_pages), trial.us / 1e6, trial.all_us / 1e6)

    def end(self, sink: SinkHandle, again: Again) -> int:
        lib, out, to = self._backend._lib, self._end_result, self._sink(sink)
        rc = lib.xcsr_end(self._live(), to, BATCHES_US, out)
        while rc == lib.XCSR_AGAIN:
            again()
            rc = lib.xcsr_end(self._live(), to, BATCHES_US, out)
        if rc:
            at_output = lib.xcsr_error_of(self._backend._h).kind == E_OUTPUT
            where = {"offset": sink.offset} if out.in_pass or at_output else {}
            self._backend._check(rc, **where, **self._facts)
        return int(out.reached)

    @property
    def end_reached(self) -> int:
        return int(self._end_result.reached)

    @property
    def end_complete_at(self) -> int:
        return int(self._end_result.complete_at)

    @property
    def ending(self) -> EndResult:
        from pyxcsr.hypervisor.ending import end_result

        out = self._end_result
        return end_result(out, _sweep_result(out.sweep), _batch_result(out.batches))

    def _sink(self, sink: SinkHandle) -> Any:
        if not isinstance(sink, Sink) or sink._backend is not self._backend:
            raise UsageError("this output belongs to another hypervisor handle")
        return sink._live()

    def _free(self, cdata: Any) -> None:
        self._backend._lib.xcsr_save_free(cdata)
