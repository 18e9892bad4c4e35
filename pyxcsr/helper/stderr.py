"""stderr, for what libxl's messages cannot carry; it is xl's own stderr."""

from __future__ import annotations

import os

STDERR = 2


def complain(text: str) -> None:
    """Writes a line to stderr, past sys.stderr, which may be None (and print() would then use stdout)."""
    try:
        os.write(STDERR, f"pyxcsr-save-helper: {text}\n".encode("utf-8", "replace"))
    except OSError:
        return  # closed, or a full disk: nobody is left to tell, and the exit status says failure


def occupy_stderr() -> None:
    """Where fd 2 is closed, opens /dev/null there, so that nothing opened later is taken for stderr."""
    import fcntl

    try:
        fcntl.fcntl(STDERR, fcntl.F_GETFD)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != STDERR:
            os.dup2(null, STDERR)
            os.close(null)


def print_traceback(error: BaseException) -> None:
    """Writes the traceback of a bug to stderr."""
    import traceback

    complain("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())
