"""Checkpointed saves and restores (Remus) through libxl: its callbacks, in its order.

Saving, after each CHECKPOINT record: ``postcopy``, in which libxl lets the guest go on, and ``checkpoint``, in which it
writes its own records behind ours, waits for the interval, and says whether there is to be a further checkpoint.
Restoring, at each CHECKPOINT record: ``checkpoint``, in which it reads its own records.
Source: Xen's ``xg_sr_save.c``, ``xg_sr_restore.c`` and ``xenguest.h`` (XGR_CHECKPOINT_*).
"""

from __future__ import annotations

import errno

from pyxcsr.checkpointed import Checkpointed
from pyxcsr.errors import Cancelled, NotSupported, UsageError
from pyxcsr.helper.arguments import COLO, PLAIN, REMUS, STREAM_TYPES
from pyxcsr.helper.protocol import CALLBACKS, CHECKPOINT, POSTCOPY, XTL_INFO, ChannelClosed, LibxlRefused
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import contextmanager, suppress
from pyxcsr.report import CheckpointsReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyxcsr.helper.protocol import Channel
    from pyxcsr.report import Checkpoint

GO_ON, FAIL_OVER = 1, 2
"""What libxl answers to ``checkpoint`` in a restore; anything else is an error."""


SAVING, RESTORING = (POSTCOPY, CHECKPOINT), (CHECKPOINT,)
"""The messages without which there can be no checkpoints."""


def check_type(stream_type: int, cbflags: int, needed: tuple[int, ...], domid: int) -> None:
    """Raises NotSupported for a stream that is neither plain nor of Remus, UsageError if libxl does not take one of the
    messages that Remus needs."""
    if stream_type == PLAIN:
        return
    if stream_type == REMUS:
        _check_callbacks(cbflags, needed, domid)
        return
    if stream_type == COLO:
        text = "COLO (stream type 2) is not supported by pyxcsr; it has Remus, and Xen's own helper has both"
    else:
        text = f"stream type {stream_type} is {STREAM_TYPES.get(stream_type, 'unknown')} to pyxcsr"
    raise NotSupported(f"domain {domid}: {text}", domid=domid)


def _check_callbacks(cbflags: int, needed: tuple[int, ...], domid: int) -> None:
    for number in needed:
        if not cbflags >> number & 1:
            raise UsageError(
                f"libxl offers no {CALLBACKS[number]} callback (CBFLAGS {cbflags}): domain {domid} cannot be protected "
                "by Remus",
                domid=domid,
            )


class CheckpointsThroughLibxl(Checkpointed):
    """save()'s ``checkpointed``: libxl lets the guest go on, and keeps to the interval."""

    __slots__ = ("_channel", "_domid", "_sums")

    def __init__(self, channel: Channel, domid: int) -> None:
        super().__init__(0, postcopy=self._postcopy, checkpoint=self._checkpoint)
        self._channel, self._domid = channel, domid
        self._sums = CheckpointsReport(0)

    @property
    def summary(self) -> str:
        """What there was, in a line for xl's log; "" before the second checkpoint."""
        sums, more = self._sums, self._sums.count - 1
        if more < 1:
            return ""
        return (
            f"domain {self._domid}: {sums.count} checkpoints; each after the first one {sums.pages / more:.0f} pages, "
            f"{sums.bytes / more / 2**20:.2f} MiB, {1000 * sums.seconds_paused / more:.1f} ms paused "
            f"({1000 * sums.longest_pause:.1f} ms at most)"
        )

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around the save: tells xl's log what there was of checkpoints, once they end."""
        try:
            yield
        finally:
            with suppress(ChannelClosed):  # then nobody is left to be told
                if self.summary:
                    self._channel.log(XTL_INFO, self.summary)

    def _postcopy(self) -> None:
        """Raises LibxlRefused if libxl has not let the guest go on, ChannelClosed if it does not answer."""
        answer = self._channel.postcopy()
        if answer <= 0:
            raise LibxlRefused(
                f"libxl did not let domain {self._domid} go on after a checkpoint (answer {answer}); its own messages "
                "say why",
                domid=self._domid,
                answer=answer,
            )

    def _checkpoint(self, done: Checkpoint) -> None:
        """Raises Cancelled if libxl wants no further checkpoint: its records could not be written, most likely."""
        self._sums.add(done)
        answer = self._channel.checkpoint()
        if answer <= 0:
            raise Cancelled(
                f"libxl ended the checkpoints of domain {self._domid} after {done.number} of them (answer {answer})",
                domid=self._domid,
                errno=errno.EPIPE,
            )


class CheckpointThroughLibxl:
    """restore()'s ``checkpoint``."""

    def __init__(self, channel: Channel, domid: int) -> None:
        self._channel, self._domid = channel, domid

    def __call__(self) -> bool:
        """Whether libxl has read its records; if not, the last whole checkpoint is the one before.

        Raises LibxlRefused, ChannelClosed.
        """
        answer = self._channel.checkpoint()
        if answer not in (GO_ON, FAIL_OVER):
            raise LibxlRefused(
                f"libxl could not take its part of a checkpoint of domain {self._domid} (answer {answer}); its own "
                "messages say why",
                domid=self._domid,
                answer=answer,
            )
        return answer == GO_ON
