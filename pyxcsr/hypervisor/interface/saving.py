"""Saving a domain's memory: the dirty bitmap, passes, what changes under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    from pyxcsr.hypervisor.interface.ending import EndPlan, EndResult
    from pyxcsr.hypervisor.interface.pv import P2mHandle
    from pyxcsr.hypervisor.interface.results import BatchResult, LookResult, SweepResult, Trial
    from pyxcsr.hypervisor.interface.streams import Again, SinkHandle


class SaveHandle(Protocol):
    """One save's dirty bitmap, deferred pages and batch buffers."""

    def logdirty_enable(self) -> bool:
        """Log-dirty mode on; True if it had to be switched off first. Raises LogDirtyUnsupported."""

    def logdirty_disable(self) -> None:
        """Log-dirty mode off, if this save switched it on."""

    def logdirty_clean(self, final: bool) -> int:
        """Fetches and clears Xen's dirty bitmap; returns how many pfns it names."""

    def logdirty_count(self) -> int:
        """How many pfns Xen's dirty bitmap names by now; it is neither fetched nor cleared."""

    def count_runs(self) -> int:
        """How many runs of pfns in a row are marked for sending."""

    def mark_all(self) -> None:
        """Marks every pfn for sending."""

    def mark_data(self) -> int:
        """Marks every pfn that was not sent as a hole; returns how many that adds."""

    def written(self, mfns: Sequence[int]) -> bool:
        """Whether the dirty bitmap, as it was fetched, names one of these frames of the guest's, or may do so."""

    def merge_deferred(self) -> int:
        """Marks the deferred pfns that have a frame now, and without a p2m those that may have got a page since the
        last bitmap; returns how many that adds.

        Raises P2mError, where the p2m is not followed, if a page of it that the bitmap names is a page table by now.
        """

    def follow(self) -> None:
        """Remembers from now on what is sent of each pfn, for :meth:`sweep`. Before the first batch."""

    def sweep(self, final: bool) -> SweepResult:
        """Marks what must be sent again because the p2m says something else than what was sent.

        ``final``: the guest is suspended. Then only those pages of the p2m are looked at which the dirty bitmap names;
        and a frame that no pfn has, and that the guest has kept, is not about to get one.

        Once after each :meth:`logdirty_clean` and :meth:`merge_deferred`. Raises P2mError if a page of the p2m that was
        written is a page table by now.
        """

    @property
    def nr_pfns(self) -> int:
        """How many pfns it has: see :meth:`grow`."""

    def has_data(self, pfn: int) -> bool:
        """Whether the stream has a page of it, once a pass over all pfns is over."""

    def broken(self, most: int) -> tuple[int, list[int]]:
        """How many pfns the stream has as BROKEN, without their content; and the first of them, ``most`` at most."""

    def watch_pages(self) -> int:
        """Without a p2m: how many pages the domain has. From then on :meth:`batches` and :meth:`look_at_physmap` pause
        as soon as the number has changed, so that it can be asked again."""

    def look_at_physmap(self, again: Again) -> LookResult:
        """Without a p2m: asks Xen where there are pages, and marks what came and went since it was sent.

        It is marked once more by :meth:`merge_deferred` when the next bitmap has been fetched: only from then on does
        Xen track what is written to a page that came. Between two batches, or after :meth:`merge_deferred`.
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

    def paused(self) -> None:
        """The guest was suspended in the midst of a live pass, which goes on: no write waits for the disk any more."""

    def goes_on(self) -> None:
        """The suspended guest runs again, and the save goes on: lets go of all mappings, and pages may move again."""

    def batches(self, sink: SinkHandle, again: Again) -> BatchResult:
        """Sends marked pfns in PAGE_DATA records of at most 1024, until the pass is over or for some hundredths of a
        second: one record at least."""

    def prepare_end(self, plan: EndPlan) -> None:
        """While the guest runs: what :meth:`end` needs, as it was learnt last."""

    def rehearse_end(self, again: Again, with_bitmap: bool, pages: int, to_pipe: bool) -> Trial:
        """While the guest runs: of :meth:`end`, as prepared, what sends and changes nothing, so that its time is known.

        ``with_bitmap``: reads the dirty bitmap, too; what is marked for sending is not known any more afterwards.
        ``pages``: in the pass's place so many pages, or some dozens if that is less, are mapped and read, or, with
        ``to_pipe``, written to a pipe that is made for it.
        ``again`` is called as by :meth:`end` when the pass is over. Raises what the calls raise; nothing is lost then.
        """

    def end(self, sink: SinkHandle, again: Again) -> int:
        """The guest has been suspended: fetches the last dirty bitmap, marks what else the pass has to send, sends it,
        and writes the guest's state and the end of the stream. Once after each :meth:`prepare_end`.

        Returns how far it has come: NOTHING, FETCHED, SENT or COMPLETE of ``interface.results``. It stops early,
        without an error, where the guest is not as the plan says. ``again`` is called now and then, and once when the
        pass is over. What is raised is what the single steps raise.
        """

    @property
    def end_reached(self) -> int:
        """How far :meth:`end` has come by now. This and both below only after :meth:`prepare_end`."""

    @property
    def end_complete_at(self) -> int:
        """The stream's length once it is complete; 0 as long as that is not known."""

    @property
    def ending(self) -> EndResult:
        """What :meth:`end` has done, and how far it has come by now."""

    def close(self) -> None:
        """Log-dirty off if still on, mappings and memory gone; harmless when done before."""


class Saving(Protocol):
    """Saves, and the log-dirty mode that they need."""

    def new_save(self, domid: int, nr_pfns: int, p2m: Optional[P2mHandle]) -> SaveHandle:
        """What a save needs. ``p2m`` None: pfn == gfn (HVM)."""

    def logdirty_off(self, domid: int) -> bool:
        """Ends log-dirty mode, whoever began it; no error if it is not on. False: this Xen has none for the domain."""
