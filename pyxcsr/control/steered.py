"""What a save lets its control see and change."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.limits.limits import Limits
    from pyxcsr.policy import Policy
    from pyxcsr.report import Progress, SaveReport


class Steered(Protocol):
    """A save that runs."""

    @property
    def report(self) -> SaveReport:
        """Its report, as far as it has come."""

    @property
    def limits(self) -> Limits:
        """Its limits, which may be changed."""

    @property
    def verify(self) -> bool:
        """Whether all memory is sent again while the guest is paused."""

    @property
    def policy(self) -> Policy:
        """The policy that it goes by."""

    @property
    def decided(self) -> bool:
        """Whether it has been decided that the guest is suspended: what is about the passes before that is over."""

    @property
    def suspended(self) -> bool:
        """Whether the guest has been suspended for it."""

    @property
    def complete(self) -> bool:
        """Whether the stream is complete: there is nothing left to be changed."""

    def now(self) -> Progress:
        """Where it stands."""

    def guest_name(self) -> Optional[str]:
        """The guest's name; None if it is not known."""

    @property
    def backend(self) -> str:
        """Whose guest it is: "xen", or "stub"."""

    def guest_is(self) -> Optional[str]:
        """What the guest is now, in a word (DomainInfo.condition), or "gone"; None if it is not known."""

    def check_throttle(self) -> None:
        """Raises XcsrError if no processor time can be taken from the guest. Changes nothing."""

    def change_policy(self, policy: Policy) -> None:
        """Goes by another policy from now on."""
