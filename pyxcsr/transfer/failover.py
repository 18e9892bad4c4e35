"""Restoring a checkpointed stream (Remus, docs/remus.md): the domain is always the guest of a whole checkpoint.

Up to the first checkpoint records are put into the domain as they come: before it there is no guest to go back to.
After it they are held back until the next CHECKPOINT, and put into the domain at once. So what has come of a checkpoint
that never became whole has never touched the domain, and when the stream ends, the domain is ready but for its state.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Optional

from pyxcsr.errors import InputError, StreamError, note
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.stream.format import RECORD_OPTIONAL, RecordType
from pyxcsr.stream.incoming import Head, IncomingStream
from pyxcsr.stream.records import decode
from pyxcsr.stream.source import Source
from pyxcsr.transfer.descriptor import hand_over, take_back
from pyxcsr.transfer.restorer import Restorer, SourceFile
from pyxcsr.transfer.spool import Spool
from pyxcsr.units import format_seconds

if TYPE_CHECKING:
    from pyxcsr.guest.judging import Judge
    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, SourceHandle
    from pyxcsr.options import RestoreOptions
    from pyxcsr.report import RestoreReport
    from pyxcsr.transfer.descriptor import Stream

BESIDES = 64 << 20
"""Bytes that a checkpoint may have besides pages: entries of holes, the p2m's frames, the guest's state."""

BETWEEN = (RecordType.VERIFY, RecordType.STATIC_DATA_END, RecordType.X86_CPUID_POLICY, RecordType.X86_MSR_POLICY,
           RecordType.X86_PV_INFO, RecordType.TOOLSTACK, RecordType.CHECKPOINT_DIRTY_PFN_LIST)  # fmt: skip
"""Records that have no place behind the first checkpoint."""


def limit_of(info: DomainInfo) -> int:
    """How many bytes a checkpoint of this domain may have: every page that it may own once, and an eighth more."""
    return info.max_pages * PAGE_SIZE * 9 // 8 + BESIDES


class CheckpointedRestorer(Restorer):
    """One restore of a checkpointed stream."""

    def __init__(self, hv: Hypervisor, domid: int, options: RestoreOptions) -> None:
        super().__init__(hv, domid, options)
        self._heard, self._heard_at = 0, time.monotonic()
        self._in: Stream
        self._lost = ""  # why the next checkpoint cannot be read
        self._listening = False  # there is something to fail over to, and whoever sends it is listened to

    def run(self, in_: Stream) -> RestoreReport:
        self._in = in_
        return super().run(in_)

    def _take_all(self) -> None:
        head = self._first_checkpoint()
        if head is None:
            return
        spool = Spool(limit_of(self._hv.domain_info(self._domid)))
        try:
            replay = self._hv.open_source(spool.fd)
            try:
                self._report.failed_over = self._follow(spool, replay)
            finally:
                replay.close()
        finally:
            spool.close()
        self._end(Head(self._stream.offset, RecordType.END, 0))

    # -- the first checkpoint

    def _first_checkpoint(self) -> Optional[Head]:
        """Takes records up to the first CHECKPOINT; None if END came instead, and the guest is restored."""
        seen: set[int] = set()
        while (head := self._stream.head()).code != RecordType.CHECKPOINT:
            seen.add(head.code)
            if head.code == RecordType.VERIFY:
                raise self._wrong(head, "has no place in a checkpointed stream")
            if not self._record(head):
                return None
            self._poll()
        self._check_checkpoint(head, seen)
        if not self._others_part():
            raise StreamError(
                f"there is no whole checkpoint: what belongs to the one at offset {head.offset} has not come",
                offset=head.offset,
                record=head.name,
            )
        self._whole()
        return head

    def _check_checkpoint(self, head: Head, seen: set[int]) -> None:
        """Raises StreamError if these types of records make no whole checkpoint."""
        if head.length:
            raise self._wrong(head, f"has {head.length} bytes, and must have none")
        missing = sorted(self._ops.needed - seen)
        if missing:
            raise self._wrong(head, f"makes no whole checkpoint: it lacks {RecordType(missing[0]).name}")

    def _others_part(self) -> bool:
        """Whoever else reads the stream has read what is theirs. False if they say that it is not whole."""
        checkpoint = self._options.checkpoint
        if checkpoint is None:
            return True
        try:
            hand_over(self._in)
        except (OSError, ValueError) as error:
            self._lost = f"the input cannot be read any more: {error}"
        if not checkpoint():
            return False
        try:
            take_back(self._in)
        except (OSError, ValueError) as error:  # this checkpoint is whole all the same
            self._lost = f"the input cannot be read any more: {error}"
        return True

    def _whole(self) -> None:
        self._ops.checkpoint_complete()
        self._report.checkpoints += 1
        self._tell("pass")

    # -- the next ones

    def _follow(self, spool: Spool, replay: SourceHandle) -> str:
        """Takes checkpoint after checkpoint, as long as they come. Returns why none comes any more, "" after END."""
        while not self._lost:
            self._heard, self._heard_at, self._listening = self._source.offset, time.monotonic(), True
            try:
                if not self._hold_back(spool):
                    return f"END came within a checkpoint, at offset {self._stream.offset}" if spool.size else ""
            except (StreamError, InputError) as broken:
                return str(broken)
            finally:
                self._listening = False
            if not self._others_part():
                return "what belongs to the last checkpoint besides has not come"
            self._put_in(spool, replay)
            self._whole()
        return self._lost

    def _hold_back(self, spool: Spool) -> bool:
        """Takes records out of the stream up to CHECKPOINT; False if END comes. Raises StreamError, InputError.

        What is wrong with them is found here as far as it can be, while the domain is still the last checkpoint's.
        """
        seen: set[int] = set()
        spool.clear()
        judge = self._ops.judge()
        while True:
            head = self._stream.head()
            if head.code == RecordType.CHECKPOINT:
                self._check_checkpoint(head, seen)
                return True
            if head.code == RecordType.END:
                return False
            self._check_between(head)
            seen.add(head.code)
            at = spool.size
            spool.add(self._stream, head)
            self._judge(judge, head, spool, at)
            self._tell("pass", often=True)
            self._poll()

    def _check_between(self, head: Head) -> None:
        if head.code & RECORD_OPTIONAL:
            return
        if head.code not in RecordType._value2member_map_ or head.code in BETWEEN:
            raise self._wrong(head, "has no place behind a checkpoint")
        if head.code != RecordType.PAGE_DATA:
            self._check_length(head)

    def _judge(self, judge: Judge, head: Head, spool: Spool, at: int) -> None:
        """Of a record that was added to the spool at ``at``. Raises StreamError."""
        if head.code == RecordType.PAGE_DATA:
            wrong = judge.entries(spool.entries(at, head.length), head.length)
            if wrong:
                raise self._wrong(head, wrong)
        elif not head.code & RECORD_OPTIONAL:
            judge.record(decode(head.code, spool.body(at, head.length), head.offset))

    def _put_in(self, spool: Spool, replay: SourceHandle) -> None:
        """A checkpoint is whole: its records go into the domain. If that fails the domain is no guest any more."""
        spool.rewind()
        source = Source(SourceFile(replay, self._poll))  # type: ignore[arg-type]
        source.offset = spool.offset
        live, self._report.bytes = (self._stream, self._source), self._source.offset
        self._stream, self._source = IncomingStream(source), replay
        try:
            self._ops.begin_checkpoint(spool.pages())
            while self._stream.offset < spool.offset + spool.size:
                self._record(self._stream.head())
                self._poll()
        except Exception as error:
            note(error, f"domain {self._domid} is partly of one checkpoint and partly of the next: destroy it")
            raise
        finally:
            self._stream, self._source = live
            self._report.bytes = 0

    def _poll(self) -> None:
        super()._poll()
        if self._options.silence is None or not self._listening:
            return
        now, offset = time.monotonic(), self._source.offset
        if offset != self._heard:
            self._heard, self._heard_at = offset, now
        elif now - self._heard_at >= self._options.silence:
            raise InputError(
                f"nothing has come for {format_seconds(self._options.silence)}", errno=errno.ETIMEDOUT, offset=offset
            )
