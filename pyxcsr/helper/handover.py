"""Leaving the work to Xen's own helper, where the environment asks for it."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.helper.protocol import XTL_ERROR, Channel, ChannelClosed
from pyxcsr.helper.stderr import complain
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SAVE = "PYXCSR_SAVE"
RESTORE = "PYXCSR_RESTORE"
"""The environment variables that say who saves and who restores: "pyxcsr" (the default) or "stock"."""


def is_asked_for(environ: Mapping[str, str], variable: str) -> bool:
    """Whether Xen's own helper is to do it."""
    return environ.get(variable) == "stock"


def check_choice(environ: Mapping[str, str], variable: str) -> None:
    """Raises UsageError if the variable says anything but who is known."""
    choice = environ.get(variable) or "pyxcsr"
    if choice not in ("pyxcsr", "stock"):
        raise UsageError(f"{variable} is {choice!r}, not pyxcsr or stock")


def hand_over(words: list[str], environ: Mapping[str, str], program: str) -> int:
    """Becomes Xen's own helper. Returns only on failure, with the exit status.

    The failure goes to stderr and to libxl: a log message, then ``complete``.
    """
    from pyxcsr.helper.stock import StockHelperError, become_stock_helper

    try:
        become_stock_helper(words, environ, program)
    except StockHelperError as error:
        complain(str(error))
        channel = Channel.take_over_stdio(cbflags=0)
        try:
            channel.log(XTL_ERROR, str(error), errno=error.errno)
            channel.complete(-1, error.errno)
        except ChannelClosed as closed:
            complain(str(closed))
            return 1
        return 0
