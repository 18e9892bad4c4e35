"""Saves a domain, live or not, into a complete libxc migration stream (version 3), or an xl save file around one."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Optional

from pyxcsr.checkpointed import Checkpointed
from pyxcsr.cli import controlling, limiting, progress, say, status
from pyxcsr.cli.destroying import destroyer
from pyxcsr.cli.disks import check_no_disk
from pyxcsr.cli.opening import find_domain, opened
from pyxcsr.cli.outcome import Outcome
from pyxcsr.cli.output import is_standard_output, is_synced, stream_output
from pyxcsr.cli.packed import check_compression, compressed
from pyxcsr.cli.receiver import Receiver, started
from pyxcsr.cli.show import COLUMNS_EXPLAINED, summary
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.cli.suspending import NO_DEVICES, GuestParts, guest_parts
from pyxcsr.cli.xlfile import check_arguments, config_for, wrapped
from pyxcsr.errors import Cancelled, UsageError, XcsrError, untouched_so_far
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.hypervisor.names import BACKENDS, domain_name
from pyxcsr.limits.given import Given
from pyxcsr.policy import DEFAULT_P2M_CHANGES, P2M_CHANGES
from pyxcsr.programs import LEAST, LZ4_MOST, MOST
from pyxcsr.report import SaveReport
from pyxcsr.transfer.save import save

if TYPE_CHECKING:
    from pyxcsr.transfer.descriptor import Stream

STUB_GUESTS = "on the stub, a guest described as data: pv64:mem=1G,vcpus=2,..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    statuses = status.explained(
        "saved, and taken by the receiver if there is one",
        "failed: the guest goes on, and no file or receiver has a complete stream. If it is what comes after the save "
        "that has failed (--then), the stream is complete; what has become of the guest is said in the message",
        "cannot be done as asked, and nothing was done",
    )
    parser.epilog = f"{COLUMNS_EXPLAINED} {statuses}"
    add = parser.add_argument
    add("domain", metavar="DOMAIN", help=f"id or name of the domain; {STUB_GUESTS}")
    add("file", metavar="FILE", nargs="?", help="where the stream goes; - is standard output")
    add(
        "--receiver",
        metavar="COMMAND",
        help="instead of FILE: give the stream to a command, which `sh -c` runs, by its standard input. It has the "
        "stream if it has read all of it and ends with status 0; else the save has failed and the guest goes on. What "
        "it prints goes to standard error",
    )
    add(
        "--receiver-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for the receiver, once it has been given everything (60)",
    )
    add("--backend", choices=BACKENDS, default="xen", help="hypervisor (default: xen; never chosen for you)")
    add(
        "--live",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="copy while the guest runs and pause it only for the rest (default), or suspend it first",
    )
    limiting.add_arguments(parser)
    controlling.add_arguments(parser)
    add(
        "--p2m-changes",
        choices=P2M_CHANGES,
        default=DEFAULT_P2M_CHANGES,
        help="a guest that changes its p2m meanwhile (memory hot-plug, ballooning) is followed, or a change of "
        f"structure ends the save (default: {DEFAULT_P2M_CHANGES})",
    )
    add("--suspend-timeout", type=float, default=60.0, metavar="SECONDS", help="for the guest to answer (60)")
    add(
        "--then",
        choices=("resume", "pause", "destroy"),
        default="resume",
        help="what happens to the guest after a complete save (default: resume). destroy needs a FILE that is on the "
        "disk by then, or a --receiver whose exit status says that it has the stream",
    )
    add(
        "--format",
        choices=("libxc", "xl"),
        default="libxc",
        help="libxc: the stream alone (default); xl: a save file that `xl restore FILE` takes",
    )
    add(
        "--config",
        metavar="JSON",
        help="for --format xl, the guest's configuration: a file with libxl's JSON, or an xl save file "
        "(default: libxl's own record of the domain; there is none on the stub)",
    )
    add(
        "--checkpointed",
        metavar="INTERVAL",
        help="go on after the first image (Remus): again and again let the guest run for INTERVAL, as 200ms, suspend "
        "it, and send what it has written and its state; for `pyxcsr restore --checkpointed`",
    )
    add("--checkpoints", type=int, metavar="N", help="with --checkpointed: end after N, with the guest suspended")
    add("--verify", action="store_true", help="send all pages twice, for the receiver to compare (debugging aid)")
    add(
        "--checksum",
        action="store_true",
        help="write FILE.xxh128, the stream's checksum, for verify and restore to check (needs the xxhash package)",
    )
    add(
        "--compress",
        metavar="zstd[:LEVEL]|lz4[:LEVEL]",
        help=f"compress what is written, by that program and with all cores (zstd: {LEAST} to {MOST}, 3; lz4: 1 to "
        f"{LZ4_MOST}, 1). restore, verify, inspect, convert and dump read such a file as it is; xl does not",
    )
    add("--force", action="store_true", help="replace FILE if it exists")
    add("--json", action="store_true", help="print the report, or the error, as JSON (on standard error if FILE is -)")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on standard error (default: if that is a terminal)",
    )
    add("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    args.beside = args.file is not None and is_standard_output(args.file)  # errors of what follows are told there, too
    _check(args)
    limits = limiting.asked(args, os.environ)
    cancel = CancelBySignal()
    with cancel.installed(), controlling.control_for(args, limits) as control, opened(args.backend, "save") as hv:
        args.control = control
        with untouched_so_far():
            domid = find_domain(hv, args.domain)
            given = limits.for_guest(lambda: domain_name(hv, domid), args.live, say.note, args.verify)
            config = config_for(hv, domid, args)
            either = controlling.either(cancel, control)
            if args.file is not None:
                check_no_disk(hv, args.file, say.note)
            suspend, qemu, model = parts = guest_parts(hv, domid, args.suspend_timeout, either)
            destroyed_by = destroyer(hv, domid, cancel) if args.then == "destroy" else None
        devices_are_lost = model is not None and args.format == "libxc"
        if devices_are_lost and not args.quiet:
            say.note(NO_DEVICES.format(domid))
        waits = args.then != "resume" and args.format == "libxc"  # nothing comes between the stream and its end
        with ExitStack() as stack:
            with untouched_so_far():
                receiver = _receiver(args, stack, cancel)
                output = _begun(_output(args, receiver, cancel))
            outcome = Outcome(hv, domid, suspend, whole=not devices_are_lost)
            with outcome.goes_on_if_this_fails():
                with output as file, compressed(file, args.compress, cancel, whole=waits) as packed:
                    with wrapped(hv, domid, packed.fileno(), config, qemu, cancel):
                        packed.report = report = _save(hv, domid, packed.out, args, given, parts, outcome, cancel)
                        if devices_are_lost:
                            report.warnings.append(NO_DEVICES.format(domid))
                    if args.then == "resume":
                        outcome.goes_on()  # as soon as its image is complete: it need not wait for the disk
                        control.let_go()
                _check_not_cancelled(args, domid, cancel)
            if args.then == "pause":
                outcome.is_paused()
            outcome.check(_become_of_image(args, receiver))
        _check_taken(receiver, domid, args.then)
        if destroyed_by is not None:  # it waited, suspended, until the stream was known to be safe
            destroyed_by()
        _print(report, args)
    return status.DONE


def _check(args: argparse.Namespace) -> None:
    """What can be told from the arguments alone. Raises UsageError."""
    for name in ("suspend_timeout", "receiver_timeout"):
        if not getattr(args, name) > 0:
            raise UsageError(f"--{name.replace('_', '-')} must be more than 0")
    if args.checkpointed is not None:
        _check_checkpointed(args)
    elif args.checkpoints is not None:
        raise UsageError("--checkpoints is for --checkpointed")
    check_arguments(args)
    if args.compress is not None:
        check_compression(args.compress)
    if (args.file is None) == (args.receiver is None):
        raise UsageError("say where the stream goes: FILE, or --receiver COMMAND, and not both")
    if args.receiver is not None and not args.receiver.strip():
        raise UsageError("--receiver needs a command")
    if args.receiver is not None and args.checksum:
        raise UsageError("--checksum needs a FILE to put the checksum beside; a receiver can make its own")
    if args.then == "destroy" and args.receiver is None and not is_synced(args.file):
        raise UsageError(
            f"--then destroy: nobody would say whether what is written to {args.file} has arrived, and the guest could "
            "be lost. Name a FILE; or give the program that takes the stream as --receiver COMMAND, whose exit status "
            "decides; or use --then pause, and `xl destroy` the guest once the stream is known to be safe"
        )


def _check_checkpointed(args: argparse.Namespace) -> None:
    Checkpointed(args.checkpointed, count=args.checkpoints)
    for name, given in (("--format xl", args.format != "libxc"), ("--compress", args.compress is not None)):
        if given:
            raise UsageError(f"{name} and --checkpointed do not go together")
    if args.checkpoints is None and args.file is not None and is_synced(args.file):
        raise UsageError(
            f"--checkpointed: {args.file} has its name only once the stream is complete, and without --checkpoints N "
            "it never is; give a pipe, or --receiver COMMAND"
        )


def _receiver(args: argparse.Namespace, stack: ExitStack, cancel: Callable[[], bool]) -> Optional[Receiver]:
    """It runs until ``stack`` ends, so that the guest need not wait for its end."""
    if args.receiver is None:
        return None
    return stack.enter_context(started(args.receiver, args.receiver_timeout, cancel))


def _output(
    args: argparse.Namespace, receiver: Optional[Receiver], cancel: Callable[[], bool]
) -> AbstractContextManager[int]:
    """Where the stream goes."""
    return stream_output(args.file, args.force, cancel, args.checksum) if receiver is None else receiver.stream()


def _check_not_cancelled(args: argparse.Namespace, domid: int, cancel: Callable[[], bool]) -> None:
    """The last chance to keep a guest that is to be destroyed. A receiver that has the stream may let it run already:
    then it is too late. Raises Cancelled."""
    if args.then == "destroy" and args.receiver is None and cancel():
        raise Cancelled(f"cancelled once {args.file} was complete: domain {domid} is not destroyed", domid=domid)


def _become_of_image(args: argparse.Namespace, receiver: Optional[Receiver]) -> str:
    if receiver is None:
        return f"{args.file} is complete all the same"
    if receiver.told_to_end:
        return "nobody can tell whether the receiver has the stream"
    return "the receiver has the stream all the same"


def _check_taken(receiver: Optional[Receiver], domid: int, then: str) -> None:
    """Raises XcsrError where a receiver may have the stream or not. The guest is not destroyed then."""
    if receiver is None or not receiver.told_to_end:
        return
    place = {
        "resume": "runs here",
        "pause": "is paused here",
        "destroy": f"stays suspended: `xl destroy {domid}` if the receiver has it, else `pyxcsr recover {domid}`",
    }
    raise XcsrError(
        "the receiver ended with status 0, but only once it had been told to end: nobody can tell whether it has the "
        f"stream. Domain {domid} {place[then]}",
        domid=domid,
    )


@contextmanager
def _begun(output: AbstractContextManager[int]) -> Iterator[int]:
    """The same output. If it cannot be opened, no guest has been touched."""
    with ExitStack() as stack:
        with untouched_so_far():
            fd = stack.enter_context(output)
        yield fd


def _save(
    hv: Backend,
    domid: int,
    out: Stream,
    args: argparse.Namespace,
    given: Given,
    parts: GuestParts,
    outcome: Outcome,
    cancel: CancelBySignal,
) -> SaveReport:
    line = None if args.quiet else progress.progress_line(args.progress, progress.of_save, "stalled: nothing written")
    try:
        return save(
            hv,
            domid,
            out,
            live=args.live,
            verify=args.verify,
            policy=given.policy,
            limits=given.limits(),
            suspend=parts.suspend,
            progress=line,
            cancel=progress.Ticking(cancel, line),
            complete=outcome.goes_on if args.then == "resume" and args.format == "libxc" else None,
            durable=args.checkpointed is None,
            checkpointed=None if args.checkpointed is None else Checkpointed(args.checkpointed, count=args.checkpoints),
            p2m_changes=args.p2m_changes,
            device_model=parts.device_model,
            control=args.control,
        )
    finally:
        if line:
            line.done()


def _print(report: SaveReport, args: argparse.Namespace) -> None:
    if args.json:
        where = {"file": args.file, "receiver": args.receiver, "format": args.format}
        document = {"ok": True, **report.to_dict(), **where}
        say.report(json.dumps(document, indent=2), beside=args.beside)
    elif not args.quiet:
        say.report(summary(report), beside=args.beside)
