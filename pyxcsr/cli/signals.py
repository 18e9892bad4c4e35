"""SIGINT, SIGTERM and SIGHUP as a wish to cancel, so that a save ends in good order.

One that was ignored when the program began stays so: nohup, or a shell's background job, means it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

from pyxcsr.errors import Cancelled

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CancelBySignal:
    """True when called once one of the signals has come; ``number`` is the first of them."""

    def __init__(self) -> None:
        self.number: Optional[int] = None

    def __call__(self) -> bool:
        return self.number is not None

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        self.number = self.number or number

    @contextmanager
    def installed(self) -> Iterator[CancelBySignal]:
        """While this lasts the signals only set the wish. A Cancelled that comes of it is told which."""
        wanted = [x for x in SIGNALS if signal.getsignal(x) != signal.SIG_IGN]
        before = {x: signal.signal(x, self._note) for x in wanted}
        try:
            yield self
        except Cancelled as error:
            if self.number:
                error.learn(signal=self.number)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as an exception does: with its half-written file removed."""

    def end(number: int, frame: Optional[FrameType]) -> None:
        sys.exit(128 + number)

    wanted = [x for x in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(x) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
