"""Changes the limits of a save that runs, the helper's of xl migrate included. It goes by them at once.

A value is written as for `pyxcsr save`; "none" lifts a limit. The timeout is counted from the save's beginning.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from pyxcsr.cli import figures, say, status
from pyxcsr.cli.controlling import add_run_dir, run_dir_of, tell_killed
from pyxcsr.control.client import running_save
from pyxcsr.errors import UsageError
from pyxcsr.limits.words import WORDS, parse
from pyxcsr.units import format_seconds, format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "changed", "the save did not answer, and may or may not go by it",
        "nothing was changed: that GUEST is not being saved, or the save refuses it",
    )  # fmt: skip
    add = parser.add_argument
    add("guest", metavar="GUEST", help="id or name of a domain that is being saved")
    for word in WORDS:
        if word.metavar:
            add(word.option, metavar=word.metavar, help=word.help)
        else:
            add(word.option, action=argparse.BooleanOptionalAction, default=None, help=word.help)
    add("--suspend-now", action="store_true", help="suspend the guest at once, and copy the rest then")
    add("--json", action="store_true", help='print the event "tuned", with all limits, as JSON')
    add_run_dir(add)


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    words = {word.name: _checked(word.option, word.name, getattr(args, word.name)) for word in WORDS}
    asked = {x: value for x, value in words.items() if value is not None}
    if not asked and not args.suspend_now:
        raise UsageError("say what is to be changed: --max-downtime 500ms, for example, or --suspend-now")
    save = running_save(args.guest, run_dir_of(args), tell_killed)
    told = save.tune(suspend_now=args.suspend_now, **asked)
    say.report(json.dumps(told) if args.json else f"{figures.name(told)}: {limits(told)}")
    return status.DONE


def _checked(option: str, name: str, given: Any) -> Any:
    if isinstance(given, str):
        parse(name, given, option)
    return given


def limits(told: dict[str, Any]) -> str:
    """The limits of an event in words."""
    shown = [f"policy {told['policy']}"]
    for name, value in told["limits"].items():
        if value is None or value is False:
            continue
        if value is True:
            shown.append(name)
        elif name == "bandwidth":
            shown.append(f"bandwidth {format_size(value)}/s")
        else:
            shown.append(f"{name} {format_seconds(value) if isinstance(value, float) else value}")
    return ", ".join(shown)
