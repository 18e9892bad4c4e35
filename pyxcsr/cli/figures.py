"""The figures of running saves for people: a table, a few short lines for a narrow terminal, or a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.units import format_seconds

State = dict[str, Any]
"""What a save's events have said so far (docs/control.md)."""

UNKNOWN = "-"
WIDE = 77
"""Columns that the table takes at least."""
LEAST_NAME = 12
"""Characters of a name, if a line has room for them."""

_HEAD = ("ID", "GUEST", "PHASE", "PASS", "SENT", "LEFT", "DIRTY/S", "SPEED", "PAUSE", "TIME")
_WIDTHS = (-7, 4, 6, 6, 7, 8, 7, 7)
"""Of all behind the guest's name, which has the rest of the line; below 0: to the left."""
CUT = "\N{HORIZONTAL ELLIPSIS}"


def size(nr_bytes: Optional[float]) -> str:
    """In at most six characters."""
    if nr_bytes is None:
        return UNKNOWN
    for unit in ("", "K", "M"):
        if nr_bytes < 1000:
            return f"{nr_bytes:.0f}{unit}" if nr_bytes >= 10 or not unit else f"{nr_bytes:.1f}{unit}"
        nr_bytes /= 1024
    return f"{nr_bytes:.1f}G" if nr_bytes < 100 else f"{nr_bytes:.0f}G"


def count(number: Optional[float]) -> str:
    """In at most six characters."""
    if number is None:
        return UNKNOWN
    return f"{number:.0f}" if number < 10000 else f"{number / 1000:.0f}k"


def clock(seconds: Optional[float]) -> str:
    """As 1:02, or 1:00:02."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def name(state: State) -> str:
    """The guest's name, without anything that a terminal would obey; or its domid."""
    return _own_name(state) or f"domain {state['domid']}"


def _own_name(state: State) -> str:
    return "".join(x if x.isprintable() else "?" for x in state.get("guest") or "")


def _fitted(text: str, width: int) -> str:
    """In so many characters, with a mark if it is cut: whoever copies it is to see that this is not all of it."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}{CUT}"


def _speed(state: State) -> str:
    speed = size(state.get("bandwidth"))
    return speed if speed == UNKNOWN else f"{speed}/s"


def _pause(state: State) -> str:
    pause = state.get("predicted_pause")
    return UNKNOWN if pause is None else format_seconds(pause).replace(" ", "")


def _left(state: State) -> str:
    pages = state.get("remaining")
    return UNKNOWN if pages is None else size(pages * PAGE_SIZE)


def throttled(state: State, what: str = "processor time") -> str:
    """How much of its processor time a guest lacks for the save's sake; "" if it lacks none."""
    share = state.get("throttled") or 0.0
    return f"throttled: lacks {100 * share:.0f} % of its {what}" if share else ""


def _phase(state: State, silent: bool) -> str:
    return "silent" if silent else str(state.get("phase", UNKNOWN))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cells[0], _fitted(cells[1], -widths[1]), *cells[2:]]
    fitted = (x.ljust(-width) if width < 0 else x.rjust(width) for x, width in zip(cells, widths))
    return " ".join(fitted).rstrip()


def _wide(saves: list[tuple[State, bool]], columns: int) -> list[str]:
    rows = [_HEAD, *([str(x["domid"]), _own_name(x) or UNKNOWN, *_cells(x, silent)] for x, silent in saves)]
    of_ids, of_names = (max(len(x[i]) for x in rows) for i in (0, 1))
    room = columns - of_ids - sum(map(abs, _WIDTHS)) - len(_HEAD) + 1
    widths = (of_ids, -max(min(max(of_names, LEAST_NAME), room), 1), *_WIDTHS)
    lines = [_row(rows[0], widths)]
    for (state, _), row in zip(saves, rows[1:]):
        lines += [_row(row, widths), *_below(state)]
    return lines


def _cells(state: State, silent: bool) -> list[str]:
    return [
        _phase(state, silent), str(state.get("iteration", UNKNOWN)), size(state.get("bytes_written")),
        _left(state), count(state.get("dirty_rate")), _speed(state), _pause(state), clock(state.get("seconds")),
    ]  # fmt: skip


def table(saves: list[tuple[State, bool]], columns: int) -> list[str]:
    """Lines for a terminal with so many columns. ``saves``: with each its state, and whether it does not answer."""
    if not saves:
        return ["nothing is being saved"[:columns]]
    if columns >= WIDE:
        return _wide(saves, columns)
    return [line[:columns] for x in saves for line in (*_narrow(*x, columns), *_below(x[0], "time"))]


def _below(state: State, what: str = "processor time") -> list[str]:
    """What few saves have: a line of its own for it."""
    slowed = throttled(state, what)
    return [f"  {slowed}"] if slowed else []


def _narrow(state: State, silent: bool, columns: int) -> list[str]:
    phase, number, sent, left, dirty, speed, pause, elapsed = _cells(state, silent)
    own, where = _own_name(state), f": {phase} {number}, {elapsed}"
    room = max(columns - len(where) - len(f"{state['domid']} "), LEAST_NAME)
    guest = f"{state['domid']} {_fitted(own, room)}" if own else name(state)
    return [
        f"{guest}{where}",
        f"  {sent} sent, {left} left, {speed}",
        f"  {dirty} dirty/s, pause {pause}",
    ]


def text(state: State, silent: bool = False) -> str:
    """One line for a log."""
    phase, number, sent, left, dirty, speed, pause, elapsed = _cells(state, silent)
    return (
        f"{name(state)}: {phase} {number}, {sent} sent, {left} left, {dirty} dirty/s, {speed}, predicted pause {pause}"
        f", {elapsed}" + "".join(f", {x}" for x in [throttled(state)] if x)
    )


def ending(state: State) -> str:
    """How a save ended."""
    guest = name(state)
    if state.get("result") == "done":
        return (
            f"{guest}: done, {size(state.get('bytes'))} in {format_seconds(state.get('seconds') or 0)}, paused "
            f"{format_seconds(state.get('seconds_paused') or 0)}"
        )
    if "result" in state:
        return f"{guest}: {state['result']}: {state.get('message')}"
    return f"{guest}: the saving process ({state.get('pid')}) is gone without a word"
