"""A checksum of a whole stream, in a file beside it: ``xxhsum -c FILE.xxh128`` checks it, too.

It finds what storage or a copy has done to a stream, before a guest runs from it. It is no signature: whoever
may write the stream may write its checksum.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from pyxcsr.errors import ChecksumMismatch, UsageError
from pyxcsr.stream.source import GONE

SUFFIX = ".xxh128"
STEP = 4 << 20
LINE_LIMIT = 8192
"""Bytes of a checksum file that are looked at: a digest of 32 characters and a file's name."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """For commands that read a stream."""
    parser.add_argument(
        "--checksum",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="require FILE.xxh128 and compare with it, or ignore it (default: compare if it is there)",
    )


def load() -> Any:
    """The library. Raises UsageError where it is not installed."""
    try:
        return importlib.import_module("xxhash")
    except ImportError as error:
        raise UsageError(
            "checksums need the Python package xxhash, which is not installed: apt-get install python3-xxhash, "
            "or pip install 'pyxcsr[checksum]'"
        ) from error


def beside(path: Path) -> Path:
    """The checksum file of a stream's file."""
    return path.with_name(path.name + SUFFIX)


def real(name: str) -> Path:
    """The file that a name leads to. Raises UsageError where the name is relative to a folder that is gone."""
    try:
        return Path(os.path.realpath(name))
    except FileNotFoundError as error:
        raise UsageError(f"{name}: {GONE}") from error


def forget(path: Path) -> None:
    """Removes the checksum file of a stream's file, if there is one. Raises OSError."""
    try:
        beside(path).unlink()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise


def digest(fd: int, poll: Callable[[], object] = lambda: None) -> str:
    """The XXH3 checksum (128 bits, hexadecimal) of a file's whole content; its offset stays as it is.

    ``poll``: called again and again meanwhile.
    """
    state = load().xxh3_128()
    at = 0
    while piece := os.pread(fd, STEP, at):
        state.update(piece)
        at += len(piece)
        poll()
    return str(state.hexdigest())


def line(fd: int, path: Path) -> bytes:
    """The checksum file's content for the stream in ``fd`` that will be named ``path``."""
    return f"{digest(fd)}  ".encode() + os.fsencode(path.name) + b"\n"


def check(name: str, fd: int, wanted: Optional[bool], poll: Callable[[], object] = lambda: None) -> bool:
    """Compares an open stream with its checksum file; returns whether there was one to compare with.

    ``wanted``: True requires one, False ignores it, None compares if there is one. ``poll``: called again and again
    meanwhile. Raises ChecksumMismatch, and UsageError where there is none or it cannot be read, or where the library
    is missing.
    """
    if wanted is False:
        return False
    mode = os.fstat(fd).st_mode
    path = beside(real(name)) if name != "-" and (stat.S_ISREG(mode) or stat.S_ISBLK(mode)) else None
    if path is None or not os.path.exists(path):
        if wanted:
            raise UsageError(f"{name}: there is no checksum to compare with ({path or 'only a file has one'})")
        return False
    expected = _read(path)
    found = digest(fd, poll)
    if found != expected:
        raise ChecksumMismatch(
            f"{name}: its content has the checksum {found}, but was saved with {expected} ({path}): it was damaged "
            "or changed, or the checksum file is another stream's",
            expected=expected,
            found=found,
        )
    return True


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            first = file.read(LINE_LIMIT).split(b" ", 1)[0].decode("ascii", "replace").lower()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if len(first) != 32 or set(first) - set("0123456789abcdef"):
        raise UsageError(f"{path} is not a checksum file: it does not begin with 32 hexadecimal digits")
    return first
