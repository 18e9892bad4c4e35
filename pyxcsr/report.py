"""What a save tells: while it runs (Progress) and when it has succeeded (SaveReport)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Optional


@dataclass(frozen=True)
class Progress:
    """Where a save stands.

    ``phase``: "setup", "pass" (guest running), "suspend", "final" and "verify" (guest suspended), "tail" or "done";
    ``iteration``: of the pass, from 0; ``pages_done`` of ``pages_total``: pfns of this pass looked at and to
    look at; ``bytes_written``, ``seconds``: since the save began; ``dirty_count``: what this pass set out with;
    ``p2m_follows``, ``p2m_resent``: changes of the p2m's structure followed, and pfns marked for another sending
    because of what the p2m says of them, since the save began.
    """

    phase: str
    iteration: int
    pages_done: int
    pages_total: int
    bytes_written: int
    dirty_count: int
    seconds: float
    p2m_follows: int = 0
    p2m_resent: int = 0


ProgressCallback = Callable[[Progress], None]


@dataclass
class PassReport:
    """One pass: ``dirty`` pfns it set out with, ``pages`` sent with data, ``holes`` without memory,
    ``deferred`` to come back to, ``tables`` of the pages that are page tables, ``bytes`` written."""

    iteration: int
    suspended: bool
    dirty: int
    pages: int = 0
    holes: int = 0
    deferred: int = 0
    tables: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def pages_per_second(self) -> Optional[float]:
        """The pass's rate, or None if it was too short to tell."""
        return self.pages / self.seconds if self.seconds > 0 else None


@dataclass
class P2mReport:
    """What the guest did to its p2m during a save that follows it, and what that cost.

    ``follows``: changes of structure that were followed, of them ``unannounced``
    those that p2m_generation said nothing of; ``overtaken``: attempts to follow one that the next change came into;
    ``records``: X86_PV_P2M_FRAMES sent after the first one; ``restless``:
    the limits were reached and the guest suspended for that. By the ``sweeps`` over the p2m: pfns that ``appeared``,
    ``vanished``, ``moved`` to another frame, that may have gone and come back (``returned``), page ``tables`` that may
    refer to such; ``resent``: of all these, pfns that no dirty bitmap named.
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
class SaveReport:
    """A save that has succeeded.

    ``bytes``: of the whole stream; ``seconds_suspending``: from asking the guest until it was suspended;
    ``seconds_paused``: from then until the stream's last byte was written; ``logdirty_retried``: log-dirty
    mode had been left on by somebody else; ``p2m_generation``: at which the p2m was taken; ``verify``: the pass that
    sent all pages a second time, if asked for; ``p2m``: what became of the p2m meanwhile; ``mapped_ahead``: batches
    whose pages a second thread mapped while the one before was written; ``warnings``: what was asked for and could not
    be had, or not be tidied up afterwards (the image is complete all the same).
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
    mapped_ahead: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def pages(self) -> int:
        """Pages sent with data, in all passes."""
        return sum(x.pages for x in self.passes)

    @property
    def deferred_at_end(self) -> int:
        """Pages of a suspended guest that could not be sent: always 0, or the save would have failed."""
        return self.passes[-1].deferred if self.passes else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with the totals."""
        return {**asdict(self), "pages": self.pages, "deferred_at_end": self.deferred_at_end}


@dataclass
class RestoreReport:
    """A restore that has succeeded; the domain is complete and still paused.

    ``version``: of the stream; ``pages``: with data, in all passes; ``populated``: pages of memory given to the domain;
    ``store_gfn``, ``console_gfn``: frames of its rings; ``compared``: pages sent a second time and found equal;
    ``missing_policy``: bit 0 CPUID, bit 1 MSR policy absent.
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
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
