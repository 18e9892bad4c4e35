"""A save that goes on after the guest's state: checkpoint after checkpoint in one stream (Remus, docs/remus.md).

Its first checkpoint is a live save. For each one after it the guest runs for an interval, is suspended, what it has
written since the last one is sent, then its state and a CHECKPOINT record; then it goes on. The order is libxenguest's:
suspend, pages, state, CHECKPOINT, postcopy (the guest goes on), checkpoint (whoever has more to write does it now).
"""

from __future__ import annotations

import time

from pyxcsr.errors import UsageError, note
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.report import Checkpoint, CheckpointsReport
from pyxcsr.stream.format import RECORD_HEADER, RecordType
from pyxcsr.suspend.base import PlainSuspend
from pyxcsr.transfer.descriptor import flush_output
from pyxcsr.transfer.saver import END, Saver

if TYPE_CHECKING:
    from pyxcsr.checkpointed import Checkpointed
    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor
    from pyxcsr.options import SaveOptions
    from pyxcsr.report import PassReport, SaveReport
    from pyxcsr.suspend.base import Suspend
    from pyxcsr.transfer.descriptor import Stream

CHECKPOINT = RECORD_HEADER.pack(RecordType.CHECKPOINT, 0)

STEP = 0.01
"""Seconds between two looks at what may change while the guest runs: a wish to cancel, the guest's physmap."""

CALLED = 2 * STEP
"""Seconds for which a function of the caller's may keep the save from watching the guest's physmap between two
checkpoints. It is less than in a pass, because the look that is due after it is made while the guest runs."""


class CheckpointedSaver(Saver):
    """One checkpointed save."""

    _ends_at_once = False

    def __init__(self, hv: Hypervisor, domid: int, options: SaveOptions) -> None:
        assert options.checkpointed is not None
        self._asked: Checkpointed = options.checkpointed
        super().__init__(hv, domid, options)
        self._sums = self._report.checkpoints = CheckpointsReport(self._asked.interval)
        self._offset = 0  # where the last checkpoint ended
        self._out: Stream

    def run(self, out: Stream) -> SaveReport:
        """Saves the domain into ``out`` until the last checkpoint; an error says how many were whole."""
        self._out = out
        try:
            return super().run(out)
        except BaseException as error:
            if self._sums.count:
                note(error, f"checkpoints that had been written whole: {self._sums.count}")
            raise

    def _who_suspends(self, info: DomainInfo) -> Suspend:
        suspend = super()._who_suspends(info)
        if self._asked.postcopy is None and isinstance(suspend, PlainSuspend):
            raise UsageError(
                "suspend is a plain callable, and nobody can resume the guest after a checkpoint: give a "
                "pyxcsr.Suspend, or Checkpointed(postcopy=...)"
            )
        return suspend

    def _while_suspended(self) -> None:
        self._last_pass()
        done = self._report.passes[-1]
        while not self._checkpoint(done):
            self._run_on()
            done = self._changes()

    def _checkpoint(self, done: PassReport) -> bool:
        """The guest's pages have been written by the pass ``done``: makes it a checkpoint. True if that is the last."""
        number = self._sums.count + 1
        self._tell("tail", done)
        self._poll()
        is_last = self._asked.is_last(number)
        self._put(self._tail(CHECKPOINT))
        self._note(number, done, self._pause.seconds() if is_last else self._goes_on())
        self._warn_of_broken()
        if self._asked.checkpoint is not None and self._sums.last is not None:
            self._asked.checkpoint(self._sums.last)  # of the last one, too: a receiver reads what is theirs at each
            flush_output(self._out, self._sink.offset)
        if is_last:
            self._put_last(END)
            self._paused(self._pause.seconds())
        return is_last

    def _goes_on(self) -> float:
        """The guest runs again. Returns for how long it was suspended."""
        if self._following is not None:
            self._following.goes_on()
        seconds = self._pause.goes_on(self._asked.postcopy)
        if self._asked.postcopy is not None:  # the caller's, which may write
            flush_output(self._out, self._sink.offset)
        if self._following is not None and self._asked.postcopy is None and self._pause.resumed_at is not None:
            self._following.goes_on(self._pause.resumed_at)  # its device model was first
        self._save.goes_on()
        if self._bandwidth is not None:
            self._bandwidth.apply(paused=False)
        self._control.goes_on()
        return seconds

    def _note(self, number: int, done: PassReport, paused: float) -> None:
        offset, self._offset = self._offset, self._sink.offset
        sizes = done.dirty, done.pages, self._offset - offset
        self._sums.add(Checkpoint(number, *sizes, self._pause.seconds_suspending, paused))

    def _run_on(self) -> None:
        """The guest runs for the interval, and is suspended again."""
        until = time.monotonic() + self._asked.interval
        if self._following is not None:
            self._following.returned(CALLED)
        while True:
            self._poll()
            self._look_for_others(often=True)
            left = until - time.monotonic()
            if self._physmap is not None:
                self._physmap.look(now=left <= 0)  # what is not found now the suspended guest will wait for
            if left <= 0:
                break
            time.sleep(min(left, STEP))
        self._tell("suspend")
        self._pause.begin(self._info)
        if self._following is not None:
            self._following.suspended(self._pause.suspended_at)
        if self._bandwidth is not None:
            self._bandwidth.apply(paused=True)

    def _changes(self) -> PassReport:
        """What the guest has written since the last checkpoint. It is suspended."""
        dirty = self._fetch_dirty(final=True)
        done = self._pass("final", dirty, suspended=True)
        self._write(self._ops.end_of_pages())
        return done

    @property
    def _nr_passes(self) -> int:
        return len(self._report.passes) + max(self._sums.count - 1, 0)
