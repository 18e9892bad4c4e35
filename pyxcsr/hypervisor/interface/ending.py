"""The end of a live save in one call: what it is told before, and how far it has come."""

from __future__ import annotations

from pyxcsr.hypervisor.interface.results import BatchResult, SweepResult
from pyxcsr.plain import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    from pyxcsr.hypervisor.interface.memory import MappedFrames


class EndPlan(NamedTuple):
    """What was learnt of the guest while it ran.

    Of a PV guest: ``shared_info``, mapped; ``words`` in it, as (offset, bytes, value), that must be unchanged before
    anything is marked, and the first ``nr_kept`` of them before the pages and after them, too; ``tables``: frames of
    page tables that must not have been written; ``max_vcpu``. Of an HVM guest: ``params``, as (index, value), all that
    are asked for; ``gfns`` that must have a page; ``tot_pages`` and ``max_pages``, as Xen told them. Of both:
    ``before``, the records between the pages and the state; ``last``, those after the state; ``room``: bytes for it.
    """

    shared_info: Optional[MappedFrames]
    words: Sequence[tuple[int, int, int]]
    nr_kept: int
    tables: Sequence[int]
    max_vcpu: int
    params: Sequence[tuple[int, int]]
    gfns: Sequence[int]
    tot_pages: int
    max_pages: int
    before: bytes
    last: bytes
    room: int
    has_pm_timer: bool = False
    """Of an HVM guest: a rehearsal does not read Xen's context, which would move that timer on."""


class EndResult(NamedTuple):
    """How far the end has come, and what it did. Less than COMPLETE: the caller goes on from there.

    ``marked``: pfns that the pass has to send, so far if less than SENT is reached, 0 while nobody has counted them;
    ``complete_at``: the stream's length once it is complete, 0 if that is not known yet; ``began``: when the bitmap was
    asked for, by time.monotonic(). All below is in seconds: ``fetching`` until all was marked, of it ``sweeping``; the
    ``passing``, of it ``held`` for the bandwidth's sake.
    """

    reached: int
    marked: int
    sweep: SweepResult
    batches: BatchResult
    complete_at: int
    began: float
    fetching: float
    sweeping: float
    passing: float
    held: float
