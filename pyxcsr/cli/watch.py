"""Shows the saves that run on this machine, or one of them: the helper's of xl save and xl migrate included.

On a terminal a table that is drawn anew; elsewhere lines. Without GUEST it goes on until it is interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Optional

from pyxcsr.cli import figures, say, status
from pyxcsr.cli.controlling import add_run_dir, run_dir_of, tell_killed
from pyxcsr.cli.watching import Watched, Watching, facts_of
from pyxcsr.control.connection import Event
from pyxcsr.control.events import event as made
from pyxcsr.control.lock import was_killed
from pyxcsr.errors import ControlError

REDRAWN = 0.25
"""Seconds between two pictures of the table."""

LINES = 2.0
"""Seconds between two lines about the same pass, where there is no terminal."""

COLUMNS = 80

SAID = 100
"""Lines above the table that are kept, to be drawn again when the terminal has got another size."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "shown; of one GUEST: its save succeeded", "the save of that GUEST did not succeed, or has hung up",
        "that GUEST is not being saved, or the folder of sockets cannot be used",
    )  # fmt: skip
    add = parser.add_argument
    add("guest", metavar="GUEST", nargs="?", help="id or name of a domain (default: all saves)")
    add("--json", action="store_true", help="print events as lines of JSON, see docs/control.md")
    add("--once", action="store_true", help="print where the saves are now, and end")
    add_run_dir(add)


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    watching = Watching(run_dir_of(args), args.guest)
    try:
        if args.once:
            return _once(watching, args.json)
        return _follow(watching, _shower(args.json))
    finally:
        watching.close()


class Shower:
    """Shows events one after another. ``draw`` is called when nothing happens, too."""

    def event(self, one: Watched, event: Event) -> None:
        """Takes an event."""

    def draw(self, watching: Watching) -> None:
        """Shows where all of them stand."""

    def over(self, one: Watched) -> None:
        """A save is over."""

    def killed(self, domid: int) -> None:
        """A save was killed."""


class AsJson(Shower):
    """Each event as it came."""

    def event(self, one: Watched, event: Event) -> None:
        _out(json.dumps(event))

    def killed(self, domid: int) -> None:
        _out(json.dumps(made("killed", {"domid": domid})))


class AsLines(Shower):
    """A line for each change, and one now and then."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[object, float]] = {}

    def event(self, one: Watched, event: Event) -> None:
        kind, now = event["event"], time.monotonic()
        if kind not in ("status", "begin", "progress"):
            if kind in ("tuned", "cancelling"):
                _out(f"{figures.name(one.state)}: {kind}")
            return
        where = (event.get("phase"), event.get("iteration"))
        last, at = self._told.get(one.save.domid, (None, 0.0))
        if where != last or now - at >= LINES:
            self._told[one.save.domid] = (where, now)
            _out(figures.text({**one.state, **event}))

    def over(self, one: Watched) -> None:
        self._told.pop(one.save.domid, None)
        _out(figures.ending(one.state))

    def killed(self, domid: int) -> None:
        _out(was_killed(domid))


class AsTable(Shower):
    """A table on a terminal, drawn anew in its place; the end of a save is a line above it.

    Where the lines of the last picture are, nobody knows once the terminal has another size: some terminals wrap them
    anew, some cut them off, and some push them out at the top. So the whole screen is then drawn anew, with as many of
    the lines above the table as there is room for.
    """

    def __init__(self) -> None:
        self._lines, self._drawn = 0, 0.0
        self._size = _room()
        self._said: list[str] = []

    def draw(self, watching: Watching) -> None:
        now = time.monotonic()
        if now - self._drawn >= REDRAWN:
            self._drawn = now
            self._put([], _rows(watching))

    def over(self, one: Watched) -> None:
        self._say(figures.ending(one.state))

    def killed(self, domid: int) -> None:
        self._say(was_killed(domid))

    def _say(self, line: str) -> None:
        self._put([line], [])
        self._drawn = 0.0

    def _put(self, above: list[str], below: list[str]) -> None:
        size, self._size = self._size, _room()
        columns, rows = self._size
        below = [x[: columns - 1] for x in below[: max(rows - 1, 1)]]
        self._said = [*self._said, *above][-SAID:]
        back = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
        if size != self._size:
            back, above = "\x1b[H\x1b[2J", _fitting(self._said, columns, rows - 1 - len(below))
        self._lines = len(below)
        say.report(back + "\n".join([*above, *below]))
        _flush()


def _fitting(lines: list[str], columns: int, rows: int) -> list[str]:
    """The last of them, as many as take so many rows of a terminal, which wraps long ones."""
    taken: list[str] = []
    for line in reversed(lines):
        rows -= -(-max(len(line), 1) // columns)
        if rows < 0:
            break
        taken.insert(0, line)
    return taken


def _shower(as_json: bool) -> Shower:
    if as_json:
        return AsJson()
    terminal = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return AsTable() if terminal else AsLines()


def _follow(watching: Watching, shower: Shower) -> int:
    result: Optional[str] = None
    _tell_killed(watching, shower)
    shower.draw(watching)
    while not watching.ended:
        before = list(watching.saves.values())
        for one, event in watching.step(REDRAWN):
            shower.event(one, event)
        for one in before:
            if one.lost and watching.ended:
                raise _lost(one)
            if one.over and not one.lost:
                shower.over(one)
                result = one.state.get("result")
        _tell_killed(watching, shower)
        if not watching.ended:
            shower.draw(watching)
    return status.DONE if result == "done" else status.FAILED


def _tell_killed(watching: Watching, shower: Shower) -> None:
    while watching.killed:
        shower.killed(watching.killed.pop(0))


def _lost(one: Watched) -> ControlError:
    """Of the one save: there is nothing more to be seen of it."""
    save, why = one.save, one.state.get("message")
    text = f"the save of domain {save.domid} has hung up, but runs" + (f": {why}" if why else "")
    return ControlError(text, domid=save.domid, pid=save.pid)


def _once(watching: Watching, as_json: bool) -> int:
    show: Callable[[str], None] = say.report
    while not watching.settled:
        for _one, event in watching.step(0.1):
            if as_json and event["event"] == "status":
                show(json.dumps(event))
    silent = [x.state for x in watching.saves.values() if not x.answered]
    silent += map(facts_of, watching.unreachable.values())
    for state in silent if as_json else ():
        show(json.dumps(made("silent", state)))
    for domid in watching.killed:
        if as_json:
            show(json.dumps(made("killed", {"domid": domid})))
        else:
            tell_killed(domid)
    if not as_json:
        for line in _rows(watching):
            show(line)
    return status.DONE


def _rows(watching: Watching) -> list[str]:
    saves = [(x.state, x.silent) for x in watching.saves.values()]
    saves += [(facts_of(x), True) for x in watching.unreachable.values()]
    return figures.table(sorted(saves, key=lambda x: int(x[0]["domid"])), _room()[0] - 1)


def _room() -> tuple[int, int]:
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):
        return COLUMNS, 1000
    return size.columns or COLUMNS, size.lines or 24


def _out(text: str) -> None:
    say.report(text)
    _flush()


def _flush() -> None:
    say.flush()
    say.check_delivered()
