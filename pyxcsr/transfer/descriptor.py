"""The file descriptor of what a caller gives as output or input."""

from __future__ import annotations

import errno
from typing import Any, Protocol, Union

from pyxcsr.errors import NotSupported, OutputError


class HasFileno(Protocol):
    """An open file, pipe or socket object."""

    def fileno(self) -> int:
        """Its descriptor."""


Stream = Union[int, HasFileno]
"""A descriptor, or an object that has one."""


def output_descriptor(out: Stream) -> int:
    """The descriptor to write to. What Python still has buffered for it is written first.

    Raises OutputError if that fails, NotSupported for an object without a descriptor.
    """
    if isinstance(out, int):
        return out
    flush: Any = getattr(out, "flush", None)
    try:
        if flush is not None:
            flush()
    except OSError as error:
        raise OutputError(f"cannot write the stream: {error}", errno=error.errno or 0, offset=0) from error
    except ValueError as error:  # a closed file
        raise OutputError(f"cannot write the stream: {error}", errno=errno.EBADF, offset=0) from error
    return _descriptor(out, "written to")


def input_descriptor(in_: Stream) -> int:
    """The descriptor to read from. Raises NotSupported for an object without one."""
    return in_ if isinstance(in_, int) else _descriptor(in_, "read from")


def _descriptor(stream: HasFileno, what: str) -> int:
    try:
        return int(stream.fileno())
    except (AttributeError, TypeError, OSError) as error:
        raise NotSupported(f"a stream is {what} a file descriptor; {type(stream).__name__} has none") from error
