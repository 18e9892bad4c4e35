"""The file descriptor of what a caller gives as output or input."""

from __future__ import annotations

import errno
import io
import os

from pyxcsr.arguments import check_no_path
from pyxcsr.errors import InputError, OutputError, UsageError
from pyxcsr.plain import TYPE_CHECKING, Protocol
from pyxcsr.plain_contexts import contextmanager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    if _is_read_ahead(in_):
        os.lseek(fd, in_.tell(), os.SEEK_SET)  # type: ignore[union-attr]
    return fd


@contextmanager
def read_by_others(in_: Stream) -> Iterator[None]:
    """While others read from the same input: an object that reads ahead goes on where the stream is, and the stream
    where that has come to, if the input can be set to a place."""
    if not _is_read_ahead(in_):
        yield
        return
    fd = in_.fileno()  # type: ignore[union-attr]
    in_.seek(os.lseek(fd, 0, os.SEEK_CUR))  # type: ignore[union-attr]
    yield
    os.lseek(fd, in_.tell(), os.SEEK_SET)  # type: ignore[union-attr]


def _is_read_ahead(in_: Stream) -> bool:
    return isinstance(in_, (io.BufferedReader, io.BufferedRandom)) and in_.seekable()


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
            f"a stream is {use.what} a file descriptor, past the {use.method}() of {_named(stream)}, which does more "
            f"than that: {use.instead}; or give fileno(), if its descriptor is what you mean"
        )
    return fd


def _is_direct(stream: Any, method: str) -> bool:
    """Whether what the object itself would write, or read, are the bytes that go through its descriptor.

    Of a compressed file, or a TLS connection, they are not. So an object that has such a method must be one of
    Python's plain files; one that has none, as a socket, means nothing but its descriptor.
    """
    if isinstance(stream, io.TextIOWrapper):
        return _is_direct(stream.buffer, method)
    if isinstance(stream, (io.BufferedWriter, io.BufferedReader, io.BufferedRandom)):
        return _is_direct(stream.raw, method)
    if isinstance(stream, io.FileIO) or type(stream).__module__ == "tempfile":
        return True
    socket = getattr(stream, "_sock", None)  # of what its makefile() returns
    if socket is not None and isinstance(stream, io.RawIOBase):
        return _is_direct(socket, method)
    return not hasattr(stream, method)


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
