"""One save, as its control sees it (pyxcsr/control/steered.py)."""

from __future__ import annotations

import os

from pyxcsr.errors import DomainNotFound, UsageError, XcsrError
from pyxcsr.hypervisor.names import domain_name
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.hypervisor.interface import Hypervisor
    from pyxcsr.limits.limits import Limits
    from pyxcsr.options import SaveOptions
    from pyxcsr.policy import Policy
    from pyxcsr.report import Progress, SaveReport
    from pyxcsr.transfer.pause import Pause


GONE = "gone"


def condition_of(hv: Hypervisor, domid: int) -> str:
    """What a guest is now, in a word: DomainInfo.condition, or :data:`GONE`. Raises XcsrError if Xen does not say."""
    try:
        return hv.domain_info(domid).condition
    except DomainNotFound:
        return GONE


class Steering:
    """What there is to be seen and changed. ``now`` and those after it: the saver's own."""

    __slots__ = ("_change", "_hv", "_is_complete", "_is_decided", "_now", "_options", "_pause", "report")

    def __init__(
        self,
        hv: Hypervisor,
        report: SaveReport,
        options: SaveOptions,
        pause: Pause,
        now: Callable[[], Progress],
        is_complete: Callable[[], bool],
        is_decided: Callable[[], bool],
        change: Callable[[Policy], None],
    ) -> None:
        self._hv, self.report, self._options, self._pause = hv, report, options, pause
        self._now, self._is_complete, self._is_decided, self._change = now, is_complete, is_decided, change

    @property
    def limits(self) -> Limits:
        """The save's limits."""
        return self._options.limits

    @property
    def verify(self) -> bool:
        """Of its options."""
        return self._options.verify

    @property
    def policy(self) -> Policy:
        """The policy that it goes by."""
        return self._options.policy

    @property
    def decided(self) -> bool:
        """Whether it has been decided that the guest is suspended."""
        return self._is_decided()

    @property
    def suspended(self) -> bool:
        """Whether the guest has been suspended for it."""
        return self._pause.begun

    @property
    def complete(self) -> bool:
        """Whether the stream is complete."""
        try:
            return self._is_complete()
        except UsageError:  # the output has been closed, and it was not asked before: then it is not
            return False

    def now(self) -> Progress:
        """Where it stands."""
        return self._now()

    def guest_name(self) -> Optional[str]:
        """From xenstore."""
        try:
            name = domain_name(self._hv, self.report.domid)
        except XcsrError:  # it is for people's eyes only
            return None
        return None if name is None else os.fsdecode(name)

    @property
    def backend(self) -> str:
        """By the hypervisor."""
        return self._hv.backend

    def guest_is(self) -> Optional[str]:
        """What Xen says."""
        try:
            return condition_of(self._hv, self.report.domid)
        except XcsrError:  # it is for people's eyes only
            return None

    def check_throttle(self) -> None:
        """As at the start of a save."""
        from pyxcsr.transfer.throttle import Throttle  # most saves have no use for it

        Throttle(self._hv, self.report.domid).check()

    def change_policy(self, policy: Policy) -> None:
        """Goes by another one from now on."""
        self._change(policy)
