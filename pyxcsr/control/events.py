"""What a save tells: from its reports to lines of JSON. docs/control.md has every field, docs/control.schema.json, too.

json is loaded with the first line that somebody wants.
"""

from __future__ import annotations

import time

from pyxcsr.errors import notes_on
from pyxcsr.limits.limits import Limits
from pyxcsr.limits.words import BY_NAME
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Optional

    from pyxcsr.report import PassReport, Progress, SaveReport

VERSION = 1
"""Of the lines' schema, in each line. A new field does not change it; one that means something else does."""

WINDOW = 3.0
"""Seconds over which the present bandwidth is taken."""

_WHERE = ("phase", "iteration", "pages_done", "pages_total", "bytes_written", "dirty_count")
_MEASURED = ("dirty_rate", "predicted_pause", "p2m_follows", "p2m_resent", "throttled")
_ENDED = ("bytes", "seconds", "seconds_suspending", "seconds_paused", "predicted_pause", "stopped", "policy",
          "max_downtime", "downtime_kept", "target_dirty", "target_reached", "dirty_left", "pages",
          "nr_pfns", "warnings")  # fmt: skip


def event(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """One event, of now."""
    return {"pyxcsr": VERSION, "event": kind, "time": round(time.time(), 3), **fields}


def line(told: Mapping[str, Any]) -> bytes:
    """An event as a line."""
    import json

    return json.dumps(told, allow_nan=False, default=str).encode() + b"\n"


def of_progress(now: Progress, bandwidth: Optional[float]) -> dict[str, Any]:
    """Where the save stands. ``bandwidth``: of late; if it is not known, that of the last pass is told."""
    fields = {x: getattr(now, x) for x in (*_WHERE, *_MEASURED)}
    fields["seconds"], fields["remaining"] = round(now.seconds, 6), now.remaining
    fields["bandwidth"] = now.bandwidth if bandwidth is None else bandwidth
    return fields


def of_pass(done: PassReport) -> dict[str, Any]:
    """A pass that is over: the fields of a pyxcsr.PassReport."""
    return dict(vars(done))


def of_limits(limits: Limits) -> dict[str, Any]:
    """All limits, None for those that there are not."""
    names = (x for x in BY_NAME if x in Limits.__slots__)
    return {x: getattr(limits, x) for x in names} | {"suspend_now": limits.suspend_now}


def of_end(report: SaveReport, error: Optional[BaseException], complete: bool, seconds: float) -> dict[str, Any]:
    """How it ended, and if it succeeded the figures of its report. ``complete``: whether the stream is; ``seconds``:
    since it began, of a save that has none in its report because it did not come so far."""
    fields: dict[str, Any] = {
        "stream_complete": complete or error is None, "seconds": report.seconds or round(seconds, 6), "notes": [],
    }  # fmt: skip
    if error is None:
        return {**fields, "result": "done", **{x: getattr(report, x) for x in _ENDED}}
    cancelled = type(error).__name__ == "Cancelled"
    fields["notes"] = notes_on(error)
    return {**fields, "result": "cancelled" if cancelled else "failed", "error": type(error).__name__,
            "message": str(error)}  # fmt: skip


class Bandwidth:
    """Bytes a second of late, from counts that come in now and then."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def add(self, seconds: float, nr_bytes: int) -> None:
        """The count at that time. At most some ten a second are kept, and only the last few seconds'."""
        samples = self._samples
        if samples and seconds - samples[-1][0] < 0.1:
            return
        samples.append((seconds, nr_bytes))
        while len(samples) > 2 and samples[1][0] <= seconds - WINDOW:
            samples.pop(0)

    @property
    def now(self) -> Optional[float]:
        """None: not known yet."""
        if len(self._samples) < 2:
            return None
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        return (after - before) / (last - first)
