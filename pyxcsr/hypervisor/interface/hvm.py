"""What HVM and PVH guests alone have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyxcsr.hypervisor.interface.results import PodInfo


class Hvm(Protocol):
    """HVM guests: the size of their physmap, parameters, context, populate-on-demand."""

    def nr_gpfns(self, domid: int) -> int:
        """One past the last gfn that has, or had, a place in an HVM guest's physmap; the guest may raise it."""

    def pod_target(self, domid: int) -> PodInfo:
        """The domain's populate-on-demand. While it has entries, asking types or mapping makes Xen
        allocate, or kill the guest."""

    def hvm_param(self, domid: int, index: int) -> int:
        """An HVM guest's HVM_PARAM_* of that index."""

    def set_hvm_param(self, domid: int, index: int, value: int) -> None:
        """Sets it. Xen refuses those that may not be set, or not again."""

    def hvm_context_size(self, domid: int) -> int:
        """Bytes that :meth:`hvm_context` gives at most."""

    def hvm_context(self, domid: int) -> bytes:
        """An HVM guest's vcpus and Xen's own emulated devices (HVM save records), as Xen gives them.

        Reading it moves the ACPI PM timer of an HVM guest on (Xen's acpi_save), but not that of PVH guests, which have
        none: it is for guests that are suspended.
        """

    def set_hvm_context(self, domid: int, context: bytes) -> None:
        """Sets them, before the guest runs."""
