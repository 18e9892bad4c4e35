"""What a person sees of a guest's dirty rate: the curve, where in its memory it writes, what a save would come to."""

from __future__ import annotations

from collections.abc import Sequence

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.measure.predict import Prediction
from pyxcsr.measure.result import DirtyRate
from pyxcsr.units import format_seconds, format_size

MIB = 1 << 20
SHOWN = 8
"""Rows at most of the ranges of pfns, those with the most dirty pages."""

BAR = 24


def told(found: DirtyRate, predictions: Sequence[Prediction]) -> str:
    """All of it as text."""
    lines = [*_summary(found), "", *_windows(found), "", *_ranges(found), "", *_predictions(predictions)]
    return "\n".join([*lines, *(f"warning: {x}" for x in found.warnings)])


def _summary(found: DirtyRate) -> list[str]:
    rate = found.pages_per_second
    share = 100 * found.distinct / max(found.tot_pages, 1)
    lines = [
        f"domain {found.domid}: {rate:.0f} pages a second ({rate * PAGE_SIZE / MIB:.1f} MiB/s)",
        f"measured for {found.seconds:.1f} s with {found.bitmaps} bitmaps, of {1000 * found.fetch_seconds:.2f} ms each",
        f"dirtied at all: {found.distinct} of {found.tot_pages} pages ({share:.1f}%)",
    ]
    if found.steady is not None:
        each = "second" if found.period == 1 else format_seconds(found.period)
        lines[-1] += f"; in each {each}: {found.steady}"
    if found.ended_by is not None:
        lines.append(f"note: it ended before its time: {found.ended_by}")
    if found.taken_over:
        lines.append("note: its writes had been tracked already, and that was begun anew")
    return lines


def _windows(found: DirtyRate) -> list[str]:
    head = "Each page counts once in a window, however often it is written there:"
    rows = [f"{'window':>9} {'windows':>8} {'pages':>10} {'most':>9} {'pages/s':>9}"]
    for row in found.windows:
        rate = row.pages / row.seconds
        rows.append(
            f"{format_seconds(row.seconds):>9} {row.windows:>8} {row.pages:>10.1f} {row.most:>9} {rate:>9.0f}"
        )
    return [head, *rows]


def _ranges(found: DirtyRate) -> list[str]:
    """The fullest ranges, in the order of their pfns."""
    full = sorted(range(len(found.ranges)), key=lambda i: -found.ranges[i])[:SHOWN]
    rows = [i for i in sorted(full) if found.ranges[i]]
    most = max(found.ranges, default=0) or 1
    size = format_size(found.per_range * PAGE_SIZE)
    used = sum(x > 0 for x in found.ranges)
    lines = [f"Where: pages in ranges of {size}; {used} of {len(found.ranges)} have some, the fullest {len(rows)}:"]
    for i in rows:
        first, pages = i * found.per_range, found.ranges[i]
        bar = "#" * (BAR * pages // most)
        lines.append(f"  pfn {first:#10x} {pages:>8} {100 * pages / found.per_range:>5.1f}% {bar}")
    return lines


def _predictions(predictions: Sequence[Prediction]) -> list[str]:
    lines = [
        "A live save, if the guest goes on like this and the output is all that is slow:",
        f"{'output':>9} {'limit':>7} {'passes':>6} {'GiB':>7} {'seconds':>8} {'paused':>9}",
    ]
    for x in predictions:
        limit = "-" if x.max_downtime is None else format_seconds(x.max_downtime)
        missed = x.within is False or x.target_reached is False
        verdict = "ENDED: " + x.why if x.ends == "aborted" else "NOT KEPT: " + x.why if missed else x.why
        lines.append(
            f"{format_size(round(x.bandwidth)):>7}/s {limit:>7} {x.passes:>6} {x.bytes / (1 << 30):>7.2f} "
            f"{x.seconds:>8.1f} {format_seconds(x.pause) if x.ends == 'saved' else '-':>9}  {verdict}"
        )
    if any(x.ends == "aborted" for x in predictions):
        lines.append("ENDED: a limit ends the save, and the guest runs on.")
    return lines
