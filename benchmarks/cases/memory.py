"""Memory that a save needs: how much more of this process is resident at its peak than before.

The stub is in this process, too, but what it holds for a guest is resident before. p2m and m2p are mapped from memory
that is resident already. Each size is measured once, after a small guest was saved. libxenguest maps the p2m in its own
way, so only its anonymous memory is counted, when the guest is suspended.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.guests import describe, machine, pages_of
from benchmarks.rows import Goal, Row
from benchmarks.savers import Ours, Saver, Theirs

PER_GIB, FIXED, WINDOW = 40.0, 2048.0, 16384.0
"""In KiB: the goal for each GiB of guest, for any save, and what kept mappings may take."""


def _status(*names: str) -> list[int]:
    """Fields of /proc/self/status, in KiB."""
    text = Path("/proc/self/status").read_text()
    found = dict(line.split(":") for line in text.splitlines() if ":" in line)
    return [int(found[name].split()[0]) for name in names]


def _peak(saver: Saver, fd: int) -> float:
    """By how many KiB a live save raises what is resident, at its peak."""
    anonymous = []
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, shared_before, anonymous_before = _status("VmRSS", "RssShmem", "RssAnon")
    saver.save(fd, live=True, before=lambda: anonymous.extend(_status("RssAnon")))
    peak, shared_after = _status("VmHWM", "RssShmem")
    if isinstance(saver, Theirs):
        return float(anonymous[0] - anonymous_before)
    return float(peak - before - max(0, shared_after - shared_before))


def _touched(saver: Saver, hv: Any, domid: int) -> None:
    """Touches the guest's p2m and the m2p, so that they are resident before anything is measured."""
    leaves = [saver.guest.mfn(x) for x in saver.guest.leaf_pfns()]
    with hv.map_frames(domid, leaves) as mapping:
        mapping.copy()
    hv.nr_mfns()
    for mfn in range(0, hv.nr_mfns(), 512):
        hv.m2p(mfn)


def _measure(context: Context, size: str) -> dict[str, float]:
    """The peak of each saver, in KiB."""
    with machine("16M", size) as hv, sinks.null() as fd:
        small, domid = hv.stub.create(describe("16M")), hv.stub.create(describe(size))
        found = {}
        for by in ("ours", "theirs") if context.library else ("ours",):
            savers = [Ours(hv, x) if by == "ours" else Theirs(hv, x, context.library) for x in (small, domid)]
            _touched(savers[1], hv, domid)
            savers[0].save(fd, live=True)
            found[by] = _peak(savers[1], fd)
        for guest in (small, domid):
            hv.stub.destroy(guest)
    return found


def run(context: Context) -> Iterator[Row]:
    """A row for each size."""
    sizes = ("64M", "128M") if context.quick else ("1G", "4G", "16G", "64G")
    peaks = []
    for size in sizes:
        context.say(f"memory for a save of {size}")
        found, gib = _measure(context, size), pages_of(size) / (1 << 18)
        goal = Goal(PER_GIB * gib + FIXED + WINDOW, least=False)
        figures = {"a GiB KiB": found["ours"] / gib}
        if "theirs" in found:
            figures["libxenguest KiB"] = found["theirs"]
        value = found["ours"]
        peaks.append((gib, value))
        yield Row("memory", f"peak, {size}", value, value, value, "KiB", goal, figures)
    (first, low), (last, high) = peaks[0], peaks[-1]
    slope = (high - low) / (last - first)
    what = f"each GiB, from {sizes[0]} to {sizes[-1]}"
    yield Row("memory", what, slope, slope, slope, "KiB", Goal(PER_GIB, least=False))
