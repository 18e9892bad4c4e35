"""Whether a live save's policy got as few dirty pages as it wanted to have left for the pause."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.policy import Policy
    from pyxcsr.report import SaveReport


class Target:
    """The policy's ``target_dirty``, if it has one, and whether fewer pages than that were ever dirty."""

    def __init__(self, policy: Policy) -> None:
        wanted = getattr(policy, "target_dirty", None)
        self._wanted: Optional[int] = wanted if isinstance(wanted, int) else None
        self._few = False

    def asked(self, dirty: Optional[int]) -> None:
        """The policy has been asked with that count."""
        if dirty is not None and self._wanted is not None and dirty < self._wanted:
            self._few = True

    def tell(self, report: SaveReport) -> None:
        """Puts both into the report of a live save, whose last pass has been made."""
        report.target_dirty = self._wanted
        if self._wanted is not None:
            report.target_reached = self._few or report.passes[-1].dirty < max(self._wanted, 1)
