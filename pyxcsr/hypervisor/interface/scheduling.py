"""How much of the processors a domain may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.hypervisor.interface.results import Share


class Scheduling(Protocol):
    """Shares of domains. Each method raises HypervisorError, DomainNotFound where there is no such domain."""

    def scheduler(self) -> str:
        """The host's scheduler by name, or "unknown code N". A domain in another cpupool may have another one."""

    def domain_share(self, domid: int) -> Optional[Share]:
        """A domain's. None: its scheduler has no caps (only credit and credit2 have)."""

    def set_domain_cap(self, domid: int, scheduler: str, cap: int) -> None:
        """Sets the cap of a domain that has this scheduler, and leaves its weight alone. credit2 refuses more than 100
        for each vcpu (EINVAL)."""
