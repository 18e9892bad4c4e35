"""What saves and restores tell: while they run (Progress), and once they have succeeded (SaveReport, RestoreReport)."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, dataclass, field, late

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Optional

    Phase = Literal["setup", "pass", "suspend", "final", "verify", "tail", "done"]
else:
    __getattr__ = late(
        __name__,
        Phase=lambda typing: typing.Literal["setup", "pass", "suspend", "final", "verify", "tail", "done"],
    )


@dataclass(frozen=True)
class Progress:
    """Where a save or a restore stands.

    ``phase``: "setup", "pass" (the guest runs), "suspend", "final" and "verify" (the guest is suspended), "tail" or
    "done"; of a restore "pass", "tail" or "done". ``iteration``: the number of the pass, from 0. ``pages_done`` of
    ``pages_total``: how many of the pass's pfns have been looked at, and how many there are; of a restore pages taken,
    and 0. ``bytes_written``: of the stream, read if it is a restore; ``seconds``: since the work began.
    ``dirty_count``: how many pfns were marked when the pass began. ``p2m_follows``: how many changes of the p2m's
    structure were followed since the save began; ``p2m_resent``: how many pfns were marked although no dirty bitmap
    named them. Of a live save, and None until it has been measured: ``dirty_rate``: pfns that the guest dirties in
    a second; ``bandwidth``: bytes written in a second; ``predicted_pause``: for how many seconds the guest would
    be paused if it were suspended now, or, once it is, what was expected then. ``throttled``: the share of its
    processor time that the guest lacks now, because this save has taken it, between 0 and 1. ``pages_left``: of a save,
    how many pages this pass has still to send, at most, since the guest has no more; None between passes.
    """

    phase: Phase
    iteration: int
    pages_done: int
    pages_total: int
    bytes_written: int
    dirty_count: int
    seconds: float
    p2m_follows: int = 0
    p2m_resent: int = 0
    dirty_rate: Optional[float] = None
    bandwidth: Optional[float] = None
    predicted_pause: Optional[float] = None
    throttled: float = 0.0
    pages_left: Optional[int] = None

    @property
    def remaining(self) -> int:
        """Pages that this pass has still to send, at most: ``pages_left``, or pfns that it has to look at."""
        return max(self.pages_total - self.pages_done, 0) if self.pages_left is None else self.pages_left


if TYPE_CHECKING:
    ProgressCallback = Callable[[Progress], None]


@dataclass
class PassReport:
    """One pass. ``dirty``: pfns marked when it began. Of these, ``pages`` were sent with data, ``tables`` of them page
    tables; ``holes`` have no memory; ``deferred`` could not be sent yet. ``bytes``: written to the stream in it.
    ``began``: seconds since the save began; ``seconds_held``: for how long the bandwidth limit kept it waiting;
    ``predicted_pause``: after it, of a live pass, how long the pause would be, or None if nothing was known yet."""

    iteration: int
    suspended: bool
    dirty: int
    pages: int = 0
    holes: int = 0
    deferred: int = 0
    tables: int = 0
    bytes: int = 0
    seconds: float = 0.0
    began: float = 0.0
    seconds_held: float = 0.0
    predicted_pause: Optional[float] = None

    @property
    def pages_per_second(self) -> Optional[float]:
        """The pass's rate, or None if it was too short to tell."""
        return self.pages / self.seconds if self.seconds > 0 else None


@dataclass
class P2mReport:
    """What the guest did to its p2m during a save that follows it, and what that cost.

    ``follows``: changes of structure that were followed; ``unannounced``: how many of them shared_info said nothing of;
    ``overtaken``: attempts to follow a change that were given up because another change came; ``records``:
    X86_PV_P2M_FRAMES records sent after the first one; ``restless``: the guest was suspended because it changed the
    structure more often than the limits allow. ``sweeps``: comparisons of the p2m's entries with what had been sent.
    They found pfns that ``appeared``, ``vanished``, or ``moved`` to another frame, pfns that may have gone and come
    back with the same frame (``returned``), and page ``tables`` that may refer to any of these; ``resent``: how many of
    all these no dirty bitmap had named.
    """

    follows: int = 0
    unannounced: int = 0
    overtaken: int = 0
    records: int = 0
    restless: bool = False
    sweeps: int = 0
    appeared: int = 0
    vanished: int = 0
    moved: int = 0
    returned: int = 0
    tables: int = 0
    resent: int = 0
    seconds_following: float = 0.0
    seconds_sweeping: float = 0.0


@dataclass
class PhysmapReport:
    """What became of an HVM guest's physmap during a live save.

    ``moves``: how often the number of the guest's pages was seen to have changed; ``looks``: at all gfns, because of
    that; ``appeared``, ``vanished``: gfns that had got a page, or lost theirs, since they were sent, and were sent
    again; ``sent_again``: how often all pages were, since a gfn may have lost its page and got another one unseen, the
    last time perhaps while the guest was suspended; ``may_have_missed``: pages both came and went during the save, or
    some did either while it was not watched, and up to Xen 4.21 nothing tells of a page that goes and comes between two
    questions; ``unwatched``: the longest time in seconds for which the guest ran and the number was not asked for, as
    in a function of the caller's, or 0 if that was never longer than usual; ``exchanges_shown``: whether this Xen
    tells of such a page (since 4.22): if not, a guest that makes such an exchange, and seems to move in one direction
    only, is not noticed.
    """

    moves: int = 0
    looks: int = 0
    appeared: int = 0
    vanished: int = 0
    sent_again: int = 0
    may_have_missed: bool = False
    unwatched: float = 0.0
    exchanges_shown: bool = False
    seconds_looking: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a checkpointed save. ``number``: from 1; ``dirty``: pfns marked when the guest was suspended;
    ``pages``: sent while it was; ``bytes``: written since the last checkpoint, of the first one with all passes before
    it; ``seconds_suspending``: from asking the guest until it was suspended; ``seconds_paused``: from then until it
    went on, or, at the last one, until its CHECKPOINT record was written."""

    number: int
    dirty: int
    pages: int
    bytes: int
    seconds_suspending: float
    seconds_paused: float


@dataclass
class CheckpointsReport:
    """All checkpoints of a save together, and the ``last`` one. ``interval``: seconds for which the guest runs between
    two; ``count``: how many are whole. ``pages``, ``bytes``, ``seconds_paused`` and ``longest_pause`` leave out the
    first checkpoint, which has the whole guest in it."""

    interval: float
    count: int = 0
    pages: int = 0
    bytes: int = 0
    seconds_paused: float = 0.0
    longest_pause: float = 0.0
    last: Optional[Checkpoint] = None

    def add(self, done: Checkpoint) -> None:
        """A checkpoint is whole."""
        self.count, self.last = done.number, done
        if done.number > 1:
            self.pages += done.pages
            self.bytes += done.bytes
            self.seconds_paused += done.seconds_paused
            self.longest_pause = max(self.longest_pause, done.seconds_paused)


@dataclass
class SaveReport:
    """A save that has succeeded.

    ``bytes``: of the whole stream; ``seconds_suspending``: from asking the guest until it was suspended;
    ``seconds_paused``: from then until the stream's last byte was written; ``logdirty_retried``: log-dirty
    mode had been left on by somebody else; ``p2m_generation``: at which the p2m was taken; ``verify``: the pass that
    sent all pages a second time, if asked for; ``p2m``: what became of the p2m meanwhile; ``physmap``: the same of an
    HVM guest's physmap; ``mapped_ahead``: batches whose pages a second thread mapped while the one before was
    written; ``target_dirty``: fewer dirty pages than these the policy wanted to be left for the pause, and
    ``target_reached``: whether fewer were left, or, if the policy decided once the dirty bitmap was fetched, had been
    counted then (both None if the policy has no such number, or the save was not live); ``dirty_left``: how many pages
    were left for the pause, None if the save was not live; ``policy``: its name, or that of its class; ``stopped``: why
    the guest was suspended just then, "" if the policy does not tell; ``predicted_pause``: what ``seconds_paused`` was
    expected to be when the guest was asked to suspend, None if nothing was known; ``max_downtime``: the limit for it,
    and ``downtime_kept``: whether it was kept (both None if there was none when the guest was asked to suspend);
    ``bandwidth_limit``: in bytes a second, if there was one, and the last one if it was changed;
    ``throttled``: the largest share of its processor time that was taken from the guest, between 0 and 1;
    ``compress``: what compressed the stream, "" if nothing did; ``bytes_compressed``: to so many bytes, None where the
    output is no file; ``seconds_settling``: for how long the compressor was waited for before the guest was suspended;
    ``checkpoints``: of a checkpointed save (``passes`` are those up to its first checkpoint), else None;
    ``warnings``: what was asked for and could not be had, or not be tidied up afterwards (the image is
    complete all the same).
    """

    domid: int
    live: bool
    nr_pfns: int = 0
    nr_vcpus: int = 0
    p2m_generation: int = 0
    logdirty_retried: bool = False
    passes: list[PassReport] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0
    seconds_suspending: float = 0.0
    seconds_paused: float = 0.0
    verify: Optional[PassReport] = None
    p2m: P2mReport = field(default_factory=P2mReport)
    physmap: PhysmapReport = field(default_factory=PhysmapReport)
    mapped_ahead: int = 0
    target_dirty: Optional[int] = None
    target_reached: Optional[bool] = None
    dirty_left: Optional[int] = None
    policy: str = ""
    stopped: str = ""
    predicted_pause: Optional[float] = None
    max_downtime: Optional[float] = None
    downtime_kept: Optional[bool] = None
    bandwidth_limit: Optional[int] = None
    throttled: float = 0.0
    compress: str = ""
    bytes_compressed: Optional[int] = None
    seconds_settling: float = 0.0
    checkpoints: Optional[CheckpointsReport] = None
    warnings: list[str] = field(default_factory=list)

    @property
    def pages(self) -> int:
        """Pages sent with data, in all passes."""
        return sum(x.pages for x in self.passes)

    @property
    def deferred_at_end(self) -> int:
        """Pages that the last pass could not send. Always 0, because a save that cannot send a page then fails."""
        return self.passes[-1].deferred if self.passes else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with the totals."""
        from dataclasses import asdict

        return {**asdict(self), "pages": self.pages, "deferred_at_end": self.deferred_at_end}


@dataclass
class RestoreReport:
    """A restore that has succeeded; the domain is complete and still paused.

    ``version``: of the stream; ``pages``: with data, in all passes; ``populated``: pages of memory given to the
    domain; ``store_gfn``, ``console_gfn``: frames of its rings; ``compared``: pages sent a second time and found
    equal; ``missing_policy``: bit 0 CPUID, bit 1 MSR policy absent; ``checkpoints``: of a checkpointed stream, how many
    were whole, the last of which the domain is; ``failed_over``: why that stream ended there, "" if it did with END.
    """

    domid: int
    version: int
    nr_pfns: int = 0
    nr_vcpus: int = 0
    pages: int = 0
    tables: int = 0
    populated: int = 0
    compared: int = 0
    pinned: int = 0
    p2m_records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    store_gfn: int = 0
    console_gfn: int = 0
    missing_policy: int = 0
    checkpoints: int = 0
    failed_over: str = ""
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        from dataclasses import asdict

        return asdict(self)
