"""32-bit PV guests: a full pass, the paused phase, a restore, and calls to Xen, beside libxenguest's."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.context import Context
from benchmarks.kinds import Kind, rows
from benchmarks.rows import Row
from benchmarks.switched import anywhere
from pyxcsr.hypervisor.stub.text import StubGuest

FIELDS = {"writer": "none", "packed": True, "fixmap": False}
PV32 = Kind("pv32", "pv32", "32-bit PV", lambda size: StubGuest.pv32(mem=size, **FIELDS), anywhere)


def run(context: Context) -> Iterator[Row]:
    """Rows for 32-bit PV guests."""
    yield from rows(PV32, context)
