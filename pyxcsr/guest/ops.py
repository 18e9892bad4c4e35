"""The contract of the ops: one final class for each guest type implements all of SaveOps, another all of RestoreOps.

Most names are libxc's (struct xc_sr_save_ops, struct xc_sr_restore_ops). libxc's ``pfn_to_gfn`` and ``normalise_page``
are missing, because C does them for a whole batch, with the p2m that the ops give it. Names of our own are ``check``,
``suspend_first``, ``following``, ``rehearse`` and ``end_of_pages``; in RestoreOps ``body_limit``, ``pages``, ``judge``
and ``compare``. ``switch_device_model`` stands for a callback of libxc's, switch_qemu_logdirty.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Optional

    from pyxcsr.guest.judging import Judge
    from pyxcsr.hypervisor.interface import (
        DomainInfo,
        EndPlan,
        Hypervisor,
        P2mHandle,
        PageResult,
        SaveHandle,
        SourceHandle,
        SweepResult,
    )
    from pyxcsr.options import RestoreOptions, SaveOptions
    from pyxcsr.report import SaveReport
    from pyxcsr.stream.format import DomainType
    from pyxcsr.stream.origin import Origin
    from pyxcsr.stream.records import Record

    Write = Callable[[Iterable[Record]], None]
    """Writes records to the stream."""


class SaveContext:
    """What a save gives its ops.

    ``info``: what Xen said of the domain when these ops were made. ``poll``: the ops call it while they wait; it raises
    Cancelled if the save is to end. ``report``: the save's report, in which the ops count what they do.
    """

    __slots__ = ("hv", "info", "options", "poll", "report")

    def __init__(
        self, hv: Hypervisor, info: DomainInfo, options: SaveOptions, poll: Callable[[], None], report: SaveReport
    ) -> None:
        self.hv, self.info, self.options, self.poll, self.report = hv, info, options, poll, report


class Following(Protocol):
    """Follows what a guest changes of its p2m or physmap during a live save.

    The saver calls ``tracked`` once; ``begin_pass`` before each pass, and while the guest runs ``look`` in it; and each
    time that a dirty bitmap has been fetched ``fetched`` and then ``sweep``. The last time, when the guest is
    suspended, these two are called with ``final``. ``watch`` is called whenever the saver waits while the guest runs,
    and ``returned`` after it has called what need not have watched; ``suspended`` when the guest has been suspended,
    and ``goes_on`` when it goes on after a checkpoint.
    """

    restless: Optional[str]
    """None; or, once the guest changes more often than the limits allow, why it cannot be followed while it runs."""

    @property
    def moving(self) -> bool:
        """Whether ``watch`` has seen something since the last sweep that SaveHandle.end does not see to."""

    def watch(self) -> None:
        """Notes what can be seen now only. Neither looks nor writes: a page may be half-written."""

    def returned(self, longest: float) -> None:
        """A function of somebody else's has returned, during which the guest ran. If nobody has watched for longer than
        ``longest`` seconds, a look is due, whatever there is to see by now. Asks Xen nothing."""

    def suspended(self, at: Optional[float] = None) -> None:
        """The guest has been suspended, ``at`` some moment or now, by a function that need not have watched until then:
        the same, if it has taken longer than is usual between two looks, and the guest's memory may well change."""

    def goes_on(self, at: Optional[float] = None) -> None:
        """A checkpoint has been written, and the guest is about to go on, or has gone on ``at`` some moment."""

    def ended(self, found: SweepResult) -> None:
        """The last look and the last sweep were made by SaveHandle.end, which ``found`` that."""

    def tracked(self) -> None:
        """Log-dirty mode has been switched on. What the guest wrote before that, no bitmap will name."""

    def begin_pass(self) -> None:
        """A pass begins: what is limited in one pass is counted from here."""

    def look(self, now: bool = False) -> None:
        """Brings what is mapped up to date, and writes records that tell the receiver. Does nothing once restless.
        ``now``: the guest will be suspended next, so a look that is due is not put off."""

    def fetched(self, final: bool) -> None:
        """A dirty bitmap has been fetched: looks again. ``final``: the guest is suspended, so this look is the last."""

    def sweep(self, final: bool) -> int:
        """Marks pfns that must be sent again although the bitmap does not name them; returns how many it has added."""


class SaveOps(Protocol):
    """One guest's save, by its type.

    Ops *give records*; only the saver writes them. They are called from one thread, in this order:

        check                                   perhaps on other ops than those that then save the guest
        suspend_first                           asked before a save that is not live
        setup
        following                               for a live save; below, F is what it returned, unless that is None
        static_data, start_of_stream, start_of_checkpoint
        switch_device_model(True)               of a live save, before log-dirty mode is enabled
        F.tracked
        { F.begin_pass, pass, F.fetched, F.sweep } ...                      live passes, the guest running
        rehearse, plan_end                      the guest still runs; not if it was suspended in the midst of a pass
        F.fetched(final), F.sweep(final), pass                              the guest is suspended
        end_of_pages, and after a pass for comparison (VERIFY) again
        end_of_checkpoint                       F.ended instead of these, as far as SaveHandle.end has done their work
        switch_device_model(False)              when log-dirty mode is off, also after a failure
        cleanup

    A pass is ``check_iteration``, the pages, ``check_iteration``. While the guest runs and there is an F, ``F.look`` is
    called instead of ``check_iteration``. A save that is not live has one pass only. Whoever calls ``setup`` calls
    ``cleanup`` in the end, whatever happened.
    """

    domain_type: DomainType
    """What the domain header says."""

    @property
    def nr_pfns(self) -> int:
        """How many pfns there are to save: a count, which may grow but never shrinks. Valid after ``setup``."""

    @property
    def p2m(self) -> Optional[P2mHandle]:
        """The guest's p2m, owned by the ops; None where pfn == gfn. Valid from ``setup`` to ``cleanup``."""

    @property
    def p2m_generation(self) -> int:
        """p2m_generation when the p2m was last mapped; 0 for guests that have none."""

    @property
    def suspend_first(self) -> bool:
        """Whether a save that is not live suspends the guest before ``setup``: what that learns then cannot change."""

    def check(self) -> None:
        """Raises NotSupported for a guest that this release cannot save. Maps nothing and changes nothing.

        Called before the guest is touched.
        """

    def setup(self) -> None:
        """Learns about the guest and maps what is needed for the whole save.

        Called once; the guest may be running or suspended. If it fails, nothing has been written to the stream, and
        ``cleanup`` releases what has been mapped so far.
        """

    def following(self, save: SaveHandle, write: Write) -> Optional[Following]:
        """What follows this guest's changes, or None if nothing can change, or if a change is to end the save.

        Called once in a live save, before the first page. ``save`` stays open longer than what is returned is used.
        """

    def switch_device_model(self, on: bool, alone: bool = True) -> None:
        """Has the guest's device model, if it has one, tell Xen of the pages that it writes, or stop doing so.

        Called with False even if True has failed, and once more if False fails. What the device model can be told then
        is decided here (:mod:`pyxcsr.devicemodel.told`). ``alone``: nobody else can have had it stop since it began, as
        another save of the guest would have had; that takes less time than to make sure. Raises DeviceModelError.
        """

    def static_data(self) -> Iterator[Record]:
        """Records that do not depend on the guest's state. Called once, after the headers."""

    def start_of_stream(self) -> Iterator[Record]:
        """Records that must come before any page. Called once."""

    def start_of_checkpoint(self) -> Iterator[Record]:
        """Records that must come before a checkpoint's pages. A plain save has one checkpoint."""

    def check_iteration(self) -> Iterator[Record]:
        """Checks that what ``setup`` learned is still true. Called before each pass and again after it.

        That includes the last pass, of a suspended guest, and the only pass of a save that is not live. If something
        has changed, the ops may end the save by raising P2mChanged; the guest then goes on running. Or they bring
        ``p2m`` and ``nr_pfns`` up to date and yield the records that tell the receiver.
        """

    def rehearse(self, save: SaveHandle) -> None:
        """Asks Xen for what ``end_of_checkpoint`` will ask for, and throws it away.

        Called once, just before a live save suspends the guest. What Xen refuses to tell is so found out while the
        guest still runs. And code and memory that are used for the first time take several times as long as afterwards,
        which the suspended guest would wait for. Raises what ``end_of_checkpoint`` raises, except for state that only a
        suspended guest has.
        """

    def plan_end(self, save: SaveHandle, last: bytes) -> Optional[EndPlan]:
        """All that SaveHandle.end has to know, or None if this guest's save has to be ended step by step.

        Called once in a live save, after ``rehearse``. ``last``: what follows the guest's state.
        """

    def end_of_pages(self) -> Iterator[Record]:
        """Records that must follow the guest's pages. Called after the last pass, and after one for comparison."""

    def end_of_checkpoint(self, save: SaveHandle) -> bytes:
        """The guest's state besides its memory, as the bytes of its records. Called when the guest is suspended, and
        all that ``save`` has to send of its memory has been sent. Raises GuestStateError for a state that no receiver
        takes."""

    def cleanup(self) -> None:
        """Releases everything. Called once, last, whatever happened; must work if ``setup`` failed half-way."""


class RestoredState(NamedTuple):
    """What a restored guest has: counts, and the gfns of its store and console rings, which libxl wants to know."""

    nr_pfns: int
    nr_vcpus: int
    nr_pinned: int
    store_gfn: int
    console_gfn: int
    warning: str = ""


class RestoreContext:
    """What a restore gives its ops.

    ``poll``: the ops call it while they wait; it may raise Cancelled. ``origin``: where the stream says it is from.
    """

    __slots__ = ("hv", "info", "options", "origin", "poll")

    def __init__(
        self, hv: Hypervisor, info: DomainInfo, options: RestoreOptions, poll: Callable[[], None], origin: Origin
    ) -> None:
        self.hv, self.info, self.options, self.poll, self.origin = hv, info, options, poll, origin


class RestoreOps(Protocol):
    """One guest's restore, by its type: the mirror of SaveOps. They are called from one thread, in this order:

        setup
        { body_limit, process_record } ...      X86_PV_INFO and the CPU policies
        static_data_complete                    at STATIC_DATA_END; in version 2, before the first other record
        { body_limit, process_record | pages } ...
        compare                                 at VERIFY, if there is one; after it ``pages`` compares
        { checkpoint_complete, judge, begin_checkpoint, { body_limit, process_record | pages } ... } ...
                                                of a checkpointed stream: for each whole checkpoint
        stream_complete                         at END, or at a checkpointed stream's end
        cleanup

    ``cleanup`` is called in the end, whatever happened. No op unpauses the domain. After a failure the domain is
    half-built, and its owner must destroy it.
    """

    def setup(self) -> None:
        """Prepares for this domain. Nothing of the domain is changed yet."""

    def static_data_complete(self) -> int:
        """The static data has come: sets the domain's CPU policy.

        Returns what the stream has no policy for: bit 0 CPUID, bit 1 MSRs.
        """

    def body_limit(self, code: int) -> int:
        """How many bytes a body of that record type may have, for this domain. Asked before the body is read."""

    def process_record(self, record: Record) -> None:
        """Takes a record that is neither PAGE_DATA nor about the stream itself. Raises StreamError if it is wrong."""

    def pages(self, source: SourceHandle, length: int, offset: int) -> PageResult:
        """Reads a PAGE_DATA record's body from the source into the guest. ``offset``: the record's, for messages."""

    needed: frozenset[int]
    """Types of the records without which no checkpoint is whole."""

    def judge(self) -> Judge:
        """What judges the records of the next checkpoint, while the domain is still the last one's guest."""

    def checkpoint_complete(self) -> None:
        """A checkpoint is whole: gives back the memory of pfns that the guest has not any more."""

    def begin_checkpoint(self, pages: Iterable[Sequence[int]]) -> None:
        """The records of a further checkpoint, which is whole, follow: forgets the state of the last one.

        ``pages``: the entries of its PAGE_DATA records, one by one. What they say to be gone is given back before the
        first page comes: the guest may own as many pages as it is allowed to, and have exchanged some.
        """

    def compare(self, offset: int) -> None:
        """VERIFY has come: from now on ``pages`` compares pages with the guest's instead of writing them.

        ``offset``: its own. Raises StreamError where it is not known yet what the guest's memory is like.
        """

    def stream_complete(self, offset: int) -> RestoredState:
        """END has come: checks that nothing is missing, then sets the guest's state. ``offset``: END's."""

    def cleanup(self) -> None:
        """Releases everything; must work if ``setup`` failed half-way."""
