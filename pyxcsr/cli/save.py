"""Saves a domain, live or not, into a complete libxc migration stream (version 3), or an xl save file around one."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

from pyxcsr.cli.output import is_standard_output, stream_output
from pyxcsr.cli.show import progress_line, summary
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.cli.xlfile import check_arguments, config_for, wrapped
from pyxcsr.errors import Cancelled, DomainNotFound, UsageError, XcsrError
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.hypervisor.open import BACKENDS, StubBackend, open_hypervisor
from pyxcsr.policy import DEFAULT_P2M_CHANGES, P2M_CHANGES, SimplePolicy
from pyxcsr.report import SaveReport
from pyxcsr.suspend.base import Suspend
from pyxcsr.suspend.xenstore import XenstoreSuspend
from pyxcsr.transfer.saver import save

if TYPE_CHECKING:
    from pyxcsr.devicemodel.qemu import Qemu

NO_DEVICES = (
    "domain {} has a device model, whose state a libxc stream does not hold: for `xl restore` save with --format xl"
)
"""Said before the save, and in its report."""

STUB_GUESTS = "on the stub, a guest described as data: pv64:mem=1G,vcpus=2,..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("domain", metavar="DOMAIN", help=f"id or name of the domain; {STUB_GUESTS}")
    add("file", metavar="FILE", help="where the stream goes; - is standard output")
    add("--backend", choices=BACKENDS, default="xen", help="hypervisor (default: xen; never chosen for you)")
    add(
        "--live",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="copy while the guest runs and pause it only for the rest (default), or suspend it first",
    )
    add("--max-iterations", type=int, default=5, metavar="N", help="live passes at most (5)")
    add("--target-dirty", type=int, default=50, metavar="N", help="suspend below so many dirty pages (50)")
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
        help="what becomes of the guest after a complete save (default: resume)",
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
    add("--verify", action="store_true", help="send all pages twice, for the receiver to compare (debugging aid)")
    add(
        "--checksum",
        action="store_true",
        help="write FILE.xxh128, the stream's checksum, for verify and restore to check (needs the xxhash package)",
    )
    add("--force", action="store_true", help="replace FILE if it exists")
    add("--json", action="store_true", help="print the final report as JSON (on standard error if FILE is -)")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on standard error (default: if that is a terminal)",
    )
    add("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    policy = _policy(args)
    check_arguments(args)
    cancel = CancelBySignal()
    try:
        with cancel.installed(), open_hypervisor(args.backend) as hv:
            domid = find_domain(hv, args.domain)
            config = config_for(hv, domid, args)
            suspend, device_model = _guest_parts(hv, domid, args, cancel)
            with _guest_goes_on_if_this_fails(suspend):
                with stream_output(args.file, args.force, cancel, args.checksum) as fd:
                    with wrapped(hv, domid, fd, config, device_model, cancel):
                        report = _save(hv, domid, fd, args, policy, suspend, device_model, cancel)
                        if device_model is not None and args.format == "libxc":
                            report.warnings.append(NO_DEVICES.format(domid))
                    if args.then == "resume":
                        suspend.resume()  # as soon as its image is complete: it need not wait for the disk
                if args.then == "pause":
                    hv.domain_pause(domid)
                    suspend.resume()
            if args.then == "destroy":  # it waited, suspended, until the file was known to be safe
                _destroy(hv, domid)
            _print(report, args)
    except Cancelled as error:
        print(f"pyxcsr: {error}", file=sys.stderr)
        return 128 + cancel.number if cancel.number else 1
    return 0


def _policy(args: argparse.Namespace) -> SimplePolicy:
    if not args.suspend_timeout > 0:
        raise UsageError("--suspend-timeout must be more than 0")
    try:
        return SimplePolicy(args.max_iterations, args.target_dirty)
    except ValueError as error:
        raise UsageError(str(error)) from error


def find_domain(hv: Backend, name: str) -> int:
    """The id of a domain given by id or name; on the stub the guest described is made."""
    if isinstance(hv, StubBackend):
        from pyxcsr.hypervisor.stub.text import StubGuest

        return hv.stub.create(StubGuest.parse(name))
    if name.isdigit():
        if int(name) == 0:
            raise UsageError("domain 0 cannot be saved")
        return int(name)
    for domain in hv.domains():
        if hv.xenstore_read(f"/local/domain/{domain.domid}/name") == name.encode():
            return domain.domid
    raise DomainNotFound(f"there is no domain named {name!r} (see `xl list`)", op="name", errno=3, name=name)


def _save(
    hv: Backend,
    domid: int,
    fd: int,
    args: argparse.Namespace,
    policy: SimplePolicy,
    suspend: Suspend,
    device_model: Optional[Qemu],
    cancel: CancelBySignal,
) -> SaveReport:
    line = None if args.quiet else progress_line(args.progress)
    try:
        return save(
            hv,
            domid,
            fd,
            live=args.live,
            verify=args.verify,
            policy=policy,
            suspend=suspend,
            progress=line,
            cancel=cancel,
            complete=_resume_at_once(suspend) if args.then == "resume" and args.format == "libxc" else None,
            durable=True,
            p2m_changes=args.p2m_changes,
            device_model=device_model,
        )
    finally:
        if line:
            line.done()


def _guest_parts(
    hv: Backend, domid: int, args: argparse.Namespace, cancel: CancelBySignal
) -> tuple[Suspend, Optional[Qemu]]:
    """What suspends this guest, and its device model if it has one."""
    if not hv.domain_info(domid).hvm:
        return XenstoreSuspend(hv, domid, timeout=args.suspend_timeout, cancel=cancel), None
    from pyxcsr.devicemodel.qemu import Qemu, has_qemu
    from pyxcsr.suspend.hvm import HvmSuspend

    qemu = Qemu(domid) if hv.backend == "xen" and has_qemu(domid) else None
    if qemu is not None and args.format == "libxc" and not args.quiet:
        print(f"pyxcsr: {NO_DEVICES.format(domid)}", file=sys.stderr)
    return HvmSuspend(hv, domid, qemu, args.suspend_timeout, cancel), qemu


def _resume_at_once(suspend: Suspend) -> Callable[[SaveReport], None]:
    """For save(): the guest goes on as soon as the stream is complete, whatever is left to tidy up."""

    def resume(_report: SaveReport) -> None:
        suspend.resume()

    return resume


@contextmanager
def _guest_goes_on_if_this_fails(suspend: Suspend) -> Iterator[None]:
    """For what comes after the save: a file that could not be kept must not cost a guest."""
    try:
        yield
    except BaseException:
        try:
            suspend.resume()
        except XcsrError as problem:  # not the first error, which is the one that is raised
            print(f"pyxcsr: the guest may still be suspended: {problem}", file=sys.stderr)
        raise


def _destroy(hv: Backend, domid: int) -> None:
    """With xl where there is one: it also removes the guest's devices and xenstore nodes."""
    xl = shutil.which("xl") if hv.backend == "xen" else None
    if xl is None:
        hv.domain_destroy(domid)
        return
    done = subprocess.run([xl, "destroy", str(domid)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise XcsrError(f"the stream is complete, but xl could not destroy domain {domid}: {done.stderr.strip()}")


def _print(report: SaveReport, args: argparse.Namespace) -> None:
    out = sys.stderr if is_standard_output(args.file) else sys.stdout
    if out is None:  # closed
        return
    if args.json:
        print(json.dumps({**report.to_dict(), "file": os.fspath(args.file), "format": args.format}, indent=2), file=out)
    elif not args.quiet:
        print(summary(report), file=out)
