"""A save's report, as far as it can be had from its events: what `pyxcsr plot` draws of them."""

from __future__ import annotations

import json
from typing import Any, Optional

OF_THE_END = ("bytes", "seconds", "seconds_paused", "predicted_pause")


def report_of(text: bytes) -> Optional[dict[str, Any]]:
    """From lines of JSON (docs/control.md), of the last save in them; None if these are none. The save may have ended
    otherwise than well, or not yet. What an event says of a pass is not checked."""
    lines = [_event(x) for x in text.splitlines() if x.strip()]
    if lines and lines[-1] is None and not text.endswith(b"\n"):
        del lines[-1]  # it is being written
    events = [x for x in lines if x is not None]
    if not events or len(events) < len(lines):
        return None
    begun = [i for i, x in enumerate(events) if x["event"] == "begin"]
    last = events[begun[-1] if begun else 0 :]
    report: dict[str, Any] = {"passes": [x for x in last if x["event"] == "pass"]}
    for event in last:
        report.update({x: event[x] for x in ("domid", "live") if x in event})
        if event["event"] == "end":
            report.update({x: event[x] for x in OF_THE_END if event.get(x) is not None})
    return report


def _event(line: bytes) -> Optional[dict[str, Any]]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(event, dict) and isinstance(event.get("event"), str) and "pyxcsr" in event
    return event if is_one else None
