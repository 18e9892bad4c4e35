"""The contract of the ops: one final class for each guest type implements all of SaveOps, another all of RestoreOps.

Names are libxc's (struct xc_sr_save_ops, struct xc_sr_restore_ops). ``pfn_to_gfn`` and ``normalise_page``, which libxc
has among them, are done in C for a whole batch at a time; the p2m that they need is ``p2m``. Ours are ``check``,
``suspend_first``, ``following``, ``rehearse`` and ``end_of_pages``; in RestoreOps ``body_limit``, ``pages``,
``compare``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Optional, Protocol

from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, P2mHandle, PageResult, SaveHandle, SourceHandle
from pyxcsr.options import RestoreOptions, SaveOptions
from pyxcsr.report import SaveReport
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.records import Record

Write = Callable[[Iterable[Record]], None]
"""Writes records to the stream."""


class SaveContext:
    """What a save gives its ops.

    ``info``: of the domain, as it was when these ops were made; ``poll``: called while ops wait, may raise (cancel);
    ``report``: the save's, in which the ops count what they do.
    """

    __slots__ = ("hv", "info", "options", "poll", "report")

    def __init__(
        self, hv: Hypervisor, info: DomainInfo, options: SaveOptions, poll: Callable[[], None], report: SaveReport
    ) -> None:
        self.hv, self.info, self.options, self.poll, self.report = hv, info, options, poll, report


class Following(Protocol):
    """Keeps up with what a guest changes of its physical memory's map while it is saved.

    For a live save only. The saver calls ``tracked`` once; ``begin_pass`` before each pass and ``look`` in it, while
    the guest runs; and each time that a dirty bitmap has come, ``fetched`` and then ``sweep``. ``fetched`` with
    ``final`` comes once, of a suspended guest.
    """

    restless: Optional[str]
    """Why this guest cannot be followed while it runs, once it changes more often than the limits allow; else None."""

    def tracked(self) -> None:
        """Log-dirty mode is on from now on; nobody knows what was written before."""

    def begin_pass(self) -> None:
        """A pass begins: limits for one pass count from here."""

    def look(self) -> None:
        """Brings the map up to date, and tells the receiver of changes. Nothing once the guest is restless."""

    def fetched(self, final: bool) -> None:
        """A dirty bitmap has come: brings the map up to date. ``final``: the guest is suspended, all is done."""

    def sweep(self, final: bool) -> int:
        """Marks what must be sent again although the bitmap does not name it; returns how many pfns that adds."""


class SaveOps(Protocol):
    """One guest's save, by its type.

    Ops *give records*; only the saver writes them. They are called from one thread, in this order:

        check                                   perhaps on other ops than those that then save the guest
        suspend_first                           asked before a save that is not live
        setup
        following                               for a live save; below, F is what it returned, unless that is None
        static_data, start_of_stream, start_of_checkpoint
        F.tracked
        { F.begin_pass, pass, F.fetched, F.sweep } ...                      live passes, the guest running
        rehearse                                                            the guest still runs
        F.fetched(final), F.sweep(final), pass                              the guest is suspended
        end_of_pages, and after a pass for comparison (VERIFY) again
        end_of_checkpoint
        cleanup

    A pass is ``check_iteration``, the pages, ``check_iteration``; while the guest runs and there is an F, ``F.look``
    stands in its place. A save that is not live has one pass. Whoever makes ops calls ``cleanup`` in the end, whatever
    happened.
    """

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

    @property
    def suspend_first(self) -> bool:
        """Whether a save that is not live suspends the guest before ``setup``: what that learns can then not change."""

    def check(self) -> None:
        """Raises NotSupported for a guest that this release cannot save; takes nothing, and changes nothing.

        Called before a guest is asked for anything.
        """

    def setup(self) -> None:
        """Learns about the guest and maps what is needed for the whole save.

        Called once, the guest running or suspended. On failure nothing has been written; what has been mapped is
        released by ``cleanup``.
        """

    def following(self, save: SaveHandle, write: Write) -> Optional[Following]:
        """What follows changes of this guest's map, or None where nothing can change or a change ends the save.

        Called once, of a live save, before the first page; ``save`` outlives what is returned.
        """

    def static_data(self) -> Iterator[Record]:
        """What does not depend on the guest's state. Called once, after the headers."""

    def start_of_stream(self) -> Iterator[Record]:
        """What must come before any page. Called once."""

    def start_of_checkpoint(self) -> Iterator[Record]:
        """What must come before each checkpoint's pages. A plain save is one checkpoint."""

    def check_iteration(self) -> Iterator[Record]:
        """Is what ``setup`` learned still true? Called before each pass and again after it.

        The suspended pass is included, and so is the only pass of a save that is not live. To *cancel* it raises
        (P2mChanged): the save ends, the guest goes on running. To *handle* a change it brings the ops up to date
        (``p2m``, ``nr_pfns``) and yields the records that tell the receiver; F may call it within a live pass, too.
        """

    def rehearse(self) -> None:
        """Goes once through what ``end_of_checkpoint`` will ask of Xen, and keeps nothing of it.

        Called once, before a live save suspends the guest. What Xen refuses to tell is found out while the guest still
        runs, and code and memory that the paused guest would wait for are there: the first time takes several times as
        long as the second. Raises what ``end_of_checkpoint`` does, but for what is only true of a suspended guest.
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


class RestoreContext:
    """What a restore gives its ops. ``poll``: called while ops wait, may raise (cancel)."""

    __slots__ = ("hv", "info", "options", "poll")

    def __init__(
        self, hv: Hypervisor, info: DomainInfo, options: RestoreOptions, poll: Callable[[], None]
    ) -> None:
        self.hv, self.info, self.options, self.poll = hv, info, options, poll


class RestoreOps(Protocol):
    """One guest's restore, by its type: the mirror of SaveOps. They are called from one thread, in this order:

        setup
        { body_limit, process_record } ...      X86_PV_INFO and the CPU policies
        static_data_complete                    at STATIC_DATA_END; in version 2, before the first other record
        { body_limit, process_record | pages } ...
        compare                                 at VERIFY, if there is one; after it ``pages`` compares
        stream_complete                         at END
        cleanup

    Whoever makes ops calls ``cleanup`` in the end, whatever happened. Nothing here unpauses the domain; after a
    failure the half-built domain is its owner's to destroy.
    """

    def setup(self) -> None:
        """Learns about the domain, before anything of it is changed."""

    def static_data_complete(self) -> int:
        """All that does not depend on the guest's state has come: its CPU policy is set.

        Returns what was missing: bit 0 CPUID, bit 1 MSR policy.
        """

    def body_limit(self, code: int) -> int:
        """How long a record of that type may be, in bytes, for this domain. Asked before its body is read."""

    def process_record(self, record: Record) -> None:
        """Takes a record that is neither PAGE_DATA nor about the stream itself. Raises StreamError if it cannot be."""

    def pages(self, source: SourceHandle, length: int, offset: int) -> PageResult:
        """Takes a PAGE_DATA record's body from the source into the guest."""

    def compare(self) -> None:
        """VERIFY: from here on pages are compared with the guest's."""

    def stream_complete(self, offset: int) -> RestoredState:
        """All has come: is it whole? Then the guest gets its state. ``offset``: END's, for messages."""

    def cleanup(self) -> None:
        """Releases everything; must not fail if ``setup`` failed half-way."""
