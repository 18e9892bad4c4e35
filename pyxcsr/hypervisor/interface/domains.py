"""Domains: what Xen tells of them, and their life."""

from __future__ import annotations

from typing import NamedTuple, Optional, Protocol

SHUTDOWN_NAMES = {0: "poweroff", 1: "reboot", 2: "suspend", 3: "crash", 4: "watchdog", 5: "soft reset"}
SHUTDOWN_SUSPEND = 2
"""xen/include/public/sched.h."""


class DomainInfo(NamedTuple):
    """What Xen tells of a domain (xc_domaininfo_t).

    ``paused``: by the toolstack, not by itself; ``shutdown_reason``: a SHUTDOWN_* code, or None while it
    has not shut down; ``tot_pages``, ``max_pages``: pages it has and may have; ``max_vcpu_id``: last index.
    """

    domid: int
    hvm: bool
    paused: bool
    dying: bool
    shutdown_reason: Optional[int]
    tot_pages: int
    max_pages: int
    max_vcpu_id: int
    nr_online_vcpus: int
    shared_info_mfn: int

    @property
    def shutdown(self) -> bool:
        """True once the domain has shut down, for whatever reason; suspended is one."""
        return self.shutdown_reason is not None

    @property
    def suspended(self) -> bool:
        """True if it is shut down with reason suspend: its memory and vcpus hold still."""
        return self.shutdown_reason == SHUTDOWN_SUSPEND

    @property
    def shutdown_name(self) -> str:
        """How it has shut down, in a word, or the code where the word is not known."""
        code = self.shutdown_reason
        return "not at all" if code is None else SHUTDOWN_NAMES.get(code, f"unknown code {code}")

    @property
    def crashed(self) -> bool:
        """True if it shut down with reason crash."""
        return self.shutdown_reason == 3


class Domains(Protocol):
    """Facts about domains, and their life. Each method raises HypervisorError, DomainNotFound where there is none."""

    def xen_version(self) -> tuple[int, int]:
        """The running Xen's major and minor version."""

    def domains(self) -> list[DomainInfo]:
        """All domains."""

    def domain_info(self, domid: int) -> DomainInfo:
        """One domain. Raises DomainNotFound."""

    def domain_pause(self, domid: int) -> None:
        """Pauses (counted by Xen)."""

    def domain_unpause(self, domid: int) -> None:
        """Takes one pause back."""

    def domain_destroy(self, domid: int) -> None:
        """Destroys the domain."""

    def domain_shutdown(self, domid: int, reason: int) -> None:
        """Shuts it down from outside, with a SHUTDOWN_* reason: the guest is not asked."""

    def domain_resume(self, domid: int) -> None:
        """Lets a suspended domain go on where it was; its suspend call returns as cancelled."""
