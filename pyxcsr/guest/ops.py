"""The contract of the save ops: one final class for each guest type implements all of them.

Ops *give records*; only the saver writes them. They are called from one thread, in this order:

    check, setup, static_data, start_of_stream,
    start_of_checkpoint, { check_iteration, pages, check_iteration } ...,
    settle, check_iteration, pages, check_iteration, end_of_pages, end_of_checkpoint,
    cleanup

and ``note_written`` whenever a dirty bitmap has come, before ``check_iteration`` or ``settle``. ``check``,
``note_written``, ``settle`` and ``end_of_pages`` are this project's own.

Names are libxc's (struct xc_sr_save_ops). ``pfn_to_gfn`` and ``normalise_page``, which libxc has among them, are
done in C for a whole batch at a time; the p2m that they need is ``p2m``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Optional, Protocol

from pyxcsr.hypervisor.interface import P2mHandle, PageResult, SourceHandle
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.records import Record


class SaveOps(Protocol):
    """One guest's save, by its type. Whoever makes one calls ``cleanup`` in the end, whatever happened."""

    domain_type: DomainType
    """What the domain header says."""

    @property
    def nr_pfns(self) -> int:
        """How many pfns there are to save. Valid after ``setup``; a count, which may grow and never shrinks."""

    @property
    def p2m(self) -> Optional[P2mHandle]:
        """The guest's p2m, owned by the ops; None where pfn == gfn. Valid from ``setup`` to ``cleanup``."""

    @property
    def p2m_generation(self) -> int:
        """The generation that the p2m was taken at; 0 where there is none."""

    def check(self) -> None:
        """Raises NotSupported for a guest that this release cannot save; takes nothing, and changes nothing.

        Called before a guest is asked for anything, perhaps on other ops than those that then save it.
        """

    def setup(self) -> None:
        """Learns about the guest and maps what is needed for the whole save.

        Called once, before what follows, the guest running or suspended. On failure nothing has been written; what
        has been mapped is released by ``cleanup``.
        """

    def static_data(self) -> Iterator[Record]:
        """What does not depend on the guest's state. Called once, after the headers."""

    def start_of_stream(self) -> Iterator[Record]:
        """What must come before any page. Called once."""

    def start_of_checkpoint(self) -> Iterator[Record]:
        """What must come before each checkpoint's pages. A plain save is one checkpoint."""

    def check_iteration(self) -> Iterator[Record]:
        """Is what ``setup`` learned still true? Called before each pass and again after it.

        The suspended pass is included, and so is the only pass of a non-live save. To *cancel* it raises
        (P2mChanged): the save ends, the guest goes on running. To *handle* a change it brings the ops up to date
        (``p2m``, ``nr_pfns``) and yields the records that tell the receiver; what the change means for pages that
        were sent already is the saver's to find out (SaveHandle.sweep). Ops that handle changes may be called
        within a live pass, too.
        """

    def note_written(self, written: Callable[[Sequence[int]], bool]) -> None:
        """The dirty bitmap was fetched, or has just been begun: ``written(mfns)`` says whether it names one of these.

        Called of each bitmap before anything else is done about it, so that ops which keep watch over the guest's
        own tables miss no write to them. In the beginning ``written`` is true of everything.
        """

    def settle(self) -> Iterator[Record]:
        """The guest of a live save is suspended: what it did until now, announced or not, is done.

        Called once, before the last pass; yields what the receiver must be told. From here on nothing may change,
        and ``check_iteration`` cancels if it does. Ops that do not handle changes leave all to ``check_iteration``.
        """

    def end_of_pages(self) -> Iterator[Record]:
        """What must follow the guest's pages. Called after the last pass, and again after one for comparison."""

    def end_of_checkpoint(self) -> bytes:
        """The guest's state besides its memory: records, as they stand in the stream. The guest is suspended."""

    def cleanup(self) -> None:
        """Releases everything. Called once, last, on every way out; must not fail if ``setup`` failed half-way."""


class RestoredState(NamedTuple):
    """What a restored guest has: counts, and the frames of its store and console rings (as libxl wants them)."""

    nr_pfns: int
    nr_vcpus: int
    nr_pinned: int
    store_gfn: int
    console_gfn: int


class Rings(NamedTuple):
    """A restored guest's new event channels, and whose they are."""

    store_evtchn: int = 0
    store_domid: int = 0
    console_evtchn: int = 0
    console_domid: int = 0


class RestoreOps(Protocol):
    """One guest's restore, by its type: the mirror of SaveOps. Names are libxc's (struct xc_sr_restore_ops).

    They are called from one thread, in this order: setup, { process_record } ..., stream_complete, cleanup.
    Whoever makes one calls ``cleanup`` in the end, whatever happened. Nothing here unpauses the domain; after a
    failure the half-built domain is its owner's to destroy.
    """

    def setup(self) -> None:
        """Learns about the domain, before anything of it is changed."""

    def static_data_complete(self) -> int:
        """All that does not depend on the guest's state has come: its CPU policy is set.

        Returns what was missing: bit 0 CPUID, bit 1 MSR policy.
        """

    def process_record(self, record: Record) -> None:
        """Takes a record that is neither PAGE_DATA nor about the stream itself. Raises StreamError if it cannot be."""

    def pages(self, source: SourceHandle, length: int, offset: int) -> PageResult:
        """Takes a PAGE_DATA record's body from the source into the guest."""

    def compare(self) -> None:
        """VERIFY: from here on pages are compared with the guest's."""

    def body_limit(self, code: int) -> int:
        """How long a record of that type may be, in bytes, for this domain."""

    def stream_complete(self, offset: int) -> RestoredState:
        """All has come: is it whole? Then the guest gets its state. ``offset``: END's, for messages."""

    def cleanup(self) -> None:
        """Releases everything; must not fail if ``setup`` failed half-way."""
