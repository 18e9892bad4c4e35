"""What a saver needs of a hypervisor: plain facts and Protocols, no cffi."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional, Protocol

SHUTDOWN_NAMES = {0: "poweroff", 1: "reboot", 2: "suspend", 3: "crash", 4: "watchdog", 5: "soft reset"}
SHUTDOWN_SUSPEND = 2
"""xen/include/public/sched.h."""


@dataclass(frozen=True)
class DomainInfo:
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


@dataclass(frozen=True)
class TscInfo:
    """xc_domain_get_tsc_info: mode, rate in kHz, elapsed nanoseconds, incarnation."""

    mode: int
    khz: int
    nsec: int
    incarnation: int


class PodInfo(NamedTuple):
    """A domain's populate-on-demand (xc_domain_get_pod_target), in pages.

    ``tot_pages``: what it has, the cache's included; ``cache_pages``: what Xen still has for its entries; ``entries``:
    gfns that get memory when they are touched, or asked about. There is none to be had if these exceed the cache.
    """

    tot_pages: int
    cache_pages: int
    entries: int


class BatchResult(NamedTuple):
    """What one call of :meth:`SaveHandle.batches` did. ``done``: the pass is over; ``nr_ahead``: of the batches, those
    whose pages were mapped while the one before was written; ``next_pfn``: where the pass stands."""

    done: bool
    nr_batches: int
    nr_pfns: int
    nr_pages: int
    nr_holes: int
    nr_deferred: int
    nr_tables: int
    nr_ahead: int
    nr_bytes: int
    next_pfn: int


class SweepResult(NamedTuple):
    """What one :meth:`SaveHandle.sweep` found, in pfns: see xcsr_sweep_result in csrc/xcsr_api.h.

    ``marked``: added to what the next pass sends; ``pages_written``: pages of the p2m, not pfns in them.
    """

    pfns: int
    marked: int
    appeared: int
    vanished: int
    moved: int
    again: int
    returned: int
    tables: int
    pages_written: int


class LookResult(NamedTuple):
    """What one :meth:`SaveHandle.look_at_physmap` found, in gfns: see xcsr_look_result in csrc/xcsr_api.h.

    ``nr_calls``: to Xen; ``nr_asked``: looked at, because they were not marked; ``appeared``: sent as holes, and have a
    page now; ``vanished``: sent with data, and have no page any more. Both are marked now.
    """

    nr_calls: int
    nr_asked: int
    appeared: int
    vanished: int


Again = Callable[[], None]
"""Called at least ten times a second while the output is slow; may raise to give up (cancel)."""


class SinkHandle(Protocol):
    """Where the stream goes: an open file descriptor that the caller keeps open."""

    @property
    def offset(self) -> int:
        """Bytes written so far."""

    def write(self, data: bytes, again: Again) -> None:
        """Writes all of it. Raises OutputError, or what ``again`` raises."""

    def durable(self, expected: int) -> None:
        """Before the first write: the caller will fsync. A regular file is brought to the disk while it is written,
        after room for ``expected`` bytes was asked for; with any other output nothing changes."""

    def close(self) -> None:
        """Forgets the descriptor, without closing it."""


class MappedFrames(Protocol):
    """Frames of a guest, mapped read-only; a context manager that unmaps."""

    def __enter__(self) -> MappedFrames: ...
    def __exit__(self, *exc: object) -> None: ...

    def load64(self, offset: int) -> int:
        """One atomic 64-bit read, straight from the guest: never cached. ``offset``: bytes, 8-aligned."""

    def copy(self) -> bytes:
        """The frames as they are now."""

    def close(self) -> None:
        """Unmaps; harmless when done before."""


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


class SaveHandle(Protocol):
    """One save's dirty bitmap, deferred pages and batch buffers."""

    def logdirty_enable(self) -> bool:
        """Log-dirty mode on; True if it had to be switched off first. Raises LogDirtyUnsupported."""

    def logdirty_disable(self) -> None:
        """Log-dirty mode off, if this save switched it on."""

    def logdirty_clean(self, final: bool) -> int:
        """Fetches and clears Xen's dirty bitmap; returns how many pfns it names."""

    def mark_all(self) -> None:
        """Marks every pfn for sending."""

    def written(self, mfns: Sequence[int]) -> bool:
        """Whether the dirty bitmap, as it was fetched, names one of these frames of the guest's, or may do so."""

    def merge_deferred(self) -> int:
        """Marks the deferred pfns that have a frame now; returns how many that adds."""

    def follow(self) -> None:
        """Remembers from now on what is sent of each pfn, for :meth:`sweep`. Before the first batch."""

    def sweep(self, whole: bool) -> SweepResult:
        """Marks what must be sent again because the p2m says something else than what was sent.

        ``whole``: looks at all of the p2m, not only where the dirty bitmap says that the guest wrote it.

        Once after each :meth:`logdirty_clean` and :meth:`merge_deferred`.
        """

    @property
    def nr_pfns(self) -> int:
        """How many pfns it has: see :meth:`grow`."""

    def expect_pages(self, nr_pages: int) -> None:
        """Without a p2m: the guest, suspended, has so many pages. A pass over all pfns then stops asking Xen once they
        have been found, and sends the rest as holes. Not for a domain that may map other domains' frames."""

    def look_at_physmap(self, again: Again) -> LookResult:
        """Without a p2m: asks Xen where there are pages, and marks what came and went since it was sent.

        It stays marked, by :meth:`merge_deferred`, when the next bitmap is fetched. Not within a pass.
        """

    def grow(self, nr_pfns: int) -> None:
        """The guest has so many pfns, if it had fewer; the new ones are marked."""

    def map_ahead(self, wanted: Optional[bool]) -> None:
        """Whether the next batch's pages are mapped, and the last one's unmapped, by a second thread while one is
        written: True, False (as without this call), None: where the batches so far show that it is worth it.

        Raises HypervisorError if there can be no such thread: the save goes on without one.
        """

    def pass_begin(self, suspended: bool) -> None:
        """Starts over at pfn 0. ``suspended``: nothing may move, and what cannot be sent is an error."""

    def batches(self, sink: SinkHandle, again: Again) -> BatchResult:
        """Sends marked pfns in PAGE_DATA records of at most 1024, until the pass is over or for some hundredths of a
        second: one record at least."""

    def close(self) -> None:
        """Log-dirty off if still on, mappings and memory gone; harmless when done before."""


class SourceHandle(Protocol):
    """Where a stream comes from: an open file descriptor that the caller keeps open."""

    @property
    def offset(self) -> int:
        """Bytes read so far."""

    def read(self, length: int, again: Again) -> bytes:
        """So many bytes; fewer only where the input ends. Raises InputError, or what ``again`` raises."""

    def close(self) -> None:
        """Forgets the descriptor, without closing it."""


@dataclass(frozen=True)
class PageResult:
    """What one PAGE_DATA record did. ``differing``: pages that are not what the guest has (comparing)."""

    nr_entries: int
    nr_pages: int
    nr_tables: int
    nr_populated: int
    differing: int
    first_differing: int


class RestoreHandle(Protocol):
    """A domain being built: its new p2m, its page types, and what has been sent."""

    def grow(self, nr_pfns: int) -> None:
        """The p2m has so many pfns now, if it had fewer. Raises StreamError beyond the domain's limit."""

    def compare(self, on: bool) -> None:
        """From here on pages are compared with the guest's, not written."""

    def pages(self, source: SourceHandle, length: int, again: Again, offset: int) -> PageResult:
        """Takes a PAGE_DATA record's body from the source, straight into the guest. ``offset``: the record's."""

    @property
    def nr_seen(self) -> int:
        """One past the last pfn that had an entry; with a p2m: how many pfns it has."""

    def mfn(self, pfn: int) -> Optional[int]:
        """The frame of a pfn (the pfn itself where pfn == gfn), or None without memory."""

    def type(self, pfn: int) -> int:
        """The type a pfn was sent with last (values of PageType); XTAB if never."""

    def has_data(self, pfn: int) -> bool:
        """Whether a pfn's last entry had content."""

    def check_tables(self, offset: int) -> None:
        """Raises IncompleteStream if a page table refers to memory that the stream did not contain."""

    def cut(self, nr_pfns: int) -> None:
        """The guest has so many pfns and no more: what was sent of others counts as gone."""

    def give_back(self) -> int:
        """Takes the memory of pfns that the stream sent and later said to be gone; returns how many pages.

        Only once :meth:`check_tables` has passed: nothing refers to them then.
        """

    def pin(self) -> int:
        """Pins the page tables that were pinned; returns how many."""

    def write_p2m(self, leaf_pfns: Sequence[int]) -> None:
        """Writes the new p2m into the guest's own list."""

    def close(self) -> None:
        """Unmaps, frees; harmless when done before."""


class Hypervisor(Protocol):
    """An open hypervisor: a thin, typed face of libxenctrl. A context manager.

    Every method raises HypervisorError or a subclass when the call behind it fails. It is used by one
    thread at a time, in the process that opened it; anything else raises UsageError.
    """

    backend: str

    def __enter__(self) -> Hypervisor: ...
    def __exit__(self, *exc: object) -> None: ...

    def close(self) -> None:
        """Closes all that is open."""

    def xen_version(self) -> tuple[int, int]:
        """The running Xen's major and minor version."""

    def domains(self) -> list[DomainInfo]:
        """All domains."""

    def domain_info(self, domid: int) -> DomainInfo:
        """One domain. Raises DomainNotFound."""

    def domain_width(self, domid: int) -> int:
        """A PV guest's word size in bytes: 4 or 8."""

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

    def logdirty_off(self, domid: int) -> bool:
        """Ends log-dirty mode, whoever began it; no error if it is not on. False: this Xen has none for the domain."""

    def domain_tsc(self, domid: int) -> TscInfo:
        """The domain's time stamp counter."""

    def vcpu_online(self, domid: int, vcpu: int) -> bool:
        """Whether the vcpu exists and is up."""

    def vcpu_basic(self, domid: int, vcpu: int) -> bytes:
        """vcpu_guest_context (x86_64), as Xen gives it: with mfns."""

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

    def cpu_policy(self, domid: int) -> tuple[bytes, bytes]:
        """CPUID leaves and MSRs as the stream's records hold them."""

    def nr_gpfns(self, domid: int) -> int:
        """One past the last gfn that has, or had, a place in an HVM guest's physmap; the guest may raise it."""

    def pod_target(self, domid: int) -> PodInfo:
        """The domain's populate-on-demand. While it has entries, asking types or mapping makes Xen
        allocate, or kill the guest."""

    def hvm_param(self, domid: int, index: int) -> int:
        """An HVM guest's HVM_PARAM_* of that index."""

    def set_hvm_param(self, domid: int, index: int, value: int) -> None:
        """Sets it. Xen refuses those that may not be set, or not again."""

    def hvm_context(self, domid: int) -> bytes:
        """An HVM guest's vcpus and Xen's own emulated devices (HVM save records), as Xen gives them, once it is paused."""

    def set_hvm_context(self, domid: int, context: bytes) -> None:
        """Sets them, before the guest runs."""

    def xenstore_read(self, path: str) -> Optional[bytes]:
        """A node's value, or None if there is no such node."""

    def xenstore_directory(self, path: str) -> list[str]:
        """The names of a node's children; none if there is no such node."""

    def xenstore_write(self, path: str, value: bytes) -> None:
        """Writes a node."""

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes) -> bool:
        """Writes a node if it holds ``expected``, in one transaction; tells whether it did."""

    def nr_mfns(self) -> int:
        """One past the machine's last frame. Maps the m2p at first use."""

    def m2p(self, mfn: int) -> int:
        """The m2p entry of a frame, raw. Raises P2mError for a frame beyond the machine."""

    def map_frames(self, domid: int, mfns: Sequence[int]) -> MappedFrames:
        """Maps frames read-only: all, or HypervisorError."""

    def read_frames(self, domid: int, mfns: Sequence[int]) -> bytes:
        """A copy of the frames as they are now."""

    def map_p2m(self, domid: int, nr_pfns: int, leaf_mfns: Sequence[int]) -> P2mHandle:
        """Maps a p2m's leaves, 512 entries each."""

    def new_save(self, domid: int, nr_pfns: int, p2m: Optional[P2mHandle]) -> SaveHandle:
        """What a save needs. ``p2m`` None: pfn == gfn (HVM)."""

    def open_sink(self, fd: int) -> SinkHandle:
        """Prepares a descriptor for writing a stream. Raises OutputError if it is not writable."""

    # -- building a domain

    def open_source(self, fd: int) -> SourceHandle:
        """Prepares a descriptor for reading a stream. Raises InputError if it is not readable."""

    def new_restore(self, domid: int, limit: int, translated: bool = False) -> RestoreHandle:
        """What a restore needs. ``limit``: pfns that the domain may ever have. ``translated``: pfn == gfn (HVM)."""

    def write_frame(self, domid: int, mfn: int, offset: int, data: bytes) -> None:
        """Writes bytes into one frame of a domain."""

    def clear_frames(self, domid: int, frames: Sequence[int]) -> None:
        """Fills frames of a domain with zeros."""

    def set_domain_width(self, domid: int, nr_bytes: int) -> None:
        """Makes it a 32-bit (4) or 64-bit (8) PV guest."""

    def set_domain_tsc(self, domid: int, tsc: TscInfo) -> None:
        """Sets the domain's time stamp counter."""

    def set_cpu_policy(self, domid: int, leaves: bytes, msrs: bytes) -> None:
        """Sets the domain's CPUID and MSR policy."""

    def set_vcpu_basic(self, domid: int, vcpu: int, context: bytes) -> None:
        """Sets a vcpu's context, in mfns (vcpu_guest_context, x86_64)."""

    def set_vcpu_extended(self, domid: int, vcpu: int, blob: bytes) -> None:
        """Sets xen_domctl_ext_vcpucontext."""

    def set_vcpu_xsave(self, domid: int, vcpu: int, blob: bytes) -> None:
        """Sets the xsave area."""

    def set_vcpu_msrs(self, domid: int, vcpu: int, blob: bytes) -> None:
        """Sets xen_domctl_vcpu_msr_t[]."""

    def seed_grants(
        self, domid: int, console_mfn: int, store_mfn: int, console_domid: int, store_domid: int, hvm: bool = False
    ) -> None:
        """Grants console and store rings to their backends. ``hvm``: the rings are given as gfns."""
