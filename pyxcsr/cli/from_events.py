"""A save's report, as far as it can be had from its events: what `pyxcsr plot` draws of them.

A file of events may have those of several saves, one after another and at the same time: each line says of which guest
and by which process it is.
"""

from __future__ import annotations

import json
from typing import Any, Optional

from pyxcsr.errors import UsageError

OF_THE_END = ("bytes", "seconds", "seconds_paused", "predicted_pause")
FIRST = ("begin", "status")
"""A save's first event: in a file, or in what `watch --json` has printed."""

Event = dict[str, Any]


def events_in(text: bytes) -> Optional[list[Event]]:
    """Lines of JSON (docs/control.md), of which the last one may still be being written; None if these are none."""
    lines = [_event(x) for x in text.splitlines() if x.strip()]
    if lines and lines[-1] is None and not text.endswith(b"\n"):
        del lines[-1]
    events = [x for x in lines if x is not None]
    return events if events and len(events) == len(lines) else None


def report_of(events: list[Event], guest: Optional[str] = None) -> dict[str, Any]:
    """Of the last save in them, or the last one of a guest, by id or name. The save may have ended otherwise than well,
    or not yet. What an event says of a pass is not checked. Raises UsageError if there is no pass to be drawn."""
    last = _last_save(events, guest)
    report: dict[str, Any] = {"passes": [x for x in last if x["event"] == "pass"]}
    for event in last:
        report.update({x: event[x] for x in ("domid", "live") if x in event})
        if event["event"] == "end":
            report.update({x: event[x] for x in OF_THE_END if event.get(x) is not None})
    if not report["passes"]:
        raise UsageError(_no_pass(last, others=len(events) > len(last)))
    return report


def _last_save(events: list[Event], guest: Optional[str]) -> list[Event]:
    """Its events alone, whatever other saves tell meanwhile."""
    own = [x for x in events if "domid" in x and (guest is None or guest in (str(x["domid"]), x.get("guest")))]
    if not own:
        raise UsageError("there is no save in it" if guest is None else f"there is no save of guest {guest!r} in it")
    begun = [x for x in own if x["event"] in FIRST]
    chosen = _save_of(begun[-1] if begun else own[-1])
    all_of_it = [x for x in own if _save_of(x) == chosen]
    starts = [i for i, x in enumerate(all_of_it) if x["event"] in FIRST]
    return all_of_it[starts[-1] if starts else 0 :]


def _save_of(event: Event) -> tuple[object, object]:
    return event["domid"], event.get("pid")


def _no_pass(last: list[Event], others: bool) -> str:
    ended = last[-1]["event"] == "end"
    text = f"the last save in it, of domain {last[0]['domid']}, " + (
        "ended before its first pass was over" if ended else "has not come to the end of its first pass"
    )
    return f"{text}; --guest chooses the last one of another guest" if others else text


def _event(line: bytes) -> Optional[Event]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(event, dict) and isinstance(event.get("event"), str) and "pyxcsr" in event
    return event if is_one else None
