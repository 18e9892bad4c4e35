"""The figures of running saves for people: a table, a few short lines for a narrow terminal, or a line of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.units import format_seconds

State = dict[str, Any]
"""What a save's events have said so far (docs/control.md)."""

UNKNOWN = "-"
WIDE = 77
"""Columns of the table."""

_HEAD = ("GUEST", "PHASE", "PASS", "SENT", "LEFT", "DIRTY/S", "SPEED", "PAUSE", "TIME")
_WIDTHS = (-12, -8, 4, 7, 7, 8, 9, 7, 7)


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
    shown = "".join(x if x.isprintable() else "?" for x in state.get("guest") or "")
    return shown or f"domain {state['domid']}"


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


def _row(cells: Iterable[str]) -> str:
    fitted = (x[: abs(width)].ljust(-width) if width < 0 else x.rjust(width) for x, width in zip(cells, _WIDTHS))
    return " ".join(fitted).rstrip()


def _cells(state: State, silent: bool) -> list[str]:
    return [
        name(state), _phase(state, silent), str(state.get("iteration", UNKNOWN)), size(state.get("bytes_written")),
        _left(state), count(state.get("dirty_rate")), _speed(state), _pause(state), clock(state.get("seconds")),
    ]  # fmt: skip


def table(saves: list[tuple[State, bool]], columns: int) -> list[str]:
    """Lines for a terminal with so many columns. ``saves``: with each its state, and whether it does not answer."""
    if not saves:
        return ["nothing is being saved"[:columns]]
    if columns >= WIDE:
        return [_row(_HEAD), *(line for x in saves for line in (_row(_cells(*x)), *_below(x[0])))]
    return [line[:columns] for x in saves for line in (*_narrow(*x), *_below(x[0], "time"))]


def _below(state: State, what: str = "processor time") -> list[str]:
    """What few saves have: a line of its own for it."""
    slowed = throttled(state, what)
    return [f"  {slowed}"] if slowed else []


def _narrow(state: State, silent: bool) -> list[str]:
    guest, phase, number, sent, left, dirty, speed, pause, elapsed = _cells(state, silent)
    return [
        f"{guest[:16]}: {phase} {number}, {elapsed}",
        f"  {sent} sent, {left} left, {speed}",
        f"  {dirty} dirty/s, pause {pause}",
    ]


def text(state: State, silent: bool = False) -> str:
    """One line for a log."""
    guest, phase, number, sent, left, dirty, speed, pause, elapsed = _cells(state, silent)
    return (
        f"{guest}: {phase} {number}, {sent} sent, {left} left, {dirty} dirty/s, {speed}, predicted pause {pause}, "
        f"{elapsed}" + "".join(f", {x}" for x in [throttled(state)] if x)
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
