"""What `xl migrate` and the programs of both ends print, and what can be told from it.

xl's own messages are fixed texts. Those of the other end come over the link among them, and may be anything: what is
read here decides how a failure is worded, and when a cancel is too late, but never where the guest is said to run.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Optional

from pyxcsr.migrate.facts import plain
from pyxcsr.migrate.packing import Figures
from pyxcsr.migrate.relay import CARRIED, NAME

KEPT = 200
LONGEST = 4000

PROGRESS = re.compile(r": *\d+/\d+ +\d+%")
ERROR = re.compile(
    r"(\w[\w-]*): error: |migration (target|receiver).*(failed|Failure|unexpected)|pyxcsr-relay: |[Ss]sh: |"
    r"Permission denied"
)
LINK_GONE = ("Broken pipe", "Connection reset by peer")

LINK = ("migration receiver stream", "migration stream")
"""What xl calls the link, in each message about a failure of it."""
BEGUN = "Saving to migration stream"
RECEIVED = "migration sender: Target has acknowledged transfer"
GIVEN = "migration sender: Giving target permission to start"
SAVE_FAILED = ("libxl: error: libxl_stream_write", "saving domain: ")
TARGET_FAILED = re.compile(r"migration target: .*failed|migration sender: Target reports startup failure")
UNPACKING, PACKING = f"{NAME}: unpack: ", f"{NAME}: pack: "


class Transcript:
    """The last lines, and the stages that have been passed. ``started``: xl has started the command that is the link,
    and not failed before, over the guest's configuration for example."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT)
        self.started = self.begun = self.received = self.target_failed = False
        self.save_error: Optional[str] = None
        self.relay_errors: list[str] = []
        self.figures: Optional[Figures] = None
        self._rest = ""

    def take(self, data: bytes) -> str:
        """Takes what was printed. Returns what may be shown of it: whole lines, a carriage return where one was."""
        text = self._rest + data.decode("utf-8", "replace")
        parts = re.split(r"(?<=[\r\n])", text)
        self._rest = parts.pop()
        if len(self._rest) > LONGEST:
            parts.append(self._rest + "\n")
            self._rest = ""
        return "".join(self._line(x) for x in parts)

    def end(self) -> str:
        """What was left of a line."""
        return self.take(b"\n") if self._rest else ""

    def _line(self, text: str) -> str:
        line = plain(text.rstrip("\r\n").expandtabs())
        if line.startswith(CARRIED):
            self.figures = _figures(line[len(CARRIED) :]) or self.figures
            return ""
        self._note_stage(line)
        if line and not PROGRESS.search(line):
            self.lines.append(line[:LONGEST])
            self._note(line[:LONGEST])
        return line + ("\r" if text.endswith("\r") else "\n")

    def _note_stage(self, line: str) -> None:
        """Wherever it stands in the line: others print to the same place, and leave lines of progress without an end.
        A stage that is missed is dangerous, because a cancel would end the wrong process."""
        self.started = self.started or any(x in line for x in LINK)
        self.begun = self.begun or BEGUN in line
        self.received = self.received or RECEIVED in line or GIVEN in line

    def _note(self, line: str) -> None:
        self.target_failed = self.target_failed or bool(TARGET_FAILED.match(line))
        if all(x in line for x in SAVE_FAILED):
            self.save_error = line.rpartition(": ")[2].strip()
        if line.startswith((UNPACKING, PACKING)) and len(self.relay_errors) < KEPT:
            self.relay_errors.append(line)

    @property
    def errors(self) -> list[str]:
        """The lines that speak of errors, each once; all lines, if xl has failed before it had anything to do."""
        return list(dict.fromkeys(x for x in self.lines if not self.started or ERROR.search(x)))


def _figures(text: str) -> Optional[Figures]:
    found = re.fullmatch(r"(\d{1,18}) (\d{1,18})((?: \d{1,9}\.\d{3}){3})", text, re.ASCII)
    if found is None:
        return None
    figures = Figures()
    figures.nr_in, figures.nr_out = int(found[1]), int(found[2])
    figures.zstd_seconds, figures.link_seconds, figures.source_seconds = map(float, found[3].split())
    return figures
