"""What a person sees of a save that has succeeded: a table of its passes, and what was out of the ordinary."""

from __future__ import annotations

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.report import CheckpointsReport, PassReport, SaveReport
from pyxcsr.transfer.missed import missed
from pyxcsr.units import format_seconds

MIB = 1 << 20

COLUMNS_EXPLAINED = (
    "Columns of the table: dirty, the pages that a pass set out with; pages, those sent; deferred, those that could "
    "not be sent as they were while the guest ran (a page table under change), and were left to a later pass; holes, "
    "frame numbers without memory behind them (ballooned out), of which only that is sent. Passes are counted from 0, "
    "as in inspect and in xl's messages."
)


def summary(report: SaveReport) -> str:
    """The report as a table, and what else is to be said."""
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
        f"{1000 * report.seconds_paused:.1f} ms paused until the stream was complete" + _predicted(report)
    )
    if report.checkpoints is not None:
        lines.append(_checkpoints(report.checkpoints))
    if report.compress:
        size = "" if report.bytes_compressed is None else f" to {report.bytes_compressed / MIB:.1f} MiB"
        waited = f"waited for {1000 * report.seconds_settling:.1f} ms before the guest was suspended"
        lines.append(f"compressed with {report.compress}{size}" + (f"; {waited}" if report.live else ""))
    lines += _p2m(report)
    if report.verify is not None:
        lines.append(f"all pages sent a second time: {report.verify.pages} in {1000 * report.verify.seconds:.1f} ms")
    if report.throttled:
        lines.append(f"throttled: the guest lacked up to {100 * report.throttled:.0f} % of its processor time")
    lines += [f"note: {x}" for x in missed(report)]
    return "\n".join([*lines, *(f"warning: {x}" for x in report.warnings)])


def _predicted(report: SaveReport) -> str:
    return "" if report.predicted_pause is None else f" ({1000 * report.predicted_pause:.1f} ms predicted)"


def _checkpoints(sums: CheckpointsReport) -> str:
    text = f"{sums.count} checkpoints, the guest running for {format_seconds(sums.interval)} between two"
    more = sums.count - 1
    if more > 0:
        text += (
            f"; each after the first one: {sums.pages / more:.0f} pages, {sums.bytes / more / MIB:.2f} MiB, "
            f"{1000 * sums.seconds_paused / more:.1f} ms paused ({1000 * sums.longest_pause:.1f} ms at most)"
        )
    return text


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
