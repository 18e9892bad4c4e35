"""One restore as one call: its options by name, and what is promised of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Optional, Union

from pyxcsr.errors import untouched_so_far
from pyxcsr.hypervisor.interface import Hypervisor
from pyxcsr.options import RestoreOptions, Rings
from pyxcsr.report import RestoreReport
from pyxcsr.transfer.restorer import Restorer

if TYPE_CHECKING:
    from pyxcsr.options import Cancel, StaticDataDone
    from pyxcsr.report import ProgressCallback
    from pyxcsr.transfer.descriptor import Stream


def restore(
    hv: Hypervisor,
    domid: int,
    in_: Stream,
    *,
    store_evtchn: int = 0,
    store_domid: int = 0,
    console_evtchn: int = 0,
    console_domid: int = 0,
    static_data_done: Optional[StaticDataDone] = None,
    progress: Optional[ProgressCallback] = None,
    cancel: Optional[Cancel] = None,
    checkpointed: bool = False,
    checkpoint: Optional[Callable[[], object]] = None,
    silence: Union[float, str, None] = None,
) -> RestoreReport:
    """Restores the libxc stream (version 2 or 3) in ``in_``, a descriptor or an object that has one, into a domain.

    The domain must exist, be paused and have no memory yet, as libxl makes it before a restore. Not a byte is read
    beyond the stream's END record. ``store_evtchn`` and the like: the event channels of the guest's rings in the new
    domain, and the domains at their other ends. ``static_data_done``: called once, when the static data has come, with
    what the stream's CPU policy lacks (bit 0: CPUID, bit 1: MSRs).
    ``progress``, ``cancel``: as for :func:`pyxcsr.save`.

    ``checkpointed``: the stream is a checkpointed one (Remus, docs/remus.md). What follows its first checkpoint is held
    back until the next one is whole, and then put into the domain. When the stream ends or breaks, the domain is what
    it was at the last whole checkpoint: the report has ``checkpoints``, and says in ``failed_over`` why it ended. A
    stream that breaks before its first checkpoint is an error. ``checkpoint``: called at each CHECKPOINT record, for
    somebody who has to read there what others have written; False fails over to the checkpoint before.
    ``silence``: seconds, or text as "2s": a stream of which nothing comes for so long is taken to have ended.

    On success the domain is complete and still paused. On failure it is half-built and never unpaused: destroy it,
    unless the error is ``untouched``, as for a domain that runs or has memory, or a wrong argument (UsageError).
    Raises XcsrError: NotAStream, StreamTruncated, StreamError (offset, record, pfn), IncompleteStream, VerifyMismatch,
    NotSupported, InputError, Cancelled, DomainNotFound, DomainDying, UsageError, HypervisorError.
    """
    with untouched_so_far():
        rings = Rings(store_evtchn, store_domid, console_evtchn, console_domid)
        options = RestoreOptions(
            rings, static_data_done, progress, cancel, checkpointed=checkpointed, checkpoint=checkpoint, silence=silence
        )
        chosen = restorer(hv, domid, options)
    return chosen.run(in_)


def restorer(hv: Hypervisor, domid: int, options: RestoreOptions) -> Restorer:
    """The restorer for these options."""
    if not options.checkpointed:
        return Restorer(hv, domid, options)
    from pyxcsr.transfer.failover import CheckpointedRestorer

    return CheckpointedRestorer(hv, domid, options)
