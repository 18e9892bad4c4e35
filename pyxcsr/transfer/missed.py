"""What a save that has succeeded did not reach of what was asked for, in words: for every program that tells of it."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.policies.adaptive import TOO_FAST
from pyxcsr.units import format_seconds

if TYPE_CHECKING:
    from pyxcsr.report import SaveReport


def missed(report: SaveReport) -> list[str]:
    """A sentence for each limit that was not kept and each target that was not reached, and why; else nothing."""
    out = []
    if report.downtime_kept is False and report.max_downtime is not None:
        out.append(
            f"max_downtime of {format_seconds(report.max_downtime)} was not kept: the guest was paused for "
            f"{format_seconds(report.seconds_paused)}"
        )
    if report.target_reached is False:
        live = sum(not x.suspended for x in report.passes)
        out.append(
            f"the target of fewer than {report.target_dirty} dirty pages was not reached in {live} passes: "
            f"{report.dirty_left} were left to be sent while the guest was paused"
        )
    if report.stopped and (out or report.stopped.startswith(TOO_FAST)):
        out.append(f"the guest was suspended because {_clause(report.stopped)}")
    return out


def _clause(reason: str) -> str:
    name, colon, rest = reason.partition(": ")
    return f"of {name} ({rest})" if colon else reason
