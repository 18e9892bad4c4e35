"""From an exception to what libxl is told about it: a text and an errno."""

from __future__ import annotations

import errno

from pyxcsr import errors

_ERRNO_BY_CLASS: tuple[tuple[type[BaseException], int], ...] = (
    (errors.UsageError, errno.EINVAL),
    (errors.NotSupported, errno.EOPNOTSUPP),
    (errors.BackendUnavailable, errno.ENODEV),
    (errors.Cancelled, errno.ECANCELED),
    (errors.DomainDying, errno.ESRCH),
    (errors.SuspendTimeout, errno.ETIMEDOUT),
    (errors.P2mChanged, errno.EAGAIN),  # the guest may well be saved the next time
    (errors.GuestStateError, errno.ERANGE),
    (MemoryError, errno.ENOMEM),
)
"""For errors without an errno of their own; the first class that fits counts."""


def errno_of(error: BaseException) -> int:
    """The positive error number that xl shows: the error's own, or a fitting one, or EIO."""
    if isinstance(error, errors.XcsrError):
        own = error.facts.get("errno")
        if isinstance(own, int) and own > 0:
            return own
    for kind, number in _ERRNO_BY_CLASS:
        if isinstance(error, kind):
            return number
    return errno.EIO


def is_expected(error: BaseException) -> bool:
    """True for the errors raised on purpose; anything else is a bug of ours, and its traceback is wanted."""
    return isinstance(error, (errors.XcsrError, MemoryError))


def text_of(error: BaseException) -> str:
    """One line for the log. Bugs name their type, as their text alone may be as little as a dict's key."""
    if isinstance(error, errors.XcsrError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"unexpected {type(error).__name__}: {error} (a bug in pyxcsr; the traceback is on stderr)"


def notes_of(error: BaseException) -> list[str]:
    """What else went wrong (errors.note). Before Python 3.11 most of that is in an error's own text."""
    return list(getattr(error, "__notes__", ()))
