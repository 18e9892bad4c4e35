"""Whether a live save's policy got as few dirty pages as it wanted to have left for the pause."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.policy import Policy
    from pyxcsr.report import SaveReport


class Target:
    """The ``target_dirty`` of the policy, if it has one, and whether fewer pages than that were ever dirty.

    ``policy``: may be changed, and so may its target. The report of the save goes by what there is in the end.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._least: Optional[int] = None

    def asked(self, dirty: Optional[int]) -> None:
        """The policy has been asked with that count."""
        if dirty is not None and (self._least is None or dirty < self._least):
            self._least = dirty

    def tell(self, report: SaveReport) -> None:
        """Puts both into the report of a live save, whose last pass has been made."""
        wanted = getattr(self.policy, "target_dirty", None)
        if not isinstance(wanted, int):
            return
        few = self._least is not None and self._least < wanted
        report.target_dirty, report.target_reached = wanted, few or report.passes[-1].dirty < max(wanted, 1)
