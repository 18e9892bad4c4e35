"""Migrates a running guest by an unmodified `xl migrate`, with pyxcsr's save helper at both ends.

Before anything is touched, both ends are checked. Afterwards both are asked where the guest runs.
"""

from __future__ import annotations

import argparse
import errno
import os
import stat
from pathlib import Path
from typing import Any, Optional

from pyxcsr.cli import limiting, say, show_migration, status
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.errors import Cancelled, DomainNotFound, MigrateError, ProbeError, UsageError, untouched_so_far
from pyxcsr.hypervisor.names import id_in
from pyxcsr.migrate import verdict
from pyxcsr.migrate.checks import Plan, check
from pyxcsr.migrate.facts import Domain, Facts
from pyxcsr.migrate.guest import guest_facts
from pyxcsr.migrate.home import HELPER, HOME, beside
from pyxcsr.migrate.probe import domains_of, facts_of
from pyxcsr.migrate.route import Programs, Route, receive, route, shown, transport, xl_words
from pyxcsr.migrate.running import TOO_LATE, Ended, run_xl
from pyxcsr.policy import P2M_CHANGES
from pyxcsr.programs import LEAST, MOST, zstd_level

RELAY, STOCK = "pyxcsr-relay", "stock"
USUAL = f"/usr/local/bin/{HELPER}"
VARIABLE = "LIBXL_SAVE_HELPER"

OTHER_SIDE_FAILED, LOOK_AT_BOTH = 4, 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "the guest runs at the other end", "failed on this side, and the guest runs here", "nothing was done"
    ) + (
        f" {OTHER_SIDE_FAILED} the other side failed, or the connection, and the guest runs here; {LOOK_AT_BOTH} it is "
        "not certain that exactly one copy of the guest runs: the message says what each end has."
    )
    add = parser.add_argument
    add("guest", metavar="GUEST", help="id or name of the domain")
    add("host", metavar="HOST", help="where it goes, as ssh takes it; localhost: this machine itself, without ssh")
    add("--ssh", metavar="COMMAND", help="instead of ssh, as \"ssh -p 2222\"; '' for none, with HOST localhost")
    add(
        "--compress",
        metavar="zstd[:LEVEL]",
        help=f"compress what goes over the link by zstd, which both ends must have (LEVEL {LEAST} to {MOST}, those "
        "below 0 are fast; 1). It pays if the link is slower than zstd",
    )
    add("--helper", metavar="PATH", help="pyxcsr-save-helper here (default: the one beside this program, or in PATH)")
    add(
        "--receiver-helper",
        metavar="PATH",
        help="pyxcsr-save-helper at the other end (default: the one in PATH there); stock: Xen's own receives",
    )
    add("--config", metavar="FILE", help="the guest's configuration there (xl migrate -C)")
    add("--live", action="store_true", help="the default, and the only choice: xl migrates running guests")
    limiting.add_arguments(parser)
    add("--p2m-changes", choices=P2M_CHANGES, help="if the guest changes its p2m meanwhile (see pyxcsr save)")
    add("--no-checks", action="store_true", help="do not check whether the guest can go and the other end can take it")
    add("--dry-run", action="store_true", help="check, and print the command that would be run")
    add("--verbose", "-v", action="count", default=0, help="xl says more, at both ends")
    add("--json", action="store_true", help="print the result, or the error, as JSON")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show xl's progress on standard error (default: if that is a terminal)",
    )
    add("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    way, level, limits = _understood(args)
    with untouched_so_far():
        if args.dry_run and args.no_checks:
            limits.for_guest(lambda: _name_in(args.guest), True, say.note)
            say.report(shown(*_command(args, way, args.guest, level, *_unasked(args))))
            return status.DONE
        slow = show_migration.slow(args)
        here = facts_of(HOME, args.helper or beside(), slow)
        domain = _found(here, args.guest)
        limits.for_guest(lambda: os.fsencode(domain.name), True, say.note)
        there = _unasked(args)[1]
        if not args.no_checks:
            there = _checked(args, way, level, here, domain)
            others = {x.domid for x in there.domains}
        else:
            slow("--no-checks: it is not known whether the guest can go and the other end can take it")
            others = _namesakes(args, way, domain)
        if not here.xl or not here.helper:
            raise MigrateError(f"here: there is no {'xl' if not here.xl else HELPER} (see --helper)")
        if level and not here.relay:
            raise MigrateError(f"here: --compress needs {RELAY} beside {here.helper}: install pyxcsr")
        words, environ = _command(args, way, str(domain.domid), level, here, there)
    if args.dry_run:
        say.report(shown(words, environ))
        return status.DONE
    cancel = CancelBySignal()
    with cancel.installed():
        display = show_migration.Shown(args, domain.domid)
        try:
            ended = run_xl(words, {**os.environ, **environ}, display.text, cancel, display.tick)
        finally:
            display.done()
        return _judged(args, way, domain, others, ended, cancel)


def _understood(args: argparse.Namespace) -> tuple[Route, Optional[int], Any]:
    """What can be told from the arguments alone. Raises UsageError."""
    args.live, args.verify = True, False
    for name in ("helper", "receiver_helper"):
        path = getattr(args, name)
        if path is not None and not path.startswith("/") and not (name == "receiver_helper" and path == STOCK):
            raise UsageError(f"--{name.replace('_', '-')} is {path!r}: give an absolute path")
    if args.compress is not None and args.receiver_helper == STOCK:
        raise UsageError("--compress needs pyxcsr at both ends, not --receiver-helper stock")
    if args.config is not None:
        _check_config(args.config)
    if not args.guest:
        raise UsageError("GUEST is empty")
    if os.environ.get("PYXCSR_SAVE") == STOCK and (limiting.variables(args) or args.p2m_changes):
        raise UsageError("PYXCSR_SAVE=stock leaves it to Xen's helper, which knows neither limits nor --p2m-changes")
    return route(args.host, args.ssh), _compression(args.compress), limiting.asked(args, os.environ)


def _name_in(guest: str) -> Optional[bytes]:
    """The name, where nobody is asked for it: a number is an id, and what the file says of its guest is not known."""
    return None if id_in(guest) is not None else os.fsencode(guest)


def _compression(text: Optional[str]) -> Optional[int]:
    if text is None:
        return None
    name, colon, level = text.partition(":")
    try:
        if name == "zstd":
            return zstd_level(level) if colon else 1
    except ValueError:
        pass
    raise UsageError(f"--compress is {text!r}: write zstd, or zstd:LEVEL with {LEAST} to {MOST}, without 0")


def _check_config(path: str) -> None:
    """Raises UsageError for a file that xl would refuse to read, as it does once all has been checked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is not a plain file")
        finally:
            os.close(fd)
    except OSError as error:
        raise UsageError(f"--config {path!r} cannot be read: {error.strerror}") from None


def _unasked(args: argparse.Namespace) -> tuple[Facts, Facts]:
    """Both ends, for all that is said of them by options."""
    sides = Facts("here"), Facts(args.host)
    for side, path in zip(sides, (args.helper or beside(), args.receiver_helper)):
        side.xl, side.helper = "xl", path or USUAL
        side.relay = str(Path(side.helper).parent / RELAY)
    return sides


def _found(here: Facts, guest: str) -> Domain:
    """As xl does it: a number is an id. Raises MigrateError, DomainNotFound."""
    if not here.xl or here.failed:
        raise MigrateError(f"here: {here.failed or 'there is no xl'}", guest=guest)
    domid = id_in(guest)
    domain = here.named(guest) if domid is None else here.numbered(domid)
    if domain is None:
        raise DomainNotFound(f"here: there is no domain {guest!r} (see `xl list`)", op="name", errno=3, name=guest)
    return domain


def _checked(
    args: argparse.Namespace, way: Route, level: Optional[int], here: Facts, domain: Domain
) -> Facts:
    """The other end, once all that can be told beforehand is fine. Raises MigrateError."""
    stock = args.receiver_helper == STOCK
    there = here if way.local and (stock or args.receiver_helper is None) else facts_of(
        way, None if stock else args.receiver_helper, show_migration.slow(args)
    )
    plan = Plan(way.local, level is not None, stock)
    found = check(here, there, domain, guest_facts(domain.domid), plan)
    if not args.quiet:
        for text in found.warnings:
            say.note(text)
    if found.problems:
        error = MigrateError(
            f"{found.problems[0]}. Nothing was done, and the guest is as it was", guest=domain.name, host=way.host
        )
        error.__notes__ = found.problems[1:]  # type: ignore[attr-defined, unused-ignore]
        raise error
    return there


def _command(
    args: argparse.Namespace, way: Route, guest: str, level: Optional[int], here: Facts, there: Facts
) -> tuple[list[str], dict[str, str]]:
    """xl's command line, and the variables that are set for it."""
    options = [f"-{'v' * args.verbose}"] if args.verbose else []
    if show_migration.on_terminal(args):
        options.append("-t")
    stock = args.receiver_helper == STOCK
    received = receive(
        Programs(there.xl, None if stock else there.helper, there.relay if level else None), options
    )
    pack = [here.relay, "pack", str(level)] if level else None
    environ = {VARIABLE: here.helper, **limiting.variables(args)}
    if args.p2m_changes:
        environ["PYXCSR_P2M_CHANGES"] = args.p2m_changes
    return xl_words(here.xl, guest, transport(way, received, pack), options, args.config), environ


def _namesakes(args: argparse.Namespace, way: Route, domain: Domain) -> set[int]:
    """Domains at the other end before anything was sent, for the verdict. That they cannot be asked for is no reason
    not to begin, if nothing is to be checked."""
    try:
        others = domains_of(HOME if way.local else way, verdict.PATIENCE[0], show_migration.slow(args))
    except ProbeError as problem:
        show_migration.slow(args)(f"{problem}. If a guest of that name is there, it will be taken for this one")
        return set()
    return {x.domid for x in others.domains}


def _judged(
    args: argparse.Namespace, way: Route, domain: Domain, others: set[int], ended: Ended, cancel: CancelBySignal
) -> int:
    """Asks both ends, and says what has come of it. Returns the exit status. Raises MigrateError, Cancelled."""
    slow = show_migration.slow(args)
    there, why = verdict.settled(lambda seconds: domains_of(way, seconds, slow), domain.name)
    here, why_here = (there, why) if way.local else verdict.look(lambda seconds: domains_of(HOME, seconds, slow))
    place = verdict.locate(domain, way.local, here, there, why_here or why, others)
    # on one machine a guest that has rebooted meanwhile has a new id and its old name, just as its copy would
    moved = not ended.status or (not place.left and (ended.transcript.received or not way.local))
    if place.where == verdict.THERE and moved:
        show_migration.report(args, domain, way.host, place, ended)
        return status.DONE
    side = verdict.side_of(ended)
    facts: dict[str, Any] = {"guest": domain.name, "host": way.host, "where": place.where, "domid": place.domid}
    facts["status"] = ended.status
    if cancel.number and ended.cancelled not in ("", TOO_LATE) and place.where == verdict.HERE:
        raise Cancelled(f"cancelled: {ended.cancelled}; {place.text}", signal=cancel.number, **facts)
    error = MigrateError(show_migration.failed(domain, way.host, place, ended, side), side=side, **facts)
    show_migration.tell(args, error, ended)
    if place.where != verdict.HERE:
        return LOOK_AT_BOTH
    return OTHER_SIDE_FAILED if side == verdict.RECEIVER else status.FAILED
