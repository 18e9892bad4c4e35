"""How a save in progress is ended from outside: signals, or libxl going away."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import Callable, Optional
else:
    import _signal as signal  # the module round it loads enum

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
# SIGTERM is libxl's way to abort. SIGINT, SIGQUIT and SIGHUP come from the terminal: the helper is in xl's
# foreground process group, so Ctrl-C reaches both, xl dies of it without a word to us, and the default action
# would kill this process as well, with log-dirty mode left on in the guest's domain. Ignoring them would copy on
# until the pipe to xl is found closed; so they mean what SIGTERM means. One that was ignored at start (nohup)
# stays ignored.


class Abort:
    """The ``cancel`` callback of save(): true once a signal came or ``peer_gone()`` is true.

    Signals only set a flag. A message under way and the wait for libxl's answer are not cut short by it: an
    answer that nobody reads would be taken for the next one, and libxl, which aborts its own waiting for the
    guest, does answer.
    """

    def __init__(self, peer_gone: Callable[[], bool]) -> None:
        self._peer_gone = peer_gone
        self._signal: Optional[int] = None
        self._gone = False

    def catch_signals(self) -> None:
        """Installs the handlers (main thread only), and unblocks SIGTERM, which libxl may have blocked."""
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGTERM:
                signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def __call__(self) -> bool:
        """Whether to stop; cheap enough to be asked before every batch (two fds polled, no waiting)."""
        if self._signal is None and not self._gone:
            self._gone = self._peer_gone()
        return self._signal is not None or self._gone

    @property
    def cause(self) -> Optional[str]:
        """What ended it, for the log: "SIGTERM", "libxl is gone"; None if nothing did."""
        if self._signal is not None:
            from signal import Signals

            return Signals(self._signal).name
        return "libxl is gone" if self._gone else None

    def _on_signal(self, number: int, _frame: Optional[FrameType]) -> None:
        if self._signal is None:
            self._signal = number
