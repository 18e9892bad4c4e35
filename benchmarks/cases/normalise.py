"""Normalising page tables: the core beside a loop that takes one entry after the other."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.context import Context
from benchmarks.guests import PAGE, describe, machine, pages_of
from benchmarks.measure import computed, in_turn
from benchmarks.native import reference
from benchmarks.rows import Goal, Row, compared
from pyxcsr.frames import PageType

DOMID_XEN = 0x7FF2
ENTRIES = 512
TABLES = 1024  # a batch
XEN_LOW = 512  # the m2p's frames begin there (csrc/stub/machine/machine.c)
FRIENDLY, SCATTERED, NEVER_SLOWER = Goal(1.4), Goal(2.5), Goal(1.0)
USER = 0x67
EMPTY = "empty tables"


class Bench:
    """A guest, its p2m and the m2p mapped for both ways."""

    def __init__(self, hv: Any, domid: int, nr_pfns: int, stack: ExitStack) -> None:
        from pyxcsr._stub import ffi as core_ffi
        from pyxcsr._stub import lib as core

        self.ffi, self.lib = reference()
        self.guest, self.nr_pfns, self.nr_mfns = hv.stub.guest(domid), nr_pfns, hv.nr_mfns()
        leaves = [self.guest.mfn(x) for x in self.guest.leaf_pfns()]
        self.core_p2m = stack.enter_context(closing(hv.map_p2m(domid, nr_pfns, leaves)))
        self.p2m = self._words(hv, stack.enter_context(hv.map_frames(domid, leaves)))
        self.m2p = self._words(hv, stack.enter_context(hv.map_frames(DOMID_XEN, m2p_frames(self.nr_mfns))))
        self._check(hv)
        self.arena, self.last = self.ffi.new("uint64_t[]", TABLES * ENTRIES), self.ffi.new("uint64_t[]", ENTRIES)
        self.function = self._pointer(core_ffi.cast("uintptr_t", core_ffi.addressof(core, "xcsr_normalise")))
        self.handle = self._pointer(core_ffi.cast("uintptr_t", self.core_p2m._cdata))

    def _pointer(self, number: Any) -> Any:
        return self.ffi.cast("void *", int(number))

    def _words(self, hv: Any, mapping: Any) -> Any:
        return self.ffi.cast("uint64_t *", int(hv._ffi.cast("uintptr_t", mapping._cdata)))

    def _check(self, hv: Any) -> None:
        """Asserts that the tables are what they are taken for."""
        for pfn in (0, self.nr_pfns // 3, self.nr_pfns - 1):
            mfn = self.guest.mfn(pfn)
            assert self.p2m[pfn] == mfn and self.m2p[mfn] == pfn == hv.m2p(mfn)

    def own_tables(self) -> Any:
        """Of the guest's direct map: consecutive pfns."""
        pfns = self.guest.pfns_of_type(PageType.L1TAB)
        pages = (self.guest.read_page(x) for x in pfns[: TABLES + 64])
        full = [page for page in pages if all(array("Q", page))]
        content = b"".join((full * TABLES)[:TABLES])
        return self.ffi.from_buffer("uint64_t[]", bytearray(content))

    def random_tables(self) -> Any:
        """Entries of pages anywhere in the guest."""
        rng, words = random.Random(5), array("Q", bytes(TABLES * PAGE))
        for i in range(TABLES * ENTRIES):
            words[i] = self.p2m[rng.randrange(self.nr_pfns)] << 12 | USER
        return self.ffi.from_buffer("uint64_t[]", words)

    def empty_tables(self) -> Any:
        """Tables without a present entry."""
        return self.ffi.new("uint64_t[]", TABLES * ENTRIES)

    def core(self, tables: Any) -> None:
        """The core, on all of them."""
        rc = self.lib.ref_normalise_core(self.function, self.handle, 1, tables, TABLES, self.arena)
        assert rc == 0, rc

    def plain(self, tables: Any) -> None:
        """One entry after the other."""
        args = (self.m2p, self.nr_mfns, self.p2m, self.nr_pfns, 1, tables, TABLES, self.last)
        rc = self.lib.ref_normalise_plain(*args)
        assert rc == 0, rc

    def compare(self, tables: Any, repeats: int) -> tuple[list[float], list[float]]:
        """Seconds a table: plain, core."""
        self.core(tables)
        self.plain(tables)
        offset = (TABLES - 1) * ENTRIES
        assert self.ffi.unpack(self.arena + offset, ENTRIES) == self.ffi.unpack(self.last, ENTRIES)
        ways = (self.plain, self.core)
        plain, core = in_turn(repeats, *(lambda way=x: computed(lambda: way(tables)) for x in ways))
        return [x / TABLES for x in plain], [x / TABLES for x in core]


def m2p_frames(nr_mfns: int) -> list[int]:
    """The frames of the stub's m2p, in order: chunks of 2 MiB, the last one first."""
    chunks = -(-nr_mfns * 8 // (2 << 20))
    return [XEN_LOW + (chunks - 1 - i) * ENTRIES + page for i in range(chunks) for page in range(ENTRIES)]


def layout(context: Context, what: str, goal: Goal, **order: Any) -> Iterator[Row]:
    """Rows for a machine that hands out its frames in such an order; the guest has half of it."""
    size = context.size("32G", "128M")
    context.say(f"normalise: {what}")
    with machine(size, frames=2 * pages_of(size) + (1 << 15), backed=0, **order) as hv, ExitStack() as stack:
        domid = hv.stub.create(describe(size, packed=False, filled=False))
        stack.callback(hv.stub.destroy, domid)
        bench = Bench(hv, domid, pages_of(size), stack)
        kinds = [("consecutive pfns", bench.own_tables()), ("pages anywhere", bench.random_tables())]
        if goal is SCATTERED:
            kinds.append((EMPTY, bench.empty_tables()))
        for kind, tables in kinds:
            plain, core = bench.compare(tables, context.repeats)
            title, limit = (kind, NEVER_SLOWER) if kind == EMPTY else (f"{what}, {kind}", goal)
            yield compared("normalise", title, plain, core, goal=limit, unit="us/table", names=("one by one", "ours"))


def run(context: Context) -> Iterator[Row]:
    """Rows for machines whose frames are in runs, and scattered."""
    yield from layout(context, "frames in runs of 2 MiB", FRIENDLY, seed=1, extent_order=9)
    yield from layout(context, "scattered frames", SCATTERED, seed=1)
