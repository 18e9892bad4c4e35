"""How a save is seen and steered while it runs: options of `pyxcsr save`, and of the commands that do it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Optional

from pyxcsr.cli import say
from pyxcsr.control.control import Control
from pyxcsr.control.lock import was_killed
from pyxcsr.control.names import DEFAULT, VARIABLE
from pyxcsr.errors import UsageError
from pyxcsr.limits.file import read_settings_file, wrong_run_dir
from pyxcsr.limits.sources import Sources, control_words
from pyxcsr.transfer.savers import Asked, Savers, savers_of


def add_run_dir(add: Callable[..., object]) -> None:
    """``add``: a parser's or a group's add_argument."""
    add(
        "--run-dir",
        metavar="DIR",
        help=f"where running saves have their sockets and locks (default: {VARIABLE}, or the settings file, or "
        f"{DEFAULT}); none: nowhere",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `pyxcsr save`."""
    text = "`pyxcsr watch`, `tune` and `cancel` show, change and end a save while it runs."
    group = parser.add_argument_group("seen from outside", text)
    group.add_argument(
        "--events",
        metavar="FILE|FD",
        help="append what happens to a file as lines of JSON (docs/control.md), or write it to a descriptor",
    )
    add_run_dir(group.add_argument)


def control_for(args: argparse.Namespace, sources: Sources) -> Control:
    """The control of a save. A file that was named by an option has to be one that can be written."""
    run_dir = _option(args) or sources.control.get("run_dir")
    if args.events is not None:
        return Control(run_dir, args.events)
    try:
        return Control(run_dir, sources.control.get("events"))
    except UsageError as problem:  # of the environment or the settings file: no save fails for that
        say.note(str(problem))
        return Control(run_dir)


def run_dir_of(args: argparse.Namespace) -> Optional[str]:
    """Where other processes' saves are found. Raises UsageError for what can be no folder, or a wrong settings file."""
    option = _option(args)
    if option is not None:
        return option
    return control_words(os.environ, read_settings_file(os.environ)).get("run_dir")


def tell_killed(domid: int) -> None:
    """Says that a save was killed: for who looks for saves, and removes what that one has left behind."""
    say.note(was_killed(domid))


def _option(args: argparse.Namespace) -> Optional[str]:
    """--run-dir; an empty one is none, as ever. Raises UsageError for what can be no folder."""
    if args.run_dir is None:
        return None
    option = str(args.run_dir) or "none"
    wrong = wrong_run_dir(option)
    if wrong:
        raise UsageError(f"--run-dir is {option!r}: {wrong}")
    return option


def savers_for(args: argparse.Namespace, hv: Asked, domid: int) -> Savers:
    """Who looks for saves that a command would harm: where they have their locks by what is said here, too.

    A settings file that is wrong is no reason to fail: no save begins with one.
    """
    try:
        run_dir = run_dir_of(args)
    except UsageError as problem:
        say.note(f"{problem}: saves are looked for in {DEFAULT}")
        run_dir = None
    return savers_of(hv, domid, run_dir)


def either(cancel: Callable[[], bool], control: Control) -> Callable[[], bool]:
    """True if a signal, or another process, wants the save to end."""
    return lambda: control.asks_to_cancel() or cancel()
