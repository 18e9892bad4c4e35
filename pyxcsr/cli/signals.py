"""SIGINT, SIGQUIT, SIGTERM and SIGHUP as a wish to cancel, so that a save ends in good order.

One that was ignored when the program began stays so: nohup, or a shell's background job, means it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Optional

from pyxcsr.errors import Cancelled

Handler = Callable[[int, Optional[FrameType]], object]

SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _handled(signals: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """By ``handler`` while this lasts, but for those that are ignored."""
    before = {x: signal.signal(x, handler) for x in signals if signal.getsignal(x) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


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
        with _handled(SIGNALS, self._note):
            try:
                yield self
            except Cancelled as error:
                if self.number:
                    error.learn(signal=self.number)
                raise


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGQUIT, SIGTERM and SIGHUP end the program as an exception does: with its half-written file removed."""

    def end(number: int, frame: Optional[FrameType]) -> None:
        sys.exit(128 + number)

    with _handled((signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP), end):
        yield
