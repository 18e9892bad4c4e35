"""Restores a libxc migration stream into a paused domain.

On the stub the domain is made for it. On Xen it must exist, paused and without memory, as libxl makes one; to restore a
guest there with all its devices, use `xl restore` with LIBXL_SAVE_HELPER set to pyxcsr-save-helper.
"""

from __future__ import annotations

import argparse
import json
import os
import stat
from contextlib import ExitStack
from typing import Optional

from pyxcsr.cli import checksum as sums
from pyxcsr.cli import failure, progress, say, status
from pyxcsr.cli.opening import opened
from pyxcsr.cli.show import MIB
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.container.enter import enter, leave
from pyxcsr.container.reader import Kind
from pyxcsr.errors import Cancelled, ChecksumMismatch, InputError, StreamError, UsageError, untouched_so_far
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.hypervisor.names import BACKENDS, KINDS
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.options import RestoreOptions, Rings
from pyxcsr.report import RestoreReport
from pyxcsr.stream.compressed import plain
from pyxcsr.stream.source import Source, open_input
from pyxcsr.transfer.restore import restorer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "restored: the domain is complete and paused",
        "failed: the domain is half-built and paused, destroy it",
        "cannot be done as asked, and nothing was done",
    )
    add = parser.add_argument
    where = "the stream, by itself or in an xl save file or libxl stream; - is standard input"
    add("file", metavar="FILE", help=where)
    add("--backend", choices=BACKENDS, default="xen", help="hypervisor (default: xen; never chosen for you)")
    add("--domid", type=int, metavar="N", help="the domain to build (required on Xen)")
    add("--max-mem", default="4G", metavar="SIZE", help="on the stub: what the new domain may own (4G)")
    add("--vcpus", type=int, default=32, metavar="N", help="on the stub: vcpus of the new domain (32)")
    add(
        "--kind",
        choices=KINDS,
        default=KINDS[0],
        help=f"on the stub: what the new domain is ({KINDS[0]}); pvh or hvm for the stream of such a guest",
    )
    for name in ("store", "console"):
        add(f"--{name}-evtchn", type=int, default=0, metavar="PORT", help=f"the domain's {name} event channel")
        add(f"--{name}-domid", type=int, default=0, metavar="N", help=f"the {name}'s domain (0)")
    add(
        "--checkpointed",
        action="store_true",
        help="the stream is one of Remus: restore its last whole checkpoint, when it ends or breaks",
    )
    add(
        "--silence",
        metavar="TIME",
        help="with --checkpointed: the stream counts as ended if nothing comes for this long, as 2s. That does not "
        "tell whether the guest still runs where it came from",
    )
    sums.add_option(parser)
    add("--json", action="store_true", help="print the report, or the error, as JSON")
    add("--progress", action=argparse.BooleanOptionalAction, default=None, help="show progress on standard error")
    add("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    cancel = CancelBySignal()
    report: Optional[RestoreReport] = None

    def poll() -> None:
        if cancel():
            raise _cancelled(report)

    with cancel.installed(), opened(args.backend, "restore") as hv, ExitStack() as stack:
        try:
            with untouched_so_far():
                fd = stack.enter_context(open_input(args.file, poll))
        except OSError as error:
            return failure.unreadable(error, args.file, args)
        try:
            with untouched_so_far(), failure.input_named(args.file):
                sums.check(args.file, fd, args.checksum, poll)
                inside = stack.enter_context(plain(fd, poll, lambda: report is None or not report.failed_over))
                domid = _domain(hv, args)
            report = _restore(hv, domid, inside, args, cancel)
            stack.close()  # if it was compressed, its end is looked at now; not after a failover, when there is none
        except (StreamError, InputError, ChecksumMismatch) as error:
            failure.name_input(error, args.file, args.words)
            if isinstance(error, StreamError) and error.record == "domain header" and isinstance(hv, StubBackend):
                error.args = (f"{error} (--kind pv64, pvh, or hvm for a guest with a device model)",)
            raise
    if args.json:
        say.report(json.dumps({"ok": True, **report.to_dict()}, indent=2))
    elif not args.quiet:
        say.report(summary(report))
    return status.DONE


def _cancelled(report: Optional[RestoreReport]) -> Cancelled:
    if report is None:
        return Cancelled("the restore was cancelled while its input was waited for; no domain was touched")
    return Cancelled(
        f"cancelled while the rest of the compressed input was read: domain {report.domid} is complete and paused, but "
        "whether its input was sound is not known",
        domid=report.domid,
    )


def _domain(hv: Backend, args: argparse.Namespace) -> int:
    if isinstance(hv, StubBackend):
        if args.domid is not None:
            raise UsageError("--domid is for Xen; on the stub the domain is made anew")
        from pyxcsr.units import parse_size

        return hv.stub.create_empty(max_mem=parse_size(args.max_mem), vcpus=args.vcpus, kind=args.kind)
    if args.domid is None:
        raise UsageError(
            "--domid N is required: a paused domain without memory; to restore a guest with its devices use "
            "`LIBXL_SAVE_HELPER=$(command -v pyxcsr-save-helper) xl restore FILE`"
        )
    return int(args.domid)


def _restore(hv: Backend, domid: int, fd: int, args: argparse.Namespace, cancel: CancelBySignal) -> RestoreReport:
    what = progress.of_restore(progress.left(fd))
    line = None if args.quiet else progress.progress_line(args.progress, what, "stalled: nothing read")
    rings = Rings(args.store_evtchn, args.store_domid, args.console_evtchn, args.console_domid)
    around: list[tuple[Kind, int]] = []
    ticking = progress.Ticking(cancel, line)
    options = RestoreOptions(
        rings,
        None,
        line,
        ticking,
        enter=lambda source: around.append((_entered(source, args), source.offset)),
        checkpointed=args.checkpointed,
        silence=args.silence,
    )
    try:
        report = restorer(hv, domid, options).run(fd)
    finally:
        if line:
            line.done()
    if not args.quiet and not report.failed_over:  # then what follows is what broke
        kind, start = around[0]
        _note_after_end(fd, kind, start + report.bytes)
    return report


def _entered(source: Source, args: argparse.Namespace) -> Kind:
    kind = enter(source)
    if args.checkpointed and kind is not Kind.LIBXC:
        raise UsageError(
            f"--checkpointed takes a bare libxc stream, and this is {kind.an}: `pyxcsr convert --checkpoint last` "
            "takes the guest out of it"
        )
    return kind


def _note_after_end(fd: int, kind: Kind, offset: int) -> None:
    """What follows in a file, from ``offset`` on. In a pipe another stream may follow, which is for its next reader."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return
    try:
        rest = Source(fd)
        rest.offset = offset
        after = leave(rest, kind)
    except (StreamError, OSError) as error:  # the domain is complete, whatever can be read there
        say.note(f"note: the container around the stream: {error}")
        return
    if after is not None:
        say.note(f"note: {after.text}")


def summary(report: RestoreReport) -> str:
    """The report as text."""
    size = report.nr_pfns * PAGE_SIZE // MIB
    which = f"checkpoint {report.checkpoints}: " if report.checkpoints else ""
    why = f" ({report.failed_over})" if report.failed_over else ""
    return (
        f"{which}domain {report.domid}: {report.pages} pages of {report.nr_pfns} pfns ({size} MiB), "
        f"{report.tables} page tables, {report.pinned} pinned, {report.nr_vcpus} vcpus, "
        f"{report.bytes / MIB:.1f} MiB in {report.seconds:.2f} s; it is complete and paused{why}"
    )
