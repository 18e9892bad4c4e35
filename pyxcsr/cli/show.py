"""What a person sees of a save that has succeeded: a table of its passes, and what was out of the ordinary."""

from __future__ import annotations

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.report import PassReport, SaveReport

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
        f"{1000 * report.seconds_paused:.1f} ms paused until the stream was complete"
    )
    lines += _p2m(report)
    if report.verify is not None:
        lines.append(f"all pages sent a second time: {report.verify.pages} in {1000 * report.verify.seconds:.1f} ms")
    if report.logdirty_retried:
        lines.append("note: log-dirty mode had been left on by another tool, and was begun anew")
    lines += _target(report)
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


def _target(report: SaveReport) -> list[str]:
    if report.target_reached is not False:
        return []
    live = sum(not x.suspended for x in report.passes)
    return [
        f"note: the target of fewer than {report.target_dirty} dirty pages was not reached in {live} passes: "
        f"{report.passes[-1].dirty} pages were left to be sent while the guest was paused (--max-iterations, "
        "--target-dirty)"
    ]


def _row(row: PassReport) -> str:
    guest = "paused" if row.suspended else "running"
    return (
        f"{row.iteration:>4} {guest:>8} {row.dirty:>9} {row.pages:>9} {row.bytes / MIB:>9.1f} {row.deferred:>9} "
        f"{row.holes:>8} {1000 * row.seconds:>9.1f}"
    )
