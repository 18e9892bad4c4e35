"""What all x86 guests have: a CPU policy and a time stamp counter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyxcsr.hypervisor.interface.results import TscInfo


class X86(Protocol):
    """CPU policy and TSC, of PV and HVM guests alike."""

    def domain_tsc(self, domid: int) -> TscInfo:
        """The domain's time stamp counter."""

    def set_domain_tsc(self, domid: int, tsc: TscInfo) -> None:
        """Sets the domain's time stamp counter."""

    def cpu_policy(self, domid: int) -> tuple[bytes, bytes]:
        """CPUID leaves and MSRs as the stream's records hold them."""

    def set_cpu_policy(self, domid: int, leaves: bytes, msrs: bytes) -> None:
        """Sets the domain's CPUID and MSR policy."""
