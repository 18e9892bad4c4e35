"""From a dirty bitmap to pfns: the core's scan beside a loop over bits, and beside a plain read of the bitmap."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Optional

from benchmarks.context import Context
from benchmarks.measure import computed, in_turn
from benchmarks.native import reference
from benchmarks.rows import Goal, Row, compared

GIB = 1 << 18  # pfns
RUN = 64
DENSITIES = [0.0, 0.0001, 0.01, 0.1, 0.5, 1.0]
SHORTEST = 2e-3
"""In seconds. What takes less time is repeated within a measurement until it takes as long as this."""


def goal(density: float, large: bool) -> Goal:
    """The goal: how many times faster than the per-bit loop."""
    if density <= 0.0001:
        return Goal(60 if large else 100)
    return Goal({0.01: 4.0, 0.1: 5.0, 0.5: 8.0}.get(density, 1.0))


def bitmap(ffi: Any, pfns: int, density: float, runs: bool, seed: int = 1) -> Any:
    """A bitmap in which each bit, or each run of 64, is set with that probability."""
    words, rng = ffi.new("uint64_t[]", pfns // 64), random.Random(seed)
    if density in (0.0, 1.0):
        ffi.buffer(words)[:] = (b"\xff" if density else b"\0") * (pfns // 8)
    elif runs:
        for word in range(pfns // RUN):
            if rng.random() < density:
                words[word] = (1 << 64) - 1
    elif density < 0.1:
        for pfn in rng.sample(range(pfns), int(pfns * density)):
            words[pfn // 64] |= 1 << pfn % 64
    else:  # made of a piece that repeats: Python is slow, and no branch predictor knows 65536 words by heart
        piece = min(pfns // 64, 1 << 16)
        for word in range(piece):
            words[word] = sum((rng.random() < density) << bit for bit in range(64))
        content = bytes(ffi.buffer(words, piece * 8))
        ffi.buffer(words)[:] = content * (pfns // 64 // piece)
    return words


def times_for(seconds: float) -> int:
    """How often something that takes ``seconds`` must run in one measurement, to be measured well."""
    return max(1, min(100_000, int(SHORTEST / max(seconds, 1e-8))))


class Bench:
    """One bitmap."""

    def __init__(self, words: Any, pfns: int) -> None:
        from pyxcsr._stub import ffi as core_ffi
        from pyxcsr._stub import lib as core

        self.ffi, self.lib = reference()
        address = int(core_ffi.cast("uintptr_t", core_ffi.addressof(core, "xcsr_bitmap_scan")))
        self.function = self.ffi.cast("void *", address)
        self.words, self.pfns = words, pfns
        found = self.core(1)
        if found != self.bits(1):
            raise AssertionError(f"the core found {found} pfns, the loop {self.bits(1)}")

    def core(self, times: int) -> int:
        """The core's scan; how many pfns it gave."""
        return int(self.lib.ref_scan_core(self.function, self.words, self.pfns, times))

    def bits(self, times: int) -> int:
        """The loop over bits."""
        return int(self.lib.ref_scan_bits(self.words, self.pfns, times))

    def read(self, times: int) -> int:
        """All words, read once."""
        return int(self.lib.ref_read(self.words, self.pfns // 64, times))

    def seconds(self, repeats: int) -> list[list[float]]:
        """The seconds of one run of the loop over bits, the plain read and the core, in turn."""
        actions = []
        for function in (self.bits, self.read, self.core):
            function(1)
            times = times_for(computed(lambda f=function: f(1)))  # type: ignore[misc]
            actions.append(lambda f=function, n=times: computed(lambda: f(n)) / n)
        return in_turn(repeats, *actions)


def name(pfns: int) -> str:
    """A guest's size as text."""
    mib = pfns // 256
    return f"{mib} MiB" if mib < 1024 else f"{mib >> 10} GiB" if mib < 1 << 20 else f"{mib >> 20} TiB"


def _rows(context: Context, pfns: int, density: float, runs: bool) -> Iterator[Row]:
    ffi, _ = reference()
    large = pfns >= 1024 * GIB
    what = f"{name(pfns)}, {density * 100:g} %" + (f" in runs of {RUN}" if runs else "")
    context.say(f"scan {what}")
    bits, read, core = Bench(bitmap(ffi, pfns, density, runs), pfns).seconds(context.repeats)
    names = ("per-bit loop", "ours")
    yield compared("scan", f"{what}: over a per-bit loop", bits, core, goal=goal(density, large), names=names)
    if density <= 0.0001 and large:
        yield compared("scan", f"{what}: of a plain read", read, core, goal=Goal(0.7), names=("plain read", "ours"))


def run(context: Context, sizes: Optional[list[int]] = None) -> Iterator[Row]:
    """Rows for each size and density."""
    for pfns in sizes or ([GIB // 16] if context.quick else [4 * GIB, 1024 * GIB]):
        for density in DENSITIES:
            yield from _rows(context, pfns, density, runs=False)
            if density not in (0.0, 1.0):
                yield from _rows(context, pfns, density, runs=True)
