"""``pyxcsr verify FILE|- ...``: are the streams well formed, and is the guest in each whole? Needs no Xen."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Optional

from pyxcsr.cli import checksum as sums
from pyxcsr.cli import failure, say, status
from pyxcsr.cli.reading import watched
from pyxcsr.container.reader import Kind
from pyxcsr.container.verify import verify_input
from pyxcsr.errors import ChecksumMismatch, InputError, NotAStream, UsageError, XcsrError
from pyxcsr.stream.compressed import plain
from pyxcsr.stream.rules.verify import PAGES_UNCHECKED
from pyxcsr.stream.source import open_input

if TYPE_CHECKING:
    from pyxcsr.stream.rules.verify import VerifyReport

OK, COMPLAINTS, UNREADABLE = status.DONE, status.FAILED, status.UNUSABLE

SHOWN = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Reads libxc migration streams, by themselves or in a libxl stream or an xl save file, and reports every "
        "breach of the formats, and everything that the guest's memory lacks. What is unusual, but right for the "
        "release that wrote the stream, is a note: notes do not change the exit status."
    )
    parser.epilog = status.explained(
        "all well", "there are complaints", "a FILE cannot be read as a stream at all (of several files the highest)"
    )
    parser.add_argument("file", metavar="FILE", nargs="+", help="a stream, or - for standard input")
    sums.add_option(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON; of several files, a list of reports"
    )
    parser.add_argument(
        "--checkpointed",
        action="store_true",
        help="the stream is one of Remus: it has CHECKPOINT records, and as a rule no END",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but what cannot be read; the status tells")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on standard error (default: if that is a terminal)",
    )
    parser.add_argument(
        "--max-complaints",
        type=int,
        default=SHOWN,
        metavar="N",
        help=f"print at most N complaints of a file and count the rest (default {SHOWN})",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    if args.max_complaints < 0:
        raise UsageError("--max-complaints must not be negative")
    if args.file.count("-") > 1:
        raise UsageError("standard input can be read only once")
    worst, documents = OK, []
    for name in args.file:
        found, document = _verify(name, args)
        worst = max(worst, found)
        documents.append(document)
        say.check_delivered()
    if args.json:
        say.report(json.dumps(documents if len(documents) > 1 else documents[0], indent=2, default=str))
    return worst


def _verify(name: str, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """One file: its status, and what is to be said of it as JSON. What is to be said in words is said."""
    report: Optional[VerifyReport] = None

    def cut(text: str) -> bool:
        """Of a compressed stream of checkpoints, whose sender has died."""
        if report is None or not report.checkpoints:
            return False
        report.unchecked.append(text)
        return True

    try:
        with open_input(name) as fd:
            compared, damage = _compare(name, fd, args)
            with plain(fd, cut=cut) as inside, watched(inside, name, args.quiet, args.progress) as file:
                report = verify_input(file, checkpointed=args.checkpointed)
    except (NotAStream, UsageError, InputError) as error:
        return _unreadable(name, error, args)
    except OSError as error:
        return _unreadable(name, failure.of_input(error, name), args)
    if compared:
        report.unchecked[:] = [text for text in report.unchecked if text != PAGES_UNCHECKED]
    ok = report.ok and not damage
    if not args.json and not args.quiet:
        if damage:
            say.report(f"checksum: {damage}")
        _print(name, report, args.max_complaints)
    document = {"file": name, **report.to_dict(), "checksum": damage or None, "ok": ok}
    return OK if ok else COMPLAINTS, document


def _compare(name: str, fd: int, args: argparse.Namespace) -> tuple[bool, str]:
    """Whether the checksum file says what the pages hold, and what it has against the stream, in words."""
    try:
        return sums.check(name, fd, args.checksum), ""
    except ChecksumMismatch as error:
        return True, str(error)


def _unreadable(name: str, error: XcsrError, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    failure.name_input(error, name, args.words)
    say.note(str(error))
    return UNREADABLE, {"file": name, **failure.as_dict(error)}


def _print(name: str, report: VerifyReport, shown: int) -> None:
    for complaint in report.complaints[:shown]:
        say.report(str(complaint))
    hidden = len(report.complaints) - shown
    if hidden > 0 or report.dropped:
        say.report(f"... and {max(hidden, 0) + report.dropped} more complaints")
    for note in report.notes[:shown]:
        say.report(f"note: {note}")
    if len(report.notes) > shown:
        say.report(f"... and {len(report.notes) - shown} more notes")
    say.report(_summary(name, report))
    if report.unchecked:
        say.report("\n  ".join(["not checked:", *report.unchecked]))


def _summary(name: str, report: VerifyReport) -> str:
    found = len(report.complaints) + report.dropped
    verdict = "ok" if report.ok else f"{found} complaint{'s' if found != 1 else ''}"
    text = (
        f"{name}: {verdict}; {_where(report)}{report.guest or 'unknown'} guest, version {report.version}, "
        f"{report.records} records, {report.bytes} bytes, {report.pages} pages with data"
    )
    if report.checkpoints:
        text += f", {report.checkpoints} checkpoints"
    if not report.memory_checked:
        return text + "; what is missing from the memory could not be checked"
    return text + f", {report.nr_pfns - report.nr_unsent} of {report.nr_pfns} pfns sent"


def _where(report: VerifyReport) -> str:
    """What is around the stream, if anything."""
    if report.container is None:
        return ""
    what = Kind(report.container.kind).words
    return f"{what}, {report.container.bytes} bytes; "
