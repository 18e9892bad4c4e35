"""PVH guests: a full pass, the paused phase, a restore, and calls to Xen, beside libxenguest's.

HVM guests take the same way through both savers; what differs is a device model, which is no matter of speed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.context import Context
from benchmarks.guests import pages_of
from benchmarks.kinds import Kind, rows
from benchmarks.rows import Row
from pyxcsr.hypervisor.stub.text import StubGuest


def _dirtied(_guest: Any, size: str, count: int) -> list[int]:
    step = pages_of(size) // 4 // count
    return [512 + i * step for i in range(count)]


PVH = Kind("hvm", "pvh", "PVH", lambda size: StubGuest.pvh(mem=size, writer="none"), _dirtied)


def run(context: Context) -> Iterator[Row]:
    """Rows for PVH guests."""
    yield from rows(PVH, context)
