"""Finding a guest's p2m through its page tables and mapping it: from the call of save() to its first batch of pages.

The guest is not saved live, so that this is all that comes before its pages; ours suspends it first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Callable

import pyxcsr
from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.guests import PAGE, describe, machine, pages_of
from benchmarks.measure import Spread, in_turn
from benchmarks.rows import Row, compared, of_values
from benchmarks.savers import SUSPENDED
from pyxcsr.hypervisor.stub.text import StubGuest

SIZES = ("1G", "4G", "16G", "64G", "256G", "512G")

FIRST = "xc_get_pfn_type_batch"
"""What either asks first of a batch of pages."""


@contextmanager
def _quiet() -> Iterator[None]:
    """libxenguest says why a save failed; here that is meant to be."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


class Bench:
    """A guest whose p2m covers so much."""

    def __init__(self, hv: Any, domid: int, library: Any) -> None:
        self.hv, self.domid, self.library = hv, domid, library

    def ours(self) -> float:
        """How long ours takes, in seconds."""

        def save(fd: int) -> None:
            with suppress(pyxcsr.HypervisorError):
                pyxcsr.save(self.hv, self.domid, fd, live=False, suspend=self._suspend)

        return self._until_pages(save)

    def theirs(self) -> float:
        """How long libxenguest takes, in seconds."""

        def suspend() -> bool:
            self._suspend()
            return True

        def save(fd: int) -> None:
            with _quiet():
                self.library.save(fd, self.domid, live=False, suspend=suspend)

        return self._until_pages(save)

    def _suspend(self) -> None:
        self.hv.stub.guest(self.domid).shut_down(SUSPENDED)

    def _until_pages(self, save: Callable[[int], None]) -> float:
        """The save ends when it asks about the first pages."""
        self.hv.stub.fail(FIRST, 1)
        self.hv.stub.clear_calls()
        begun = time.monotonic()
        with sinks.null() as fd:
            save(fd)
        self.hv.stub.clear_failures()
        assert self.hv.stub.calls()[FIRST] == 1, "the save went on"
        if self.hv.domain_info(self.domid).suspended:
            self.hv.domain_resume(self.domid)
        return float(self.hv.stub.entered(FIRST)[0]) - begun


def _guest(span: str) -> StubGuest:
    """A guest whose memory lies in pieces of 2 MiB all over ``span``, with room for the p2m (1 in 512) twice."""
    nr_bytes = max(64 << 20, pages_of(span) * 16) >> 21 << 21
    if nr_bytes >= pages_of(span) * PAGE:
        return describe(span)
    return describe(str(nr_bytes), span=span, share_invalid=False, filled=False)


def run(context: Context) -> Iterator[Row]:
    """A row for each size."""
    for span in ("64M", "1G") if context.quick else SIZES:
        context.say(f"p2m of {span}")
        guest = _guest(span)
        with machine(span, frames=guest.mem // PAGE * 5 // 4 + (1 << 16), backed=0) as hv:
            domid = hv.stub.create(guest)
            bench = Bench(hv, domid, context.library)
            yield from _rows(span, bench, context)
            hv.stub.destroy(domid)


def _rows(span: str, bench: Bench, context: Context) -> Iterator[Row]:
    what, per_gib = f"{span}: walked and mapped", 1e6 * (1 << 18) / pages_of(span)
    if not context.library:
        (ours,) = in_turn(context.repeats, bench.ours)
        yield of_values("p2m", f"{what}: ours", [x * 1e6 for x in ours], unit="us")
        return
    ours, theirs = in_turn(context.repeats, bench.ours, bench.theirs)
    note = f"ours {Spread.of(ours).median * per_gib:.0f} us a GiB of pfns"
    names = ("libxenguest", "ours")
    yield compared("p2m", f"{what}: over libxenguest", theirs, ours, names=names, note=note)
