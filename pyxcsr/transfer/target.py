"""Whether a live save's policy got as few dirty pages as it wanted to have left for the pause."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.policy import Policy
    from pyxcsr.report import SaveReport


class Target:
    """The ``target_dirty`` of the policy, if it has one, and whether fewer pages than that were left for the pause.

    A policy that decides once the dirty bitmap has been fetched, as libxenguest's does, means the count that it was
    told then. ``policy``: may be changed, and so may its target. The report of the save goes by what there is when the
    guest is asked to suspend.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._decided: Optional[int] = None
        self._wanted: Optional[int] = None
        self._settled = False
        self._rest = 0

    def decided(self, dirty: Optional[int]) -> None:
        """The policy lets the guest be suspended. ``dirty``: the count that it was told, if it was told one."""
        self._decided = dirty

    def settle(self, rest: int) -> None:
        """The guest is about to be suspended: what is changed from now on changes nothing.

        ``rest``: how many pages a pass under way has still to send, for which the guest will be paused, too.
        """
        self._wanted, self._settled, self._rest = self._of_policy(), True, rest

    def _of_policy(self) -> Optional[int]:
        wanted = getattr(self.policy, "target_dirty", None)
        return wanted if isinstance(wanted, int) else None

    def tell(self, report: SaveReport) -> None:
        """Puts what was left into the report of a live save, whose last pass has been made; and both, if wanted."""
        report.dirty_left = report.passes[-1].dirty + self._rest
        wanted = self._wanted if self._settled else self._of_policy()
        if wanted is not None:
            few = self._decided is not None and self._decided < wanted
            report.target_dirty, report.target_reached = wanted, few or report.dirty_left < max(wanted, 1)
