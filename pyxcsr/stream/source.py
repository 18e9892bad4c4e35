"""Bytes of a stream, from a descriptor or a file object: in bounded steps, never more than asked for."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Optional, Union

from pyxcsr.arguments import check_no_path
from pyxcsr.errors import UsageError

READ_STEP = 8 << 20
"""Bytes allocated at most before any of them has arrived; an ordinary PAGE_DATA record fits in."""

SKIP_STEP = 1 << 18
"""Bytes read at once to pass over them, always into the same memory, so that it stays in a processor's cache."""

LOOKS = 50
"""Milliseconds between two calls of ``poll`` while something is waited for."""

Input = Union[int, BinaryIO, io.RawIOBase, io.BufferedIOBase]


class Source:
    """Counted reads. ``offset`` is the number of bytes read so far; the input need not be seekable.

    A file descriptor stays the caller's: it is not closed here, and nothing is read ahead from it but by ``peek``. It
    has to stay open: once it is closed, or its number is another file's, every use raises UsageError.
    """

    def __init__(self, file: Input) -> None:
        """Raises UsageError for what cannot be read from, like a path, or a file that is closed."""
        _check(file)
        self._known = _identity(file) if isinstance(file, int) else None
        self.offset = 0
        self._ahead = b""
        self._known_end: int | None = None
        self._scratch: bytearray | None = None
        self._file = io.FileIO(file, closefd=False) if isinstance(file, int) else file

    def read(self, wanted: int) -> memoryview:
        """``wanted`` bytes, or fewer where the input ends. Raises OSError, UsageError (nothing to wait on).

        A descriptor in non-blocking mode, as libvirt, ssh and asyncio hand down, is waited for like any other.
        """
        if wanted <= READ_STEP:
            whole = self._step(wanted)
            self.offset += len(whole)
            return memoryview(whole).toreadonly()
        pieces: list[bytearray] = []
        left = wanted
        while left:
            step = min(left, READ_STEP)
            piece = self._step(step)
            pieces.append(piece)
            left -= len(piece)
            if len(piece) < step:
                break
        self.offset += wanted - left
        return memoryview(b"".join(pieces))

    def peek(self, wanted: int) -> bytes:
        """The next ``wanted`` bytes, or fewer where the input ends; they stay to be read. For some few bytes."""
        if len(self._ahead) < wanted:
            self._ahead += self._step(wanted - len(self._ahead), fresh=True)
        return self._ahead[:wanted]

    def skip(self, wanted: int) -> int:
        """Passes over so many bytes; how many there were. Where the input can seek none is read. Raises OSError."""
        self.check_open()
        start = self.offset
        ahead = min(wanted, len(self._ahead))
        self._ahead = self._ahead[ahead:]
        self.offset += ahead + self._seek_over(wanted - ahead)
        while self.offset - start < wanted:
            got = self._read_over(wanted - (self.offset - start))
            if not got:
                break
            self.offset += got
        return self.offset - start

    def _seek_over(self, wanted: int) -> int:
        """Moves on in an input that can seek, by ``wanted`` bytes or up to its end as it is now; by how many.

        Where the end is, is asked again only where that seems to be passed: a file may have grown. Had it been cut off
        instead, then what is read next would not be there.
        """
        if wanted and self._known_end is None:
            self._known_end = _end_of(self._file)
        if not wanted or self._known_end is None:
            return 0
        at = self._file.seek(wanted, io.SEEK_CUR)
        if at <= self._known_end:
            return wanted
        self._known_end = _end_of(self._file)
        beyond = wanted if self._known_end is None else min(max(at - self._known_end, 0), wanted)
        self._file.seek(-beyond, io.SEEK_CUR)
        return wanted - beyond

    def _read_over(self, wanted: int) -> int:
        """Reads some of ``wanted`` bytes and forgets them; how many, 0 where the input ends."""
        if self._scratch is None:
            self._scratch = bytearray(SKIP_STEP)
        with memoryview(self._scratch) as view:
            return self._readinto(view[: min(wanted, SKIP_STEP)])

    def device_left(self) -> int | None:
        """How many bytes of a block device follow what has been read; None if the input is no such device."""
        try:
            fd = self._file.fileno()
            if not stat.S_ISBLK(os.fstat(fd).st_mode):
                return None
            at = self._file.tell() - len(self._ahead)
            end = os.lseek(fd, 0, os.SEEK_END)
            self._file.seek(at + len(self._ahead))
        except (AttributeError, io.UnsupportedOperation):
            return None
        return max(end - at, 0)

    def _wait(self) -> None:
        """Until there is something to read, the input has ended, or a read says what is wrong."""
        try:
            fd = self._file.fileno()
        except (AttributeError, io.UnsupportedOperation):
            raise UsageError(
                "the input gave nothing and has no descriptor that could be waited for: give a descriptor, or an "
                "object whose readinto() waits"
            ) from None
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll()

    def check_open(self) -> None:
        """Raises UsageError for a file that has been closed since, and a descriptor that is not what it was."""
        if self._known is None:
            check_not_closed(self._file)
        elif _identity(self._file.fileno()) != self._known:
            raise UsageError(f"descriptor {self._file.fileno()} was closed, and is another file's now")

    def _readinto(self, view: memoryview | bytearray) -> int:
        """At least one byte, or 0 at the input's end, however long it takes."""
        self.check_open()
        while True:
            try:
                got: int | None = self._file.readinto(view)  # type: ignore[union-attr]
            except BlockingIOError:
                got = None
            if got is not None:
                return got
            self._wait()

    def _step(self, wanted: int, *, fresh: bool = False) -> bytearray:
        buffer = bytearray(wanted)
        filled = 0
        if not fresh and self._ahead:
            filled = min(wanted, len(self._ahead))
            buffer[:filled] = self._ahead[:filled]
            self._ahead = self._ahead[filled:]
        elif wanted:
            filled = self._readinto(buffer)
            if filled in (0, wanted):
                del buffer[filled:]
                return buffer
        with memoryview(buffer) as view:
            while filled < wanted:
                got = self._readinto(view[filled:])
                if got == 0:
                    break
                filled += got
        del buffer[filled:]
        return buffer


def _end_of(file: Input) -> int | None:
    """Where an input ends, if it can be known at no cost and is what seek() counts by: of a file, or bytes in memory.

    Other objects are not asked: one that unpacks while it is read may have the descriptor of what is packed.
    """
    if type(file) is io.BytesIO:
        return file.getbuffer().nbytes
    raw = file.raw if type(file) is io.BufferedReader else file
    if not isinstance(raw, io.FileIO):
        return None
    status = os.fstat(raw.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _check(file: object) -> None:
    check_no_path(file, "read from", 'open(PATH, "rb")')
    if isinstance(file, bool) or not (isinstance(file, int) or callable(getattr(file, "readinto", None))):
        raise UsageError(
            f"a stream is read from a descriptor or a binary file object, and {file!r} is neither: give "
            'open(PATH, "rb"), or io.BytesIO(DATA) for bytes in memory'
        )
    if isinstance(file, int):
        check_descriptor(file)
        return
    check_not_closed(file)
    if _says_readable(file) is False:
        raise UsageError(f'{file!r} is not open for reading: give open(PATH, "rb")')


def _says_readable(file: object) -> object:
    """What it answers; None for one of a class of somebody's own that leaves the answer to io, whose word is False."""
    readable, kind = getattr(file, "readable", None), type(file)
    if getattr(kind, "readable", None) is io.RawIOBase.readable and kind.__module__ not in ("_io", "io"):
        return None
    return readable() if callable(readable) else None


def check_descriptor(fd: int) -> None:
    """Raises UsageError for what is no descriptor, or one that cannot be read from."""
    if fd < 0:
        raise UsageError(f"{fd} is no file descriptor")
    try:
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, OverflowError):
        raise UsageError(f"{fd} is no open file descriptor") from None
    if mode == os.O_WRONLY:
        raise UsageError(f"file descriptor {fd} is open for writing only")


def check_not_closed(file: object) -> None:
    """Raises UsageError for a file object that has been closed."""
    if getattr(file, "closed", False) is True:
        raise UsageError(f"the input is {file!r}, which has been closed: keep it open until all has been read")


def _identity(fd: int) -> tuple[int, int]:
    """What tells a descriptor's file from another one that has got the same number. Raises UsageError if it is none."""
    try:
        facts = os.fstat(fd)
    except OSError:
        raise UsageError(f"file descriptor {fd} has been closed: keep it open until all has been read") from None
    return facts.st_dev, facts.st_ino


GONE = "the working directory has been deleted: give an absolute path"


def _open(name: str, flags: int = 0) -> int:
    try:
        return os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | flags)
    except FileNotFoundError as error:
        if os.path.isabs(name) or not _folder_is_gone():
            raise
        raise FileNotFoundError(errno.ENOENT, GONE, name) from error


def _check_standard_input() -> None:
    """Raises OSError if it cannot be read from. What was closed may have been given another meaning since."""
    try:
        mode = fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        raise OSError(errno.EBADF, "it is closed", "-") from error
    if mode == os.O_WRONLY:
        raise OSError(errno.EBADF, "it is closed, or open for writing only", "-")


def _folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def wait_for_input(fd: int, poll: Callable[[], object]) -> None:
    """Until there is something to read, or nothing will come. ``poll``: called again and again; what it raises ends it.
    """
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    while not waiting.poll(LOOKS):
        poll()


def _open_fifo(name: str, poll: Callable[[], object]) -> int:
    """Waits until something has been written to it; a plain open would wait for a writer without calling ``poll``."""
    fd = _open(name, os.O_NONBLOCK)
    try:
        wait_for_input(fd, poll)
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_fifo(name: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except OSError:
        return False  # opening it says what is wrong


@contextmanager
def open_input(name: str, poll: Optional[Callable[[], object]] = None) -> Iterator[int]:
    """A file descriptor for a file's name, or standard input for ``-``; closed afterwards if opened here.

    ``poll``: called again and again while a fifo is waited for; what it raises ends the wait. Raises OSError, also for
    a directory, which can be opened but not read.
    """
    if name == "-":
        _check_standard_input()
        yield 0
        return
    fd = _open_fifo(name, poll) if poll is not None and _is_fifo(name) else _open(name)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        yield fd
    finally:
        os.close(fd)
