"""What a person sees of a save: a progress line, and a summary."""

from __future__ import annotations

import sys
from typing import Optional, TextIO

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.report import PassReport, Progress, SaveReport

MIB = 1 << 20


class ProgressLine:
    """Progress on a stream: on a terminal one line, rewritten in place; elsewhere a line for each pass and phase."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._width, self._terminal = out, 0, out.isatty()
        self._last: Optional[Progress] = None

    def __call__(self, now: Progress) -> None:
        last, self._last = self._last, now
        if self._terminal:
            text = _progress_text(now)
            self._out.write("\r" + text.ljust(self._width))
            self._width = len(text)
            self._out.flush()
        elif last and (last.phase, last.iteration) != (now.phase, now.iteration):
            print(_progress_text(last), file=self._out)

    def done(self) -> None:
        """Wipes the line."""
        if self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._out.flush()
            self._width = 0


def _progress_text(now: Progress) -> str:
    rate = now.bytes_written / MIB / now.seconds if now.seconds > 0 else 0.0
    sent = f"{now.bytes_written / MIB:.0f} MiB, {rate:.0f} MiB/s"
    if now.phase not in ("pass", "final", "verify"):
        return f"{now.phase} ... {sent}"
    where = "guest running" if now.phase == "pass" else "guest paused"
    done = 100 * now.pages_done // now.pages_total if now.pages_total else 100
    return f"pass {now.iteration} ({where}): {done:3d}% of {now.pages_total} pages, {sent}"


def progress_line(wanted: Optional[bool]) -> Optional[ProgressLine]:
    """A progress line on standard error if it is wanted, or (None) if that is a terminal."""
    if sys.stderr is None:  # closed by whoever started us
        return None
    show = sys.stderr.isatty() if wanted is None else wanted
    return ProgressLine(sys.stderr) if show else None


def summary(report: SaveReport) -> str:
    """The report as a table."""
    lines = [
        f"{'pass':>4} {'guest':>8} {'dirty':>9} {'pages':>9} {'MiB':>9} {'deferred':>9} {'holes':>8} {'ms':>9}"
    ]
    lines += [_row(x) for x in report.passes]
    kind = "live" if report.live else "non-live"
    lines.append(
        f"{kind} save of domain {report.domid}: {report.pages} pages of {report.nr_pfns} pfns "
        f"({report.nr_pfns * PAGE_SIZE // MIB} MiB), {report.bytes / MIB:.1f} MiB in {report.seconds:.2f} s"
    )
    lines.append(
        f"guest: {1000 * report.seconds_suspending:.1f} ms to suspend, "
        f"{1000 * report.seconds_paused:.1f} ms paused until the stream was complete"
    )
    lines += _p2m(report)
    if report.verify is not None:
        lines.append(f"all pages sent a second time: {report.verify.pages} in {1000 * report.verify.seconds:.1f} ms")
    if report.logdirty_retried:
        lines.append("note: log-dirty mode had been left on by another tool, and was begun anew")
    return "\n".join([*lines, *(f"warning: {x}" for x in report.warnings)])


def _p2m(report: SaveReport) -> list[str]:
    p2m = report.p2m
    if not (p2m.follows or p2m.overtaken or p2m.resent):
        return []
    return [
        f"p2m: {p2m.follows} changes followed, {p2m.appeared} pfns appeared, {p2m.vanished} vanished, "
        f"{p2m.moved} moved; {p2m.resent} sent again for it; "
        f"{1000 * (p2m.seconds_following + p2m.seconds_sweeping):.1f} ms"
        + ("; suspended because it never held still" if p2m.restless else "")
    ]


def _row(row: PassReport) -> str:
    guest = "paused" if row.suspended else "running"
    return (
        f"{row.iteration:>4} {guest:>8} {row.dirty:>9} {row.pages:>9} {row.bytes / MIB:>9.1f} {row.deferred:>9} "
        f"{row.holes:>8} {1000 * row.seconds:>9.1f}"
    )
