"""Progress while a command works: what it does, how far it is, how fast now, and whether it is held up.

Nothing here can fail, or wait: a line that standard error does not take at once is not shown.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Callable, Optional

from pyxcsr.cli import say
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.report import Progress

MIB = 1 << 20
WINDOW = 3.0
"""Seconds that the current rate is taken over."""

STALLED = 2.0
"""Seconds without a byte after which the work counts as stalled."""

REDRAWN = 0.2
"""Seconds between two pictures of a line at least."""

COLUMNS = 80
"""Where a terminal does not tell its width."""


class Rate:
    """How fast bytes have been moving lately, and for how long they have not."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._moved: Optional[float] = None

    def add(self, now: float, nr_bytes: int) -> None:
        """``nr_bytes``: the count at the time ``now``. What is older than the window is forgotten."""
        if not self._samples or self._samples[-1][1] != nr_bytes:
            self._moved = now
        self._samples.append((now, nr_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()

    @property
    def bytes_per_second(self) -> float:
        """Over the last few seconds."""
        if not self._samples:
            return 0.0
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        return (after - before) / (last - first) if last > first else 0.0

    def idle(self, now: float) -> float:
        """Seconds since the last byte."""
        return 0.0 if self._moved is None else now - self._moved


Describe = Callable[[Progress], Sequence[str]]
"""What is being done, from the longest wording to the shortest."""


class ProgressLine:
    """Progress on a stream: on a terminal one line, rewritten in place; elsewhere a line for each pass and phase.

    ``describe``: the words for it; ``held_up``: what a stall is called.
    """

    def __init__(self, out: Any, describe: Describe, held_up: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._describe, self._held_up, self._clock = out, describe, held_up, clock
        self._terminal = bool(out.isatty())
        self._began = self._drawn = clock()
        self._rate, self._width = Rate(), 0
        self._now: Optional[Progress] = None
        self._told_stall = False

    def __call__(self, now: Progress) -> None:
        """Takes a report of save() or restore()."""
        last, self._now = self._now, now
        at = self._clock()
        self._rate.add(at, now.bytes_written)
        other = last is not None and (last.phase, last.iteration) != (now.phase, now.iteration)
        if self._terminal:
            if last is None or other or at - self._drawn >= REDRAWN or now.pages_done >= now.pages_total:
                self._draw(at)
        elif last is not None and other:
            say.attempt(self._out, self._texts(last, at)[0] + "\n", 0)

    def tick(self) -> None:
        """To be called every now and then while nothing may have happened."""
        at = self._clock()
        if self._now is None or at - self._drawn < REDRAWN:
            return
        self._rate.add(at, self._now.bytes_written)
        if self._terminal:
            self._draw(at)
        elif self._rate.idle(at) >= STALLED and not self._told_stall:
            self._told_stall = say.attempt(self._out, self._texts(self._now, at)[0] + "\n", 0)

    def done(self) -> None:
        """Wipes the line."""
        if self._width:
            self._write(" " * min(self._width, self._columns()) + "\r")
            self._width = 0

    def _texts(self, now: Progress, at: float) -> list[str]:
        elapsed = _clock_text(at - self._began)
        idle = self._rate.idle(at)
        if idle >= STALLED and now.phase not in ("suspend", "done"):
            speed = f"{self._held_up} for {idle:.0f} s"
        else:
            speed = f"{self._rate.bytes_per_second / MIB:.0f} MiB/s"
            self._told_stall = False
        size = f"{now.bytes_written / MIB:.0f} MiB"
        what = self._describe(now)
        return [f"{x}, {size}, {speed}, {elapsed}" for x in what] + [f"{what[-1]}, {speed}", what[-1]]

    def _draw(self, at: float) -> None:
        """The longest wording that fits into the terminal as wide as it is now."""
        self._drawn = at
        room = self._columns()
        assert self._now is not None
        texts = self._texts(self._now, at)
        text = next((x for x in texts if len(x) <= room), texts[-1][:room])
        if self._write(text.ljust(min(self._width, room))):
            self._width = len(text)

    def _write(self, text: str) -> bool:
        return say.attempt(self._out, "\r" + text, 0)

    def _columns(self) -> int:
        """Those that can be written to without the cursor going to the next line."""
        try:
            columns = os.get_terminal_size(self._out.fileno()).columns
        except (AttributeError, OSError, ValueError):
            columns = 0
        return max((columns or COLUMNS) - 1, 1)


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def of_save(now: Progress) -> Sequence[str]:
    """What a save does."""
    if now.phase not in ("pass", "final", "verify"):
        return (f"{now.phase} ...",)
    done = 100 * now.pages_done // now.pages_total if now.pages_total else 100
    where = "running" if now.phase == "pass" else "paused"
    if now.throttled:
        where = f"throttled {100 * now.throttled:.0f}%"
    return (
        f"pass {now.iteration} (guest {where}): {done:3d}% of {now.pages_total} pages",
        f"pass {now.iteration} ({where}): {done:3d}%",
        f"pass {now.iteration}: {done:3d}%",
    )


def of_restore(total: Optional[int]) -> Describe:
    """What a restore does; ``total``: the input's size in bytes where it is a file."""

    def describe(now: Progress) -> Sequence[str]:
        if now.phase == "tail":
            return ("completing the domain: page tables and vcpus", "completing the domain", "completing")
        if now.phase == "done":
            return ("restored",)
        if not total:
            return (f"restoring: {now.pages_done} pages", "restoring")
        done = min(100, 100 * now.bytes_written // total)
        return (
            f"restoring: {done:3d}% of {total / MIB:.0f} MiB, {now.pages_done * PAGE_SIZE // MIB} MiB of memory",
            f"restoring: {done:3d}% of {total / MIB:.0f} MiB",
            f"restoring: {done:3d}%",
        )

    return describe


def of_reading(name: str, total: Optional[int]) -> Describe:
    """What a command that only reads does."""

    def describe(now: Progress) -> Sequence[str]:
        share = f": {min(100, 100 * now.bytes_written // total):3d}% of {total / MIB:.0f} MiB" if total else ""
        return (f"reading {name}{share}", f"reading{share}", "reading")

    return describe


def progress_line(wanted: Optional[bool], describe: Describe, held_up: str) -> Optional[ProgressLine]:
    """A progress line on standard error if it is wanted, or (None) if that is a terminal."""
    if sys.stderr is None:  # closed by whoever started us
        return None
    show = sys.stderr.isatty() if wanted is None else wanted
    return ProgressLine(sys.stderr, describe, held_up) if show else None


def left(fd: int) -> Optional[int]:
    """The bytes that are left of a file to be read; None for a pipe or device, of which nobody knows."""
    facts = os.fstat(fd)
    return facts.st_size - os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(facts.st_mode) else None


class Ticking:
    """A ``cancel`` for save() and restore(), by which the line goes on while the other side is waited for."""

    def __init__(self, cancel: Callable[[], bool], line: Optional[ProgressLine]) -> None:
        self._cancel, self._line = cancel, line

    def __call__(self) -> bool:
        if self._line is not None:
            self._line.tick()
        return self._cancel()
