"""What the save helper says of a save that has succeeded."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.transfer.missed import missed

if TYPE_CHECKING:
    from pyxcsr.report import SaveReport


def summary(report: SaveReport) -> str:
    """One line of figures for xl's log."""
    passes = len(report.passes)
    changed = report.p2m.follows or report.p2m.resent
    p2m = f"; p2m: {report.p2m.follows} changes followed, {report.p2m.resent} pfns sent again" if changed else ""
    return (
        f"domain {report.domid}: {passes} {'pass' if passes == 1 else 'passes'}, {report.pages} pages, "
        f"{report.bytes / 2**20:.1f} MiB in {report.seconds:.2f} s, paused {report.seconds_paused:.3f} s"
        + p2m
        + "".join(f"; {x}" for x in missed(report))
    )
