"""The save side: libxl's arguments in, the domain's stream out, the result to libxl."""

from __future__ import annotations

import errno
import fcntl
import os

from pyxcsr.errors import NotSupported, OutputError, SuspendError, UsageError, XcsrError
from pyxcsr.helper.abort import Abort
from pyxcsr.helper.arguments import PLAIN, XCFLAGS_DEBUG, XCFLAGS_LIVE, parse_save
from pyxcsr.helper.ending import EXIT_UNREPORTED, report_failure, report_success, stay, warn
from pyxcsr.helper.handover import SAVE, check_choice, hand_over, is_asked_for
from pyxcsr.helper.protocol import SUSPEND, XTL_DEBUG, XTL_WARN, Channel
from pyxcsr.helper.settings import read_settings
from pyxcsr.helper.stderr import complain
from pyxcsr.limits.sources import Sources
from pyxcsr.limits.variables import unknown_variables
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import ExitStack, insist
from pyxcsr.suspend.base import Suspend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Optional

    from pyxcsr.control.control import Control
    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.helper.arguments import SaveArguments
    from pyxcsr.helper.checkpoints import CheckpointsThroughLibxl
    from pyxcsr.helper.ending import Leave
    from pyxcsr.helper.resuming import Resuming
    from pyxcsr.helper.settings import Settings
    from pyxcsr.report import SaveReport

def run_save(words: list[str], environ: Mapping[str, str], program: str, leave: Leave = stay) -> int:
    """Does what ``words`` (``--save-domain`` and the rest) say; returns the exit status.

    ``leave`` is called with that status once libxl has been told the result, while the hypervisor is still open: libxl
    waits for the process to end, and the kernel takes mappings down with a whole process far cheaper than one by one.

    Raises UsageError for arguments that make no sense and OSError if stdin or stdout is closed: nothing can
    be told to libxl then. Everything else is told to libxl.
    """
    if is_asked_for(environ, SAVE):
        return hand_over(words, environ, program)
    arguments = parse_save(words[1:])
    stream_error = _check_stream_fd(arguments.stream_fd)  # before new fds can take its number
    channel = Channel.take_over_stdio(arguments.cbflags)
    abort = Abort(channel.peer_gone)
    success = Success(channel, leave)
    with ExitStack() as held:
        try:
            abort.catch_signals()
            if stream_error is not None:
                raise stream_error
            check_choice(environ, SAVE)
            _refuse_unsupported(arguments, channel)
            settings, sources = read_settings(environ), Sources(environ)
            for text in unknown_variables(environ):
                channel.log(XTL_WARN, text)
            _save_domain(arguments, settings, sources, channel, abort, success, held)
        except BaseException as error:  # whatever it is, libxl has to hear of it
            if success.told:  # it takes one result only, and has it
                raise
            status = report_failure(channel, abort, error)
            leave(status)
            return status
    return success.status


def _check_stream_fd(fd: int) -> Optional[OutputError]:
    """What is wrong with the stream's fd, if anything."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError as error:
        return OutputError(f"STREAM_FD {fd}: {error.strerror}", errno=error.errno, offset=0)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        return OutputError(f"STREAM_FD {fd} is open for reading only", errno=errno.EBADF, offset=0)
    return None


def _refuse_unsupported(arguments: SaveArguments, channel: Channel) -> None:
    """Raises NotSupported or UsageError for what cannot be done, before the guest is touched."""
    domid = arguments.domid
    if arguments.stream_type != PLAIN:
        from pyxcsr.helper.checkpoints import SAVING, check_type

        check_type(arguments.stream_type, arguments.cbflags, SAVING, domid)
        if not arguments.live:
            raise UsageError(f"domain {domid}: a checkpointed save begins live, and XCFLAGS say otherwise", domid=domid)
    unknown = arguments.xcflags & ~(XCFLAGS_LIVE | XCFLAGS_DEBUG)
    if unknown:
        raise NotSupported(f"domain {domid}: XCFLAGS {unknown:#x} are not known to pyxcsr", domid=domid)
    if not channel.has_callback(SUSPEND):
        raise UsageError(f"libxl offers no suspend callback (CBFLAGS {arguments.cbflags}): "
                         f"domain {domid} cannot be saved", domid=domid)


def _save_domain(
    arguments: SaveArguments,
    settings: Settings,
    sources: Sources,
    channel: Channel,
    abort: Abort,
    success: Success,
    held: ExitStack,
) -> None:
    """Saves it. What must be closed once libxl knows the result goes into ``held``."""
    channel.log(XTL_DEBUG, f"saving domain {arguments.domid}{' live' if arguments.live else ''}")
    # Only now: this is nearly all of the start-up time, and wrong arguments are answered without it.
    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.helper.controlling import control_for
    from pyxcsr.helper.devicemodel import device_model_for
    from pyxcsr.helper.progress import ProgressThrottle
    from pyxcsr.helper.summary import summary
    from pyxcsr.hypervisor.names import domain_name
    from pyxcsr.hypervisor.open import open_hypervisor
    from pyxcsr.transfer.save import save

    hv = held.enter_context(open_hypervisor(settings.backend))
    domid = arguments.domid
    suspend: Suspend = SuspendThroughLibxl(channel, domid)
    device_model: Optional[DeviceModel] = device_model_for(hv, domid, channel, arguments.live)
    checkpointed: Optional[CheckpointsThroughLibxl] = None
    if arguments.stream_type != PLAIN:
        from pyxcsr.helper.checkpoints import CheckpointsThroughLibxl

        checkpointed = CheckpointsThroughLibxl(channel, domid)
    if settings.stub_guest is not None:
        from pyxcsr.helper.stubguest import create_guest, device_model_in_step, goes_on_in_step, suspend_in_step

        domid = create_guest(hv, settings.stub_guest)
        suspend = suspend_in_step(hv, domid, suspend)
        goes_on_in_step(hv, domid, checkpointed)
        device_model = device_model_in_step(hv, domid, device_model)
    if settings.resume and checkpointed is None:  # xl alone has checkpoints
        from pyxcsr.helper.resuming import Resuming

        suspend = success.resume = Resuming(hv, domid, suspend, lambda text: warn(channel, text))
    control = control_for(sources.control, lambda text: channel.log(XTL_WARN, text))
    success.control, success.summary = control, summary
    verify = bool(arguments.xcflags & XCFLAGS_DEBUG) and checkpointed is None
    given = sources.for_guest(
        lambda: domain_name(hv, domid),
        arguments.live,
        lambda text: channel.log(XTL_WARN, text),
        verify,
    )
    limits = given.limits()
    if checkpointed is not None and limits.timeout is not None:
        channel.log(XTL_WARN, f"domain {domid}: the timeout does not hold: with Remus a save has no end")
        limits.timeout = limits.on_timeout = None
    with ExitStack() as telling:
        if checkpointed is not None:
            telling.enter_context(checkpointed.told())
        save(
            hv, domid, arguments.stream_fd,
            live=arguments.live,
            verify=verify,
            policy=given.policy,
            limits=limits,
            suspend=suspend,
            progress=ProgressThrottle(channel.progress),
            cancel=abort,
            complete=success,
            p2m_changes=settings.p2m_changes,
            device_model=device_model or DeviceModel(),  # none: it is not looked for
            control=control,
            checkpointed=checkpointed,
        )


class SuspendThroughLibxl(Suspend):
    """save()'s ``suspend``: asks libxl, which also brings the guest back if the save fails afterwards.

    Its ``resume`` does nothing on purpose: a guest that libxl suspended is libxl's to resume.
    """

    def __init__(self, channel: Channel, domid: int) -> None:
        self._channel = channel
        self._domid = domid

    def watched_by(self, watch: Callable[[], None]) -> None:
        """From now on, whatever libxl is asked for: with Remus the guest runs on while it keeps to the interval."""
        self._channel.watch = watch

    def __call__(self) -> None:
        """Raises SuspendError if libxl answers that it failed, ChannelClosed if it does not answer."""
        if self._channel.suspend() == 0:
            raise SuspendError(
                f"libxl did not get domain {self._domid} to suspend; its own messages say why",
                domid=self._domid,
            )


class Success:
    """save()'s ``complete``: tells libxl, which may resume the guest or destroy it, and waits for our end to do so.

    If libxl is gone, nobody has a whole copy: its own end of the stream was to follow. So the guest is let go on by
    ``resume``, if there is one.
    """

    def __init__(self, channel: Channel, leave: Leave) -> None:
        self._channel, self._leave = channel, leave
        self.told, self.status = False, EXIT_UNREPORTED
        self.control: Optional[Control] = None
        self.resume: Optional[Resuming] = None
        self.summary: Optional[Callable[[SaveReport], str]] = None

    def __call__(self, report: SaveReport) -> None:
        for warning in report.warnings:  # xl shows no report: nobody else would say it
            warn(self._channel, f"domain {report.domid}: {warning}")
        figures = "" if self.summary is None else self.summary(report)
        self.told = True
        self.status = report_success(self._channel, "the stream is complete", figures)
        if self.status == EXIT_UNREPORTED and self.resume is not None:
            self._let_go_on(self.resume)
        if self.control is not None:  # the process may end with this
            self.control.leave()
        self._leave(self.status)

    @staticmethod
    def _let_go_on(resume: Resuming) -> None:
        try:
            insist(resume.resume)
        except XcsrError as problem:
            complain(f"the guest may still be suspended: {problem}; `pyxcsr recover` lets it go on")
