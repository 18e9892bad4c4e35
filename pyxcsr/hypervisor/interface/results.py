"""What calls of a hypervisor return: plain facts."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Optional

SHUTDOWN_NAMES = {0: "poweroff", 1: "reboot", 2: "suspend", 3: "crash", 4: "watchdog", 5: "soft reset"}

SHUTDOWN_SUSPEND = 2
"""xen/include/public/sched.h."""

NOTHING, FETCHED, SENT, COMPLETE = range(4)
"""How far :meth:`SaveHandle.end` has come: the guest is not suspended; the last dirty bitmap has been fetched; the pass
is over; the stream is complete. enum xcsr_end_reached in csrc/xcsr_api.h."""


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

    @property
    def condition(self) -> str:
        """In a word: running, paused, suspended, crashed, "shut down" or dying."""
        if self.dying:
            return "dying"
        if self.shutdown:
            return "suspended" if self.suspended else "crashed" if self.crashed else "shut down"
        return "paused" if self.paused else "running"


class PodInfo(NamedTuple):
    """A domain's populate-on-demand (xc_domain_get_pod_target), in pages.

    ``tot_pages``: what it has, the cache's included; ``cache_pages``: what Xen still has for its entries; ``entries``:
    gfns that get memory when they are touched, or asked about. There is none to be had if these exceed the cache.
    """

    tot_pages: int
    cache_pages: int
    entries: int


class TscInfo(NamedTuple):
    """xc_domain_get_tsc_info: mode, rate in kHz, elapsed nanoseconds, incarnation."""

    mode: int
    khz: int
    nsec: int
    incarnation: int


SCHEDULER_NAMES = {5: "credit", 6: "credit2", 7: "arinc653", 8: "rtds", 9: "null"}
"""XEN_SCHEDULER_*: xen/include/public/domctl.h."""


class Share(NamedTuple):
    """What a domain has of its scheduler. ``scheduler``: by name; ``weight``: beside other domains'; ``cap``: percent
    of one processor that it may use at most, 0: no such limit."""

    scheduler: str
    weight: int
    cap: int


class BatchResult(NamedTuple):
    """What one call of :meth:`SaveHandle.batches` did. ``done``: the pass is over; ``nr_ahead``: of the batches, those
    whose pages were mapped while the one before was written; ``next_pfn``: where the pass stands; ``busy``: seconds,
    but for those of ``unmapping``, for which a suspended guest does not wait."""

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
    busy: float
    unmapping: float


class Trial(NamedTuple):
    """In a rehearsal of the end ``pages`` pages were mapped and read in ``seconds``.

    ``whole``: seconds for all that was done for that; they are part of the rehearsal's time.
    """

    pages: int
    seconds: float
    whole: float


class SweepResult(NamedTuple):
    """What one :meth:`SaveHandle.sweep` found, in pfns: see xcsr_sweep_result in csrc/xcsr_api.h.

    ``marked``: added to what the next pass sends; ``pages_written``: pages of the p2m, not pfns in them.
    """

    pfns: int
    marked: int
    appeared: int
    vanished: int
    moved: int
    returned: int
    tables: int
    pages_written: int


class LookResult(NamedTuple):
    """What one :meth:`SaveHandle.look_at_physmap` found, in gfns: see xcsr_look_result in csrc/xcsr_api.h.

    ``nr_calls``: to Xen; ``nr_asked``: gfns, all but those that a pass over all of them has still to come to;
    ``appeared``: sent as holes, and have a page now; ``vanished``: sent with data, and have no page any more. Both are
    marked now, and count again only if they have changed once more since the last look.
    """

    nr_calls: int
    nr_asked: int
    appeared: int
    vanished: int


class PageResult(NamedTuple):
    """What one PAGE_DATA record did. ``differing``: pages that are not what the guest has (comparing)."""

    nr_entries: int
    nr_pages: int
    nr_tables: int
    nr_populated: int
    differing: int
    first_differing: int
