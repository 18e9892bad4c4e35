"""How much of the processors a domain may have."""

from __future__ import annotations

from typing import NamedTuple, Optional, Protocol

SCHEDULER_NAMES = {5: "credit", 6: "credit2", 7: "arinc653", 8: "rtds", 9: "null"}
"""XEN_SCHEDULER_*: xen/include/public/domctl.h."""


class Share(NamedTuple):
    """What a domain has of its scheduler. ``scheduler``: by name; ``weight``: beside other domains'; ``cap``: percent
    of one processor that it may use at most, 0: no such limit."""

    scheduler: str
    weight: int
    cap: int


class Scheduling(Protocol):
    """Shares of domains. Each method raises HypervisorError, DomainNotFound where there is no such domain."""

    def scheduler(self) -> str:
        """The host's scheduler by name, or "unknown code N". A domain in another cpupool may have another one."""

    def domain_share(self, domid: int) -> Optional[Share]:
        """A domain's. None: its scheduler has no caps (only credit and credit2 have)."""

    def set_domain_cap(self, domid: int, scheduler: str, cap: int) -> None:
        """Sets the cap of a domain that has this scheduler, and leaves its weight alone. credit2 refuses more than 100
        for each vcpu (EINVAL)."""
