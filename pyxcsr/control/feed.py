"""The events of one save, for those who want them: the watching clients, and a file."""

from __future__ import annotations

import os
import time

from pyxcsr.control import events
from pyxcsr.control.lock import program
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from pyxcsr.control.outlet import EventsFile
    from pyxcsr.control.server import Server
    from pyxcsr.control.steered import Steered
    from pyxcsr.report import Progress

TOLD = 0.5
"""Seconds between two lines about the same pass."""

MOST_WAITING = 256
"""Events that are kept while nothing may be done for anybody."""


class Feed:
    """Makes the events, and hands them on. Its caller catches what goes wrong with a client; a file that cannot be
    written any more is a warning in the save's report."""

    __slots__ = ("_bandwidth", "_began", "_facts", "_passes", "_save", "_told", "_waiting", "file", "server")

    def __init__(self, save: Steered, server: Optional[Server], file: Optional[EventsFile]) -> None:
        self._save, self.server, self.file = save, server, file
        self._bandwidth, self._began = events.Bandwidth(), time.monotonic()
        self._told: tuple[str, int, float] = ("", 0, 0.0)  # phase, iteration, and when
        self._passes = 0
        self._waiting: list[dict[str, Any]] = []
        report = save.report
        self._facts = {"domid": report.domid, "guest": save.guest_name(), "pid": os.getpid(), "program": program(),
                       "live": report.live}  # fmt: skip

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return self.file is not None or (self.server is not None and self.server.watched)

    # -- events

    def begin(self) -> None:
        """The save begins."""
        self._tell("begin", lambda: {**self._facts, **self._terms()})

    def progress(self, now: Progress) -> None:
        """Where the save stands: a line for each pass that is over and each change of phase, and two a second."""
        self._bandwidth.add(now.seconds, now.bytes_written)
        self._finished_passes()
        phase, iteration, at = self._told
        if (phase, iteration) == (now.phase, now.iteration) and now.seconds - at < TOLD:
            return
        self._told = (now.phase, now.iteration, now.seconds)
        self._tell("progress", lambda: {**self._facts, **events.of_progress(now, self._bandwidth.now)})

    def changed(self, kind: str) -> dict[str, Any]:
        """The save has been steered. Returns the event, for the one who did it."""
        told = events.event(kind, {**self._facts, "seconds": round(self._save.now().seconds, 6), **self._terms()})
        if self.wanted:
            self._waiting.append(told)
        return told

    def status(self) -> dict[str, Any]:
        """Who saves what, by which limits, and where it stands."""
        where = events.of_progress(self._save.now(), self._bandwidth.now)
        return events.event("status", {**self._facts, **self._terms(), **where})

    def end(self, error: Optional[BaseException]) -> dict[str, Any]:
        """The last event."""
        self._finished_passes()
        fields = events.of_end(self._save.report, error, self._save.complete, time.monotonic() - self._began)
        if error is not None:
            fields.update(backend=self._save.backend, guest_is=self._save.guest_is())
        return events.event("end", {**self._facts, **fields})

    def _finished_passes(self) -> None:
        passes = self._save.report.passes
        for done in passes[self._passes :]:
            self._tell("pass", lambda done=done: {**self._facts, **events.of_pass(done)})  # type: ignore[misc]
        self._passes = len(passes)

    def _terms(self) -> dict[str, Any]:
        return {"policy": self._save.report.policy, "limits": events.of_limits(self._save.limits)}

    def _tell(self, kind: str, fields: Callable[[], dict[str, Any]]) -> None:
        if self.wanted and len(self._waiting) < MOST_WAITING:
            self._waiting.append(events.event(kind, fields()))

    # -- out

    def flush(self) -> None:
        """Hands on what has come up, as far as it is taken."""
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            data = events.line(told)
            if self.server is not None:
                self.server.tell(data)
            if self.file is not None:
                self.file.outlet.put(data)
        self._flush_file()

    def last(self, told: dict[str, Any]) -> None:
        """The last event, and whatever waited."""
        self.flush()
        if self.file is not None:
            left_out = {"left_out": self.file.outlet.dropped} if self.file.outlet.dropped else {}
            self.file.outlet.put(events.line({**told, **left_out}), last=True)
            self._with_file(self._finish)

    def _finish(self, file: EventsFile) -> None:
        missing = file.finish()
        if missing:
            text = f"{missing} events were not written to {file.name}: it does not take them fast enough"
            self._save.report.warnings.append(text)

    def _flush_file(self) -> None:
        self._with_file(lambda file: file.outlet.flush())

    def _with_file(self, act: Callable[[EventsFile], None]) -> None:
        if self.file is None:
            return
        try:
            act(self.file)
        except OSError as problem:
            text = f"events cannot be written to {self.file.name} any more: {problem.strerror}"
            self._save.report.warnings.append(text)
            self.file.close()
            self.file = None
