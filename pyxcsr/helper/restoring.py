"""The restore side: libxl's arguments and a stream in, the result to libxl."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from pyxcsr.errors import InputError, NotSupported, UsageError
from pyxcsr.helper.abort import Abort
from pyxcsr.helper.arguments import PLAIN, RestoreArguments, parse_restore
from pyxcsr.helper.ending import report_failure, report_success
from pyxcsr.helper.handover import RESTORE, check_choice, hand_over, is_asked_for
from pyxcsr.helper.protocol import STATIC_DATA_DONE, XTL_DEBUG, XTL_INFO, XTL_WARN, Channel, LibxlRefused
from pyxcsr.helper.settings import read_settings
from pyxcsr.helper.stderr import occupy_stderr

if TYPE_CHECKING:
    from pyxcsr.hypervisor.backend import Backend
    from pyxcsr.hypervisor.open import StubBackend
    from pyxcsr.report import RestoreReport

_HINT = f"; {RESTORE}=stock leaves restoring to Xen's own helper"


class Target(NamedTuple):
    """The domain to restore into, with the open hypervisor."""

    hv: Union[Backend, StubBackend]
    domid: int
    max_pages: int


def run_restore(words: list[str], environ: Mapping[str, str], program: str) -> int:
    """Does what ``words`` (``--restore-domain`` and the rest) say; returns the exit status.

    Raises UsageError for arguments that make no sense and OSError if stdin or stdout is closed: nothing can be told
    to libxl then. Everything else is told to libxl.
    """
    if is_asked_for(environ, RESTORE):
        return hand_over(words, environ, program)
    arguments = parse_restore(words[1:])
    occupy_stderr()
    for fd in (0, 1):
        fcntl.fcntl(fd, fcntl.F_GETFD)  # raises OSError if one is closed, before a hypervisor's handle can be it
    early: Optional[Exception] = None
    target: Optional[Target] = None
    try:
        _check(arguments, environ)
        target = _open_target(arguments, environ)
    except Exception as error:  # told to libxl below; until it is known who restores, the pipes are not touched
        early = error
    return _restore_and_tell(arguments, target, early)


def _restore_and_tell(arguments: RestoreArguments, target: Optional[Target], early: Optional[Exception]) -> int:
    channel = Channel.take_over_stdio(arguments.cbflags)
    abort = Abort(channel.peer_gone)
    try:
        abort.catch_signals()
        if early is not None or target is None:
            raise early or UsageError("no domain")
        with target.hv:
            report = _restore_domain(arguments, target, channel, abort)
        if report.failed_over:
            channel.log(XTL_WARN, f"domain {arguments.domid} takes over: {report.failed_over}")
        for warning in report.warnings:
            channel.log(XTL_WARN, f"domain {arguments.domid}: {warning}")
        channel.log(XTL_INFO, summary(report))
        channel.restore_results(report.store_gfn, report.console_gfn)
    except BaseException as error:  # whatever it is, libxl has to hear of it
        return report_failure(channel, abort, error, _HINT if isinstance(error, NotSupported) else "")
    return report_success(channel, f"domain {arguments.domid} is restored")


def _check(arguments: RestoreArguments, environ: Mapping[str, str]) -> None:
    """Raises what is wrong with libxl's arguments or the environment, before anything is opened."""
    _check_stream_fd(arguments.stream_fd)
    check_choice(environ, RESTORE)
    if arguments.stream_type != PLAIN:
        from pyxcsr.helper.checkpoints import RESTORING, check_type

        check_type(arguments.stream_type, arguments.cbflags, RESTORING, arguments.domid)


def _check_stream_fd(fd: int) -> None:
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError as error:
        raise InputError(f"STREAM_FD {fd}: {error.strerror}", errno=error.errno, offset=0) from error
    if flags & os.O_ACCMODE == os.O_WRONLY:
        from errno import EBADF

        raise InputError(f"STREAM_FD {fd} is open for writing only", errno=EBADF, offset=0)


def _open_target(arguments: RestoreArguments, environ: Mapping[str, str]) -> Target:
    # Imported only now: this is nearly all of the start-up time, and wrong arguments are answered without it.
    settings = read_settings(environ)
    from pyxcsr.hypervisor.open import open_hypervisor

    hv = open_hypervisor(settings.backend)
    try:
        domid = arguments.domid
        if settings.stub_guest is not None:
            from pyxcsr.helper.stubguest import create_empty

            domid = create_empty(hv, settings.stub_guest)
        info = hv.domain_info(domid)
    except BaseException:
        hv.close()
        raise
    return Target(hv, domid, info.max_pages)


def _restore_domain(
    arguments: RestoreArguments, target: Target, channel: Channel, abort: Abort
) -> RestoreReport:
    channel.log(XTL_DEBUG, f"restoring domain {arguments.domid}")
    from pyxcsr.helper.progress import RestoreProgress
    from pyxcsr.transfer.restore import restore

    checkpoint = None
    if arguments.stream_type != PLAIN:
        from pyxcsr.helper.checkpoints import CheckpointThroughLibxl

        checkpoint = CheckpointThroughLibxl(channel, arguments.domid)
    return restore(
        target.hv, target.domid, arguments.stream_fd,
        store_evtchn=arguments.store_evtchn,
        store_domid=arguments.store_domid,
        console_evtchn=arguments.console_evtchn,
        console_domid=arguments.console_domid,
        static_data_done=StaticDataDone(channel, arguments.domid),
        progress=RestoreProgress(channel.progress, target.max_pages),
        cancel=abort,
        checkpointed=checkpoint is not None,
        checkpoint=checkpoint,
    )


class StaticDataDone:
    """restore()'s ``static_data_done``: libxl makes up for a CPU policy that an old stream lacks."""

    def __init__(self, channel: Channel, domid: int) -> None:
        self._channel = channel
        self._domid = domid

    def __call__(self, missing: int) -> None:
        """Raises LibxlRefused unless libxl answers 0, ChannelClosed if it does not answer.

        A libxl that does not take this message (before 4.14) sets the CPU policy by itself, before a restore.
        """
        if not self._channel.has_callback(STATIC_DATA_DONE):
            return
        answer = self._channel.static_data_done(missing)
        if answer:
            raise LibxlRefused(
                f"libxl could not give domain {self._domid} what the stream lacks of its CPU policy "
                f"(missing {missing:#x}, answer {answer}); its own messages say why",
                domid=self._domid, answer=answer,
            )


def summary(report: RestoreReport) -> str:
    """One line of figures for xl's log."""
    which = f"checkpoint {report.checkpoints} of " if report.checkpoints else ""
    return (
        f"domain {report.domid}: restored from {which}a version {report.version} stream, {report.pages} pages, "
        f"{report.nr_vcpus} vcpus, {report.bytes / 2**20:.1f} MiB in {report.seconds:.2f} s"
    )
