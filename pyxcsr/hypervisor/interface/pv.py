"""What PV guests alone have: a p2m of their own, the machine's m2p, vcpus that are told one by one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Optional, Protocol

from pyxcsr.hypervisor.interface.memory import MappedFrames


class P2mHandle(Protocol):
    """A guest's p2m, its leaves mapped read-only for as long as it is open."""

    nr_pfns: int

    def leaf_pfns(self) -> Sequence[int]:
        """The leaves' own pfns, each checked against m2p and p2m. Raises P2mError (index, mfn)."""

    def leaves_stay(self) -> bool:
        """After it: whether it would say the same again."""

    def check_leaves(self) -> None:
        """After it: raises P2mError (index, pfn, mfn, level) if a leaf is a page table, which nobody could restore."""

    def entry(self, pfn: int) -> int:
        """The p2m entry, raw, read now; all ones beyond the end."""

    def pfn_of(self, mfn: int) -> Optional[int]:
        """The pfn of a frame if the p2m names it as the guest's, else None."""

    def swap(self, other: P2mHandle) -> None:
        """Maps what the other one maps from now on, and the other what this one did; a save that uses it goes on."""

    def close(self) -> None:
        """Unmaps; harmless when done before."""


class Pv(Protocol):
    """PV guests: their width, their p2m, their vcpus."""

    def domain_width(self, domid: int) -> int:
        """A PV guest's word size in bytes: 4 or 8."""

    def set_domain_width(self, domid: int, nr_bytes: int) -> None:
        """Makes it a 32-bit (4) or 64-bit (8) PV guest."""

    def nr_mfns(self) -> int:
        """One past the machine's last frame. Maps the m2p at first use."""

    def m2p(self, mfn: int) -> int:
        """The m2p entry of a frame, raw. Raises P2mError for a frame beyond the machine."""

    def nr_distinct(self, mfns: Sequence[int]) -> int:
        """How many different frames these are, in little memory, even if they are millions."""

    def pte_frames(self, entries: array[int], nr_mfns: int, level: int) -> tuple[array[int], int]:
        """The frames that page table entries of one level name; and the index of the first entry that is not present,
        is a superpage, or names frame 0 or one from ``nr_mfns`` on. If there is none: how many entries there are.
        """

    def map_p2m(self, domid: int, nr_pfns: int, leaf_mfns: Sequence[int], width: int = 8) -> P2mHandle:
        """Maps the leaves of the p2m of a guest whose words have ``width`` bytes."""

    def vcpu_online(self, domid: int, vcpu: int) -> bool:
        """Whether the vcpu exists and is up."""

    def vcpu_basic(self, domid: int, vcpu: int, width: int = 8) -> bytes:
        """vcpu_guest_context of a guest whose words have ``width`` bytes, as Xen gives it: with mfns."""

    def vcpu_extended(self, domid: int, vcpu: int) -> bytes:
        """xen_domctl_ext_vcpucontext; empty if there is none."""

    def vcpu_xsave(self, domid: int, vcpu: int) -> bytes:
        """The xsave area with xcr0 and xcr0_accum; empty if there is none."""

    def vcpu_msrs(self, domid: int, vcpu: int) -> bytes:
        """xen_domctl_vcpu_msr_t[]; empty if there are none."""

    def pv_state(self, domid: int, max_vcpu: int, shared_info: MappedFrames, p2m: P2mHandle) -> bytes:
        """A paused PV guest's state besides its memory, as records that stand in the stream: TSC, shared_info, and of
        each vcpu that is online what the four above give, the context in pfns. Raises GuestStateError (field, value)
        where a context names a frame that is not the guest's: start_info's (vcpu 0), the GDT's, cr3's, cr1's."""

    def set_vcpu_basic(self, domid: int, vcpu: int, context: bytes, width: int = 8) -> None:
        """Sets a vcpu's context, in mfns (vcpu_guest_context of a guest whose words have ``width`` bytes)."""

    def set_vcpu_extended(self, domid: int, vcpu: int, blob: bytes) -> None:
        """Sets xen_domctl_ext_vcpucontext."""

    def set_vcpu_xsave(self, domid: int, vcpu: int, blob: bytes) -> None:
        """Sets the xsave area."""

    def set_vcpu_msrs(self, domid: int, vcpu: int, blob: bytes) -> None:
        """Sets xen_domctl_vcpu_msr_t[]."""
