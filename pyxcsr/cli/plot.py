"""Draws a report of `pyxcsr save --json` or `dirty-rate --json`, or a save's events. Needs the matplotlib package."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Optional

from pyxcsr.cli import say, status
from pyxcsr.cli.from_events import events_in, report_of
from pyxcsr.errors import UsageError

KINDS = (".svg", ".png")
MOST = 64 << 20
"""Bytes that a report may have: one of thousands of passes has less."""

NO_MATPLOTLIB = "pictures need matplotlib: pip install 'pyxcsr[plot]', or apt-get install python3-matplotlib"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained("drawn", "failed, and no picture was made", "cannot be drawn")
    add = parser.add_argument
    add("report", metavar="REPORT", help="what save --json or dirty-rate --json has printed, or events; - is stdin")
    add("picture", metavar="PICTURE", help=f"the file to draw into: {' or '.join(KINDS)}")
    add(
        "--guest",
        metavar="NAME|ID",
        help="of a file with the events of several guests' saves, the last one of this guest (else the last of all)",
    )
    add("--force", action="store_true", help="replace PICTURE if it exists")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    picture = Path(args.picture)
    if picture.suffix not in KINDS:
        raise UsageError(f"{picture}: its name must end in {' or '.join(KINDS)}, which says what to draw")
    if not args.force and os.path.lexists(picture):
        raise UsageError(f"{picture} exists: --force replaces it")
    report = _report(args.report, args.guest)
    try:
        from pyxcsr.cli.picture import draw
    except ImportError as error:
        raise UsageError(NO_MATPLOTLIB) from error
    _write(report, picture, draw)
    say.report(f"drawn: {picture}")
    return status.DONE


def _report(name: str, guest: Optional[str]) -> dict[str, Any]:
    """The report, of which all is there that is drawn. Raises UsageError, OSError."""
    shown = "standard input" if name == "-" else name
    with open(0 if name == "-" else name, "rb", closefd=name != "-") as source:
        text = source.read(MOST + 1)
    report = _of_events(text, guest, shown) if len(text) <= MOST else None
    if guest is not None and report is None:
        raise UsageError(f"--guest chooses among the saves in a file of events, and {shown} is none")
    try:
        report = json.loads(text) if report is None and len(text) <= MOST else report
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown} is no report: {error}") from error
    if not isinstance(report, dict):
        raise UsageError(f"{shown} is no report of pyxcsr's")
    if report.get("ok") is False:
        raise UsageError(f"{shown} is the report of a command that failed: there is nothing to draw")
    if not (_rows(report.get("passes"), PASS) or _rows(report.get("windows"), WINDOW)):
        raise UsageError(f"{shown} is no report of save --json or dirty-rate --json: it has neither passes nor windows")
    _check_rest(report, shown)
    return report


def _of_events(text: bytes, guest: Optional[str], shown: str) -> Optional[dict[str, Any]]:
    events = events_in(text)
    try:
        return None if events is None else report_of(events, guest)
    except UsageError as problem:
        raise UsageError(f"{shown}: {problem}") from None


def _check_rest(report: dict[str, Any], shown: str) -> None:
    """What need not be there must be numbers where it is."""
    ranges, passes = report.get("ranges", []), report.get("passes") or []
    if passes and not _rows(passes, PASS):  # beside windows: it would be taken for a save's
        raise UsageError(f"{shown} is no report of pyxcsr's: passes cannot be what it says")
    wrong = [x for x in NUMBERS if x in report and not _is_number(report[x])]
    predicted = [report.get("predicted_pause"), *(x.get("predicted_pause") for x in passes)]
    if not all(x is None or _is_number(x) for x in predicted):
        wrong.append("predicted_pause")
    if not isinstance(ranges, list) or not all(map(_is_number, ranges)):
        wrong.append("ranges")
    if wrong:
        raise UsageError(f"{shown} is no report of pyxcsr's: {', '.join(wrong)} cannot be what it says")


NUMBERS = ("domid", "bytes", "seconds", "seconds_paused", "pages_per_second", "distinct", "per_range")
PASS = ("dirty", "pages", "bytes", "seconds")
WINDOW = ("seconds", "pages", "most")


def _rows(found: object, names: tuple[str, ...]) -> bool:
    """Whether that is a list of objects with these numbers, none of them negative."""
    if not isinstance(found, list) or not found:
        return False
    return all(isinstance(x, dict) and all(_is_number(x.get(name)) for name in names) for x in found)


def _is_number(value: object) -> bool:
    """A number of up to 64 bits, as all of them are: sums of such can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1 << 64


def _write(report: dict[str, Any], picture: Path, draw: Any) -> None:
    """The picture has its name only once it is complete."""
    fd, name = tempfile.mkstemp(prefix=f".{picture.name}.", suffix=picture.suffix, dir=picture.parent)
    os.close(fd)
    try:
        draw(report, name, picture.suffix[1:])
        os.chmod(name, 0o644)
        os.replace(name, picture)
    except BaseException:
        os.unlink(name)
        raise
