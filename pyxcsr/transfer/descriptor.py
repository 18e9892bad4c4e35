"""The file descriptor of what a caller gives as output or input."""

from __future__ import annotations

import errno
import io
import os

from pyxcsr.arguments import check_no_path
from pyxcsr.errors import InputError, OutputError, UsageError
from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, Optional, Union


class HasFileno(Protocol):
    """An open file, pipe or socket object."""

    def fileno(self) -> int:
        """Its descriptor."""


if TYPE_CHECKING:
    Stream = Union[int, HasFileno]
    """A descriptor, or an object that has one."""


class Through(HasFileno, Protocol):
    """An output that goes through a program; see pyxcsr/transfer/compressing.py, which is loaded only if it is used."""

    whole: bool
    finished: bool

    @property
    def out(self) -> int:
        """The descriptor that the program writes to."""

    def settle(self, poll: Callable[[], object]) -> float:
        """Waits until the program has worked off what it has, within bounds. Returns the seconds."""

    def finish(self, poll: Callable[[], object]) -> None:
        """Waits until the program has ended. Raises OutputError if it has failed."""


class Written:
    """Stands in for a sink that is closed, to tell what was written."""

    __slots__ = ("offset", "seconds_held")

    def __init__(self, offset: int, seconds_held: float) -> None:
        self.offset, self.seconds_held = offset, seconds_held


def through(out: Stream) -> Optional[Through]:
    """The same output if it is such a one."""
    return out if hasattr(out, "settle") else None  # type: ignore[return-value]


def output_descriptor(out: Stream) -> int:
    """The descriptor to write to. What Python still has buffered for it is written first.

    Raises OutputError if that fails, UsageError for what has no descriptor.
    """
    flush: Any = getattr(out, "flush", None)
    try:
        if flush is not None:
            flush()
    except OSError as error:
        raise OutputError(f"cannot write the stream: {error}", errno=error.errno or 0, offset=0) from error
    except ValueError as error:
        raise OutputError(f"cannot write the stream: {error}", errno=errno.EBADF, offset=0) from error
    return _descriptor(
        out,
        "written to",
        'open(PATH, "wb")',
        "to have the stream in memory, save into a tempfile.TemporaryFile() and read that",
        lambda text: OutputError(f"cannot write the stream: {text}", errno=errno.EBADF, offset=0),
    )


def input_descriptor(in_: Stream) -> int:
    """The descriptor to read from, which stands where Python's own reading of it has come to, if it can be set.

    (Of a pipe, what Python has read ahead is lost to others: give the pipe before reading from it in Python.)
    Raises InputError for a closed file, UsageError for what has no descriptor.
    """
    fd = _descriptor(
        in_,
        "read from",
        'open(PATH, "rb")',
        "write bytes from memory into a tempfile.TemporaryFile(), and seek(0) in that",
        lambda text: InputError(f"cannot read the stream: {text}", errno=errno.EBADF, offset=0),
    )
    if isinstance(in_, (io.BufferedReader, io.BufferedRandom)) and in_.seekable():
        os.lseek(fd, in_.tell(), os.SEEK_SET)
    return fd


def _descriptor(stream: Any, what: str, to_open: str, in_memory: str, closed: Any) -> int:
    check_no_path(stream, what, to_open)
    if isinstance(stream, int):
        return _checked(stream, what)
    try:
        return _checked(stream.fileno(), what)
    except (AttributeError, TypeError, OSError) as error:  # UnsupportedOperation of a BytesIO is an OSError
        _refuse(stream, what, in_memory, error)
    except ValueError as error:
        raise closed(str(error)) from error


def _checked(fd: object, what: str) -> int:
    if isinstance(fd, bool) or not isinstance(fd, int) or fd < 0:
        raise UsageError(f"a stream is {what} a file descriptor, and {fd!r} is none")
    return fd


def _refuse(stream: object, what: str, in_memory: str, error: Exception) -> NoReturn:
    raise UsageError(
        f"a stream is {what} a file descriptor, or an object with fileno(), and {type(stream).__name__} has none; "
        f"{in_memory}"
    ) from error
