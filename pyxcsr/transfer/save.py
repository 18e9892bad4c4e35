"""One save as one call: its options by name, and what is promised of it."""

from __future__ import annotations

from pyxcsr.errors import UsageError, untouched_so_far
from pyxcsr.options import SaveOptions
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import ExitStack
from pyxcsr.policy import DEFAULT_MAP_AHEAD, DEFAULT_P2M_CHANGES
from pyxcsr.transfer.saver import Saver

if TYPE_CHECKING:
    from typing import Optional, Union

    from pyxcsr.checkpointed import Checkpointed
    from pyxcsr.control.control import Control
    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.hypervisor.interface import Hypervisor
    from pyxcsr.limits.limits import Limits, Size, Time
    from pyxcsr.limits.words import OnTimeout
    from pyxcsr.options import Cancel, Complete, PolicyOrName
    from pyxcsr.policy import P2mChanges, P2mLimits
    from pyxcsr.report import ProgressCallback, SaveReport
    from pyxcsr.suspend.base import SuspendCallable
    from pyxcsr.transfer.descriptor import Stream


def save(
    hv: Hypervisor,
    domid: int,
    out: Stream,
    *,
    live: bool = True,
    verify: bool = False,
    policy: Optional[PolicyOrName] = None,
    suspend: Optional[SuspendCallable] = None,
    progress: Optional[ProgressCallback] = None,
    cancel: Optional[Cancel] = None,
    complete: Optional[Complete] = None,
    durable: bool = False,
    p2m_changes: P2mChanges = DEFAULT_P2M_CHANGES,
    p2m_limits: Optional[P2mLimits] = None,
    map_ahead: Optional[bool] = DEFAULT_MAP_AHEAD,
    device_model: Optional[DeviceModel] = None,
    control: Optional[Control] = None,
    limits: Optional[Limits] = None,
    max_downtime: Optional[Time] = None,
    timeout: Optional[Time] = None,
    on_timeout: Optional[OnTimeout] = None,
    max_iterations: Optional[int] = None,
    target_dirty: Optional[int] = None,
    bandwidth: Optional[Size] = None,
    bandwidth_while_paused: Optional[bool] = None,
    abort_if_busy: Optional[bool] = None,
    throttle: Optional[bool] = None,
    compress: Optional[str] = None,
    checkpointed: Union[Checkpointed, float, str, None] = None,
) -> SaveReport:
    """Saves a domain into ``out``, a descriptor or an object that has one, as a libxc v3 stream.

    ``live``: copy while the guest runs, and suspend it only for the last pass; False: suspend it first.
    ``verify``: send all pages a second time while the guest is suspended, for the receiver to compare (VERIFY).
    ``policy``: says when to stop copying: "adaptive" goes by what it measures, see :class:`pyxcsr.AdaptivePolicy`;
    "libxc" by libxenguest's numbers (:class:`SimplePolicy`); or a function. None: adaptive.
    ``suspend``: suspends the domain and returns, or raises; by default through xenstore. A :class:`pyxcsr.Suspend` is
    also asked before anything is copied whether it can (``check``), and resumes the guest when the save fails after it
    suspended it (``resume``); a plain callable leaves the guest suspended then.
    ``progress``: called with a :class:`Progress` a few times a second at most, and at each change of phase.
    ``cancel``: polled at least ten times a second, also while the output is stalled; True ends the save.
    ``complete``: called with the report as soon as the stream is complete and log-dirty mode is off. From then on the
    guest may be resumed or destroyed; unmapping, which takes some time, comes afterwards.

    ``durable``: True if the caller will fsync a file: its pages then go to the disk while others are still copied.
    ``p2m_changes``: "follow": if the guest changes its p2m during the save, its structure or its entries, it is saved
    as it is when it is suspended; "abort": a change of structure ends the save, and ballooning is not looked for.
    ``p2m_limits``: how many changes are followed (:class:`P2mLimits`); if there are more, the policy is asked.
    ``map_ahead``: True: a second thread maps the next pages and unmaps the last ones while this one writes; False: none
    does; None: one does if this process may use two processors, and as long as the batches before have shown that
    mapping takes long enough (300 microseconds for 1024 pages) and writing at least a quarter of that. The stream is
    the same. If True was given and there can be no such thread, the report has a warning; its ``mapped_ahead`` counts
    the batches that were mapped that way.
    ``device_model``: of an HVM guest that has one. It is told to say which pages it writes, from before the first page
    until log-dirty mode is off again, on every way out. None: the guest's QEMU, which the default ``suspend`` stops,
    too, before the last pages are copied. ``pyxcsr.devicemodel.base.DeviceModel()``: none; what one writes is lost.
    ``control``: how the save can be seen and steered by other processes, see :class:`pyxcsr.Control`; None: as usual.
    ``max_downtime`` ... ``throttle``: what is allowed, see :class:`pyxcsr.Limits`; or ``limits``, all of them at
    once, which may be changed while the save runs.

    ``compress``: "zstd", "zstd:LEVEL", "lz4" or "lz4:LEVEL": the stream goes through that program, which writes to
    ``out``. Before the guest is suspended the program is waited for, two seconds at most; the stream is complete, and
    the pause over, when the program has ended. UsageError where it is not installed, OutputError if it fails; also if
    another thread of this process waits for any child and has taken the program's status: nobody knows then whether
    the stream is whole, and nothing may be started from it.
    ``checkpointed``: an interval, as "200ms", or a :class:`pyxcsr.Checkpointed`: the save goes on after the guest has
    been suspended. Its state is followed by a CHECKPOINT record, the guest goes on, and after the interval what it has
    written since is sent in the same way (Remus, docs/remus.md). The stream is complete only after the last checkpoint;
    a receiver that has it up to any whole checkpoint has the guest of that moment.

    On success the stream is complete and the guest is *suspended*, and its QEMU stopped: let them go on by
    :func:`pyxcsr.resume`, or destroy the domain. On failure the stream
    is incomplete (it has no END record), log-dirty mode is off, nothing is mapped, and the guest runs if it ran
    before and ``suspend`` can resume it. (If ``complete`` raises, or ``progress`` at "done", the stream is complete
    nevertheless, and the guest stays suspended: whoever has the stream may have it running.) A guest of Xen that
    another process of this host saves is not touched (BeingSaved). If such a save comes while this one is live, this
    one ends with that error, and the other's image is wrong: both have used one dirty bitmap. Raises XcsrError:
    DomainNotFound, DomainDying, BeingSaved, NotSupported, LogDirtyUnsupported, P2mError, P2mChanged, PageTableError,
    PageError, GuestStateError, SuspendError, OutputError, Cancelled, HypervisorError.
    """
    with untouched_so_far():
        options = SaveOptions(
            live=live,
            verify=verify,
            policy=policy,
            suspend=suspend,
            progress=progress,
            cancel=cancel,
            complete=complete,
            durable=durable,
            p2m_changes=p2m_changes,
            p2m_limits=p2m_limits,
            map_ahead=map_ahead,
            device_model=device_model,
            control=control,
            limits=limits,
            max_downtime=max_downtime,
            timeout=timeout,
            on_timeout=on_timeout,
            max_iterations=max_iterations,
            target_dirty=target_dirty,
            bandwidth=bandwidth,
            bandwidth_while_paused=bandwidth_while_paused,
            abort_if_busy=abort_if_busy,
            throttle=throttle,
            checkpointed=checkpointed,
        )
        if options.checkpointed is not None:
            saver = _checkpointed(hv, domid, options, compress)
        else:
            saver = Saver(hv, domid, options)
    return saver.run(out) if compress is None else _compressed(saver, out, compress)


def _checkpointed(hv: Hypervisor, domid: int, options: SaveOptions, compress: Optional[str]) -> Saver:
    from pyxcsr.transfer.checkpoints import CheckpointedSaver  # only here: most saves need none of it

    if compress is not None:
        raise UsageError("compress and checkpointed do not go together: a compressor keeps back what it is given")
    return CheckpointedSaver(hv, domid, options)


def _compressed(saver: Saver, out: Stream, words: str) -> SaveReport:
    from pyxcsr.transfer.compressing import compressing  # what it needs takes time to load

    with ExitStack() as stack:
        with untouched_so_far():
            program = stack.enter_context(compressing(out, words, whole=True))
        report = saver.run(program)
        report.compress, report.bytes_compressed = words, program.bytes_out
        return report
