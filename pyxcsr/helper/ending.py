"""The last thing that libxl hears of a save or a restore, and the exit status that goes with it."""

from __future__ import annotations

from pyxcsr.errors import Cancelled
from pyxcsr.helper.protocol import XTL_ERROR, XTL_WARN, ChannelClosed
from pyxcsr.helper.stderr import complain, print_traceback
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from pyxcsr.helper.abort import Abort
    from pyxcsr.helper.protocol import Channel

EXIT_REPORTED = 0
EXIT_UNREPORTED = 1
"""libxl takes any exit status but 0 as the helper's own failure: used only when it could not be told."""

if TYPE_CHECKING:
    Leave = Callable[[int], None]
    """Called with the exit status once libxl knows the result; the program's does not return."""


def stay(status: int) -> None:
    """The ``leave`` of a caller that goes on: everything is closed, and the status returned."""


def warn(channel: Channel, text: str) -> None:
    """A line for libxl's log; for stderr if libxl is gone."""
    try:
        channel.log(XTL_WARN, text)
    except ChannelClosed:
        complain(text)


def report_success(channel: Channel, what: str, log: str = "") -> int:
    """Tells libxl that all is well, and a line for its log. ``what`` has come about, for stderr if libxl is gone."""
    try:
        channel.complete(0, 0, log)
    except ChannelClosed as error:
        complain(f"{what}, but libxl cannot be told: {error}")
        return EXIT_UNREPORTED
    return EXIT_REPORTED


def report_failure(channel: Channel, abort: Abort, error: BaseException, hint: str = "") -> int:
    """Tells libxl of any exception. ``hint`` is added to its text."""
    from pyxcsr.helper.outcome import errno_of, is_expected, notes_of, text_of

    text = text_of(error) + hint
    if isinstance(error, Cancelled) and abort.cause is not None:
        text = f"{text} ({abort.cause})"
    text = "; ".join([text, *notes_of(error)])  # what is left for others to do, perhaps: nobody else would say it
    if not is_expected(error):
        print_traceback(error)
    number = errno_of(error)
    try:
        channel.log(XTL_ERROR, text, errno=number)
        channel.complete(-1, number)
    except ChannelClosed as closed:
        complain(f"{text}; libxl cannot be told: {closed}")
        return EXIT_UNREPORTED
    return EXIT_REPORTED
