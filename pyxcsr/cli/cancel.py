"""Ends a save that runs, the helper's of xl save and xl migrate included: the guest runs on."""

from __future__ import annotations

import argparse
import json

from pyxcsr.cli import figures, say, status
from pyxcsr.cli.controlling import add_run_dir, run_dir_of
from pyxcsr.control.client import PATIENT_CANCEL, running_save
from pyxcsr.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "the save has ended, and the guest runs on",
        "the save has ended in another way, or not yet",
        "nothing was done: that GUEST is not being saved, or its stream is complete already",
    )
    add = parser.add_argument
    add("guest", metavar="GUEST", help="id or name of a domain that is being saved")
    add("--wait", type=float, default=PATIENT_CANCEL, metavar="SECONDS", help="for the save to end (120)")
    add("--json", action="store_true", help='print the event "end" as JSON')
    add_run_dir(add)


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    if not args.wait > 0:
        raise UsageError("--wait must be more than 0")
    told = running_save(args.guest, run_dir_of(args)).cancel(args.wait)
    cancelled = told.get("result") == "cancelled" and not told.get("stream_complete")
    if args.json:
        say.report(json.dumps(told))
    elif cancelled:
        say.report(f"{figures.name(told)}: the save was cancelled; the guest runs on")
    else:
        say.report(figures.ending(told))
    for text in told.get("notes", ()):
        say.note(text)
    return status.DONE if cancelled and not told.get("notes") else status.FAILED
