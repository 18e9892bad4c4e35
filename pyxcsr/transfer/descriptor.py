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

    Raises OutputError if that fails, UsageError for what has no descriptor, or would not have it written to directly.
    """
    fd = _descriptor(out, _WRITTEN)
    flush_output(out, 0)
    return fd


def flush_output(out: Stream, offset: int) -> None:
    """Writes what Python has buffered for an output that is written to directly, too. ``offset``: of the stream's next
    byte, for the error. Raises OutputError."""
    flush: Any = getattr(out, "flush", None)
    try:
        if flush is not None:
            flush()
    except OSError as error:
        raise OutputError(f"cannot write the stream: {error}", errno=error.errno or 0, offset=offset) from error
    except ValueError as error:
        raise OutputError(f"cannot write the stream: {error}", errno=errno.EBADF, offset=offset) from error


def input_descriptor(in_: Stream) -> int:
    """The descriptor to read from, which stands where Python's own reading of it has come to, if it can be set.

    (Of a pipe, what Python has read ahead is lost to others: give the pipe before reading from it in Python.)
    Raises InputError for a closed file, UsageError for what has no descriptor.
    """
    fd = _descriptor(in_, _READ)
    file = _read_ahead(in_)
    if file is not None:
        os.lseek(fd, file.tell(), os.SEEK_SET)
    return fd


def hand_over(in_: Stream) -> None:
    """Others read from the same input: an object that reads ahead goes on where the stream is, if it can be set to a
    place. Raises OSError, and ValueError for one that is closed."""
    file = _read_ahead(in_)
    if file is not None:
        at = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        file.seek(0, os.SEEK_END)  # else a seek to what was read ahead would leave the descriptor where it is
        file.seek(at)


def take_back(in_: Stream) -> None:
    """The stream goes on where others have come to. Raises like :func:`hand_over`."""
    file = _read_ahead(in_)
    if file is not None:
        os.lseek(file.fileno(), file.tell(), os.SEEK_SET)


def _read_ahead(in_: Stream) -> Optional[Any]:
    """The file that reads ahead for this object, if it can be set to a place."""
    file: Any = in_
    while (inner := _inner(file)) is not None and not isinstance(file, (io.BufferedReader, io.BufferedRandom)):
        file = inner
    return file if isinstance(file, (io.BufferedReader, io.BufferedRandom)) and file.seekable() else None


class _Use:
    """What is done with a descriptor, for texts. ``method``: with which an object does the same in its own way."""

    __slots__ = ("closed", "in_memory", "instead", "method", "to_open", "what")

    def __init__(self, what: str, method: str, to_open: str, in_memory: str, instead: str, closed: type) -> None:
        self.what, self.method, self.to_open, self.in_memory = what, method, to_open, in_memory
        self.instead, self.closed = instead, closed


_WRITTEN = _Use(
    "written to",
    "write",
    'open(PATH, "wb")',
    "to have the stream in memory, save into a tempfile.TemporaryFile() and read that",
    'to have the stream compressed, give compress="zstd"; to have a program take it, the stdin of a subprocess.Popen()',
    OutputError,
)

_READ = _Use(
    "read from",
    "read",
    'open(PATH, "rb")',
    "write bytes from memory into a tempfile.TemporaryFile(), and seek(0) in that",
    "give the stdout of a subprocess.Popen() with a program that unpacks the stream",
    InputError,
)


def _descriptor(stream: Any, use: _Use) -> int:
    check_no_path(stream, use.what, use.to_open)
    if isinstance(stream, int):
        return _checked(stream, use.what)
    try:
        fd = _checked(stream.fileno(), use.what)
    except (AttributeError, TypeError, OSError) as error:  # UnsupportedOperation of a BytesIO is an OSError
        _refuse(stream, use, error)
    except ValueError as error:
        verb = "write" if use is _WRITTEN else "read"
        raise use.closed(f"cannot {verb} the stream: {error}", errno=errno.EBADF, offset=0) from error
    if not _is_direct(stream, use.method):
        raise UsageError(
            f"a stream is {use.what} a file descriptor, past the {use.method}() of {_named(stream)}, which may do "
            f"more than that: {use.instead}; or give fileno(), if its descriptor is what you mean"
        )
    return fd


def _is_direct(stream: Any, method: str) -> bool:
    """Whether what the object itself would write, or read, are the bytes that go through its descriptor.

    Of a compressed file, or a TLS connection, they are not. So an object that has such a method must be one of
    Python's plain files, and its class must not have a method of its own for it; one that has none, as a socket, means
    nothing but its descriptor.
    """
    inner = _inner(stream)
    if isinstance(stream, io.IOBase) and _overrides(stream, method):
        return False
    if inner is not None:
        return _is_direct(inner, method)
    return isinstance(stream, io.FileIO) or not hasattr(stream, method)


def _inner(stream: Any) -> Optional[Any]:
    """What an object of Python's own reads from and writes to in the end, if it only passes on what it is given."""
    if isinstance(stream, io.TextIOWrapper):
        return stream.buffer
    if isinstance(stream, (io.BufferedWriter, io.BufferedReader, io.BufferedRandom)):
        return stream.raw
    kind = type(stream)
    return getattr(stream, _PASSED_ON.get((kind.__module__, kind.__name__), ""), None)


_PASSED_ON = {
    ("tempfile", "_TemporaryFileWrapper"): "file",
    ("tempfile", "SpooledTemporaryFile"): "_file",
    ("os", "_wrap_close"): "_stream",
    ("socket", "SocketIO"): "_sock",
    ("socketserver", "_SocketWriter"): "_sock",
}
"""Classes of the standard library, and where each has the object that it passes everything on to."""


def _overrides(stream: object, method: str) -> bool:
    """Whether a class that is derived from one of Python's files has this method, or one like it, of its own."""
    for kind in type(stream).__mro__:
        if kind.__module__ in ("io", "_io", "socket", "socketserver", "tempfile"):
            return False
        if any(x in vars(kind) for x in (method, f"{method}into", f"{method}lines")):
            return True
    return False


def _named(stream: object) -> str:
    kind = type(stream)
    return kind.__name__ if kind.__module__ in ("builtins", "io", "_io") else f"{kind.__module__}.{kind.__name__}"


def _checked(fd: object, what: str) -> int:
    if isinstance(fd, bool) or not isinstance(fd, int) or fd < 0:
        raise UsageError(f"a stream is {what} a file descriptor, and {fd!r} is none")
    return fd


def _refuse(stream: object, use: _Use, error: Exception) -> NoReturn:
    raise UsageError(
        f"a stream is {use.what} a file descriptor, or an object with fileno(), and {type(stream).__name__} has none; "
        f"{use.in_memory}"
    ) from error
