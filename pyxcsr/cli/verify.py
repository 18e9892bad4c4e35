"""``pyxcsr verify FILE|-``: is the stream well formed, and is the guest in it whole? Needs no Xen."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pyxcsr.cli import checksum as sums
from pyxcsr.container.verify import verify_input
from pyxcsr.errors import ChecksumMismatch, NotAStream, UsageError
from pyxcsr.stream.rules.verify import PAGES_UNCHECKED
from pyxcsr.stream.source import open_input

if TYPE_CHECKING:
    import argparse

    from pyxcsr.stream.rules.verify import VerifyReport

OK, COMPLAINTS, UNREADABLE = 0, 1, 2

SHOWN = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Reads a libxc migration stream, by itself or in a libxl stream or an xl save file, and reports every "
        "breach of the formats, and everything that the guest's memory lacks. What is unusual, but right for the "
        "release that wrote the stream, is a note. Exit status: 0 all well (there may be notes), 1 complaints, 2 it "
        "cannot be read as a stream at all."
    )
    parser.add_argument("file", metavar="FILE", help="the stream, or - for standard input")
    sums.add_option(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--max-complaints",
        type=int,
        default=SHOWN,
        metavar="N",
        help=f"print at most N complaints and count the rest (default {SHOWN})",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    if args.max_complaints < 0:
        return _unreadable(args, "--max-complaints must not be negative")
    try:
        with open_input(args.file) as fd:
            compared, damage = _compare(args, fd)
            report = verify_input(fd)
            if compared:
                report.unchecked[:] = [text for text in report.unchecked if text != PAGES_UNCHECKED]
    except (NotAStream, UsageError) as error:
        return _unreadable(args, str(error))
    except OSError as error:
        return _unreadable(args, error.strerror or str(error))
    if args.json:
        print(json.dumps({**report.to_dict(), "checksum": damage or None, "ok": report.ok and not damage}, indent=2))
    else:
        if damage:
            print(f"checksum: {damage}")
        _print(args.file, report, args.max_complaints)
    return OK if report.ok and not damage else COMPLAINTS


def _compare(args: argparse.Namespace, fd: int) -> tuple[bool, str]:
    """Whether the checksum file says what the pages hold, and what it has against the stream, in words."""
    try:
        return sums.check(args.file, fd, args.checksum), ""
    except ChecksumMismatch as error:
        return True, str(error)


def _unreadable(args: argparse.Namespace, text: str) -> int:
    if args.json:
        print(json.dumps({"ok": False, "error": text}, indent=2))
    print(f"pyxcsr verify: {args.file}: {text}", file=sys.stderr)
    return UNREADABLE


def _print(name: str, report: VerifyReport, shown: int) -> None:
    for complaint in report.complaints[:shown]:
        print(complaint)
    hidden = len(report.complaints) - shown
    if hidden > 0 or report.dropped:
        print(f"... and {max(hidden, 0) + report.dropped} more complaints")
    for note in report.notes[:shown]:
        print(f"note: {note}")
    if len(report.notes) > shown:
        print(f"... and {len(report.notes) - shown} more notes")
    print(_summary(name, report))
    if report.unchecked:
        print("not checked:", *report.unchecked, sep="\n  ")


def _summary(name: str, report: VerifyReport) -> str:
    found = len(report.complaints) + report.dropped
    verdict = "ok" if report.ok else f"{found} complaint{'s' if found != 1 else ''}"
    text = (
        f"{name}: {verdict}; {_where(report)}{report.guest or 'unknown'} guest, version {report.version}, "
        f"{report.records} records, {report.bytes} bytes, {report.pages} pages with data"
    )
    if not report.memory_checked:
        return text + "; what is missing from the memory could not be checked"
    return text + f", {report.nr_pfns - report.nr_unsent} of {report.nr_pfns} pfns sent"


def _where(report: VerifyReport) -> str:
    """What is around the stream, if anything."""
    if report.container is None:
        return ""
    what = "xl save file" if report.container.kind == "xl" else "libxl stream"
    return f"{what}, {report.container.bytes} bytes; "
