"""Where a stream goes: standard output, or a file that has its name only once it is complete."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyxcsr.errors import OutputError, UsageError


def _failed(path: Path, what: str, error: OSError) -> OutputError:
    return OutputError(f"{path}: {what}: {error.strerror}", errno=error.errno or 0, offset=0)


@contextmanager
def stream_output(name: str, force: bool) -> Iterator[int]:
    """A descriptor for the stream; on success the file gets its name, on failure nothing of it is left.

    ``name``: a path, or - for standard output. ``force``: an existing file may be replaced. The file is readable
    by its owner only: it holds a guest's memory.
    """
    if name == "-":
        yield _standard_output()
        return
    path = Path(name)
    if path.exists() and not path.is_file():
        yield from _special(path)
        return
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force replaces it")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    fd = _create(partial)
    try:
        yield fd
        _keep(fd, partial, path, force)
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):
            partial.unlink()


def _standard_output() -> int:
    if os.isatty(1):
        raise UsageError("a stream is binary and standard output is a terminal; redirect it, or name a file")
    sys.stdout.flush()
    return 1


def _special(path: Path) -> Iterator[int]:
    """A device or FIFO: it is written to as it is."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, "cannot be opened", error) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _create(partial: Path) -> int:
    try:
        return os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failed(partial, "cannot be created", error) from error


def _keep(fd: int, partial: Path, path: Path, force: bool) -> None:
    """Gives a complete stream its name, once it is on the disk."""
    try:
        os.fsync(fd)
        if force:
            partial.replace(path)
        else:
            os.link(partial, path)  # unlike a rename, never replaces
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as error:
        raise UsageError(f"{path} has come into being meanwhile; --force replaces it") from error
    except OSError as error:
        raise _failed(path, "the stream could not be made durable", error) from error
