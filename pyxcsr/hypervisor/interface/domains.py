"""Domains: what Xen tells of them, and their life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyxcsr.hypervisor.interface.results import DomainInfo



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
        """Lets a suspended domain go on where it was; its suspend call returns as cancelled.

        Xen's part alone: :func:`pyxcsr.resume` has a guest's QEMU go on, too.
        """
