"""Ends a save that runs, the helper's of xl save and xl migrate included, and sees to it that the guest runs on."""

from __future__ import annotations

import argparse
import json

from pyxcsr.cli import afterwards, figures, say, status
from pyxcsr.cli.controlling import add_run_dir, run_dir_of, tell_killed
from pyxcsr.control.client import PATIENT_CANCEL, running_save
from pyxcsr.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "the save has ended with nothing left to undo, and the guest was seen to run",
        "the save has ended in another way, or not yet; or the guest does not run, or may stop running later, or it is "
        "not known whether it runs",
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
    run_dir = run_dir_of(args)
    told = running_save(args.guest, run_dir, tell_killed).cancel(args.wait)
    cancelled = told.get("result") == "cancelled" and not told.get("stream_complete")
    seen = afterwards.look(told, run_dir) if cancelled else None
    if seen is not None:
        told["guest_is"] = seen.guest_is
    if args.json:
        say.report(json.dumps(told))
    elif seen is not None:
        say.report(f"{figures.name(told)}: the save was cancelled; {seen.text(told)}")
    else:
        say.report(figures.ending(told))
    for text in told.get("notes", ()):
        say.note(text)
    return status.DONE if seen is not None and seen.well and not told.get("notes") else status.FAILED
