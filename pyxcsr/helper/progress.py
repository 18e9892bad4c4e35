"""Which of save()'s and restore()'s progress reports are worth a message to libxl."""

from __future__ import annotations

import time

from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Callable, Optional


class ProgressLike(Protocol):
    """The fields of pyxcsr.report.Progress that are shown."""

    @property
    def phase(self) -> str: ...

    @property
    def iteration(self) -> int: ...

    @property
    def pages_done(self) -> int: ...

    @property
    def pages_total(self) -> int: ...


SECONDS_BETWEEN = 0.1
"""xl prints a line for each percentage; more than ten a second help nobody."""


class ProgressThrottle:
    """A progress callback for save(): sends the start and the end of each pass, and ten a second between.

    Of the suspended pass it sends only those between: xl, woken up to print, would keep the guest waiting.

    ``send(doing_what, done, total)`` is Channel.progress.
    """

    def __init__(
        self, send: Callable[[str, int, int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._sent: Optional[tuple[str, int]] = None
        self._sent_at = 0.0
        self._pass: Optional[tuple[str, int]] = None

    def __call__(self, progress: ProgressLike) -> None:
        """Takes one report. Raises what ``send`` raises."""
        what = _text(progress)
        if what is None:
            return
        this_pass = (progress.phase, progress.iteration)
        ends = 0 < progress.pages_total <= progress.pages_done
        now = self._clock()
        state = (what, progress.pages_done)
        if self._sent == state:
            return
        final = progress.phase == "final"
        if (final or (this_pass == self._pass and not ends)) and now - self._sent_at < SECONDS_BETWEEN:
            return
        self._pass = this_pass
        self._sent = state
        self._sent_at = now
        self._send(what, progress.pages_done, progress.pages_total)


class RestoreProgress:
    """A progress callback for restore(): pages restored, ten messages a second at most and one at the end.

    How many pages will come is not known, a live stream may bring one several times; ``max_pages``, what the domain
    may own, stands for it.
    """

    def __init__(
        self,
        send: Callable[[str, int, int], None],
        max_pages: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._total = max_pages
        self._clock = clock
        self._sent = -1
        self._sent_at = clock() - SECONDS_BETWEEN

    def __call__(self, progress: ProgressLike) -> None:
        """Takes one report. Raises what ``send`` raises."""
        now, done = self._clock(), progress.pages_done
        if done == self._sent or (progress.phase == "pass" and now - self._sent_at < SECONDS_BETWEEN):
            return
        self._sent, self._sent_at = done, now
        self._send("restoring", done, self._total)


def _text(progress: ProgressLike) -> Optional[str]:
    if progress.phase == "pass":
        return f"live pass {progress.iteration}"
    if progress.phase == "final":
        return "pass with the guest suspended"
    return None  # setup, suspend, tail and done have no pages to count
