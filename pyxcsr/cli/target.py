"""The policy that save's options ask for, and whether it was the target that ended the copying."""

from __future__ import annotations

from typing import Any, Optional

from pyxcsr.errors import UsageError
from pyxcsr.policy import Decision, PrecopyStats, SimplePolicy
from pyxcsr.report import SaveReport


class Target:
    """A :class:`SimplePolicy` that remembers whether the guest's dirty pages were ever few enough."""

    def __init__(self, max_iterations: int, target_dirty: int) -> None:
        try:
            self._policy = SimplePolicy(max_iterations, target_dirty)
        except ValueError as error:
            raise UsageError(str(error)) from error
        self._few = False

    def __call__(self, stats: PrecopyStats) -> Decision:
        if stats.dirty_count is not None and stats.dirty_count < self._policy.target_dirty:
            self._few = True
        return self._policy(stats)

    def reached(self, report: SaveReport) -> Optional[bool]:
        """Whether fewer pages than the target were dirty when the copying ended; None for a save that was not live."""
        if not report.live or not report.passes:
            return None
        return self._few or report.passes[-1].dirty < max(self._policy.target_dirty, 1)

    def facts(self, report: SaveReport) -> dict[str, Any]:
        """For JSON."""
        return {"target_dirty": self._policy.target_dirty, "target_reached": self.reached(report)}

    def notes(self, report: SaveReport) -> list[str]:
        """A sentence if the target was missed."""
        if self.reached(report) is not False:
            return []
        live = sum(not x.suspended for x in report.passes)
        return [
            f"the target of fewer than {self._policy.target_dirty} dirty pages was not reached in {live} passes: "
            f"{report.passes[-1].dirty} pages were left to be sent while the guest was paused (--max-iterations, "
            "--target-dirty)"
        ]
