"""Where a stream goes: standard output, or a file that has its name only once it is complete."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Optional, Union

from pyxcsr.cli import checksum as sums
from pyxcsr.cli import say
from pyxcsr.errors import Cancelled, OutputError, UsageError
from pyxcsr.stream.format import IMAGE_HEADER

Cancel = Optional[Callable[[], bool]]

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""What link() answers on file systems that have no hard links: FAT, some network file systems."""

NAME_MAX = 255
"""Bytes of a file's name, on every file system that Linux has a guest's image on."""

FIFO_POLL = 0.05
"""Seconds between two looks whether a FIFO has got a reader."""


def _failed(path: Union[Path, str], what: str, error: OSError) -> OutputError:
    return OutputError(f"{path}: {what}: {error.strerror}", errno=error.errno or 0, offset=0)


def is_standard_output(name: str) -> bool:
    """True for -, and for a path that leads to the same place: nothing else may be printed there."""
    if name == "-":
        return True
    try:
        return sys.stdout is not None and os.path.samestat(os.stat(name), os.fstat(1))
    except OSError:
        return False


def is_synced(name: str) -> bool:
    """Whether a stream written to ``name`` is on a disk when ``stream_output`` ends: a file or a block device."""
    try:
        mode = (os.fstat(1) if is_standard_output(name) else os.stat(name)).st_mode
    except OSError:
        return name != "-"  # a file yet to be made
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def is_input(name: str, fd: int) -> bool:
    """Whether a stream written to ``name``, or to standard output, goes to the file or block device that is read from
    ``fd``."""
    try:
        there, here = os.fstat(1) if is_standard_output(name) else os.stat(name), os.fstat(fd)
    except OSError:  # a file yet to be made; or one that cannot be asked, which is said by who opens it
        return False
    device = stat.S_ISBLK(there.st_mode) and stat.S_ISBLK(here.st_mode) and there.st_rdev == here.st_rdev
    return device or (stat.S_ISREG(there.st_mode) and os.path.samestat(there, here))


@contextmanager
def stream_output(name: str, force: bool, cancel: Cancel = None, checksum: bool = False) -> Iterator[int]:
    """A descriptor for the stream; on success the file gets its name, on failure nothing of it is left.

    ``name``: a path, or - for standard output. ``force``: an existing file may be replaced. ``cancel``: polled while
    a FIFO has no reader. ``checksum``: a checksum file is put beside it; regular files only. The file is readable by
    its owner only: it holds a guest's memory.
    """
    if not name:
        raise UsageError("the name of the file is empty")
    if checksum:
        sums.load()  # said before a guest is touched
    standard = is_standard_output(name)
    special = not standard and os.path.exists(name) and not os.path.isfile(name)
    if checksum and (standard or special):
        raise UsageError(f"{name}: --checksum needs a file to put the checksum beside")
    if standard:
        fd = _standard_output()
        with _unmistakable(fd, "standard output"):
            yield fd
            _sync(fd, "standard output")
        return
    if special:
        yield from _special(Path(name), cancel)
        return
    path = sums.real(name)  # a symbolic link is kept, and the file it names is made
    if os.path.exists(path) and not force:
        raise UsageError(f"{path} exists; --force replaces it")
    if len(os.fsencode(path.name)) > NAME_MAX:
        raise UsageError(f"{path.name}: this name is too long for a file: it has more than {NAME_MAX} bytes")
    if checksum and len(os.fsencode(sums.beside(path).name)) > NAME_MAX:
        raise UsageError(f"{path}: its name is too long for that of a checksum file beside it")
    partial = _partial(path)
    fd = _create(partial, path)
    try:
        yield fd
        _keep(fd, partial, path, force, checksum)
    finally:
        _close(fd)
        _remove(partial)


def _partial(path: Path) -> Path:
    """The name of the file until it is complete. It is no longer than a name may be, however long ``path``'s is."""
    tail = os.fsencode(f".{os.getpid()}.partial")
    room = NAME_MAX - len(tail) - len(sums.SUFFIX) - 1
    return path.with_name(os.fsdecode(b"." + os.fsencode(path.name)[:room] + tail))


def _close(fd: int) -> None:
    """Closes a descriptor whose content is on the disk by now, or given up: an error here tells nothing about it."""
    with suppress(OSError):
        os.close(fd)


def _remove(partial: Path) -> None:
    """Removes what has its real name by now, or never will. If that fails it is told, but undoes nothing."""
    try:
        partial.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        say.note(f"{partial} is left behind, it cannot be removed: {error.strerror}")


def _standard_output() -> int:
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    if os.isatty(1):
        raise UsageError("a stream is binary and standard output is a terminal; redirect it, or name a file")
    sys.stdout.flush()
    return 1


def _special(path: Path, cancel: Cancel) -> Iterator[int]:
    """A device or FIFO: it is written to as it is."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory")
    try:
        fd = _open_fifo(path, cancel) if path.is_fifo() else _open_device(path)
    except OSError as error:
        raise _failed(path, "cannot be opened", error) from error
    try:
        with _unmistakable(fd, path):
            yield fd
            _sync(fd, path)
    finally:
        _close(fd)


@contextmanager
def _unmistakable(fd: int, name: Union[Path, str]) -> Iterator[None]:
    """On a failure: what was begun over something older must not be taken for a stream with the older one's end."""
    start = _position(fd)
    try:
        yield
    except BaseException:
        if start is not None and start < (_position(fd) or 0) < os.lseek(fd, 0, os.SEEK_END):
            try:
                os.pwrite(fd, bytes(IMAGE_HEADER.size), start)
                os.fsync(fd)
            except OSError as error:
                say.note(f"{name} begins like a stream, but is none: it could not be marked: {error.strerror}")
        raise


def _position(fd: int) -> Optional[int]:
    """Where a descriptor of a file or a block device stands; None for anything else."""
    mode = os.fstat(fd).st_mode
    return os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(mode) or stat.S_ISBLK(mode) else None


def _open_fifo(path: Path, cancel: Cancel) -> int:
    """Opens it once it has a reader; a plain open would wait for one without looking at ``cancel``."""
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.set_blocking(fd, True)  # for a program that it is given to, as any pipe of a shell's is
            return fd
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if cancel is not None and cancel():
            raise Cancelled(f"cancelled while nobody was reading {path}")
        time.sleep(FIFO_POLL)


def _open_device(path: Path) -> int:
    """A block device is refused if it is in use here: a file system on it would be lost. Of a guest that has it as its
    disk the kernel does not tell: see disks.py."""
    exclusive = os.O_EXCL if path.is_block_device() else 0
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | exclusive)
    except OSError as error:
        if error.errno == errno.EBUSY and exclusive:
            raise UsageError(f"{path} is in use: it is mounted, or swapped to, or part of a volume") from error
        raise


def _sync(fd: int, name: Union[Path, str]) -> None:
    """Waits until a stream is on the disk, where it goes to one: the guest may be destroyed next."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        return
    try:
        os.fsync(fd)
    except OSError as error:
        raise _failed(name, "the stream could not be made durable", error) from error


def _create(partial: Path, path: Path) -> int:
    try:
        return os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise _failed(partial, "cannot be created", error) from error
    except OSError as error:  # the user knows the file by the name that it is to have
        raise _failed(path, "cannot be created", error) from error


def _keep(fd: int, partial: Path, path: Path, force: bool, checksum: bool) -> None:
    """Gives a complete stream its name, once it is on the disk, and its checksum with it."""
    _sync(fd, path)
    try:
        with _checksum(fd, partial, path, force, checksum):
            if force:
                partial.replace(path)
            else:
                _name(partial, path)
    except FileExistsError as error:
        raise _failed(path, "has come into being meanwhile; --force replaces it", error) from error
    except OSError as error:
        raise _failed(path, "the stream could not be given its name", error) from error
    try:
        _sync_folder(path.parent)
    except OSError as error:
        if not force:
            path.unlink()
            sums.forget(path)
        raise _failed(path, "the stream could not be made durable", error) from error


@contextmanager
def _checksum(fd: int, partial: Path, path: Path, force: bool, wanted: bool) -> Iterator[None]:
    """The checksum file is ready before the stream gets its name, and one of an older stream is gone by then.

    Should it not get its own name, the stream loses its again: the save has failed.
    """
    ready = sums.beside(partial)
    try:
        if wanted:
            _write_checksum(ready, sums.line(fd, path))
        sums.forget(path)
        yield
        if wanted:
            _name_checksum(ready, path, force)
    finally:
        _remove(ready)


def _name_checksum(ready: Path, path: Path, force: bool) -> None:
    try:
        ready.replace(sums.beside(path))
    except OSError:
        if not force:  # else there would be neither the older stream nor this one
            path.unlink()
        raise


def _write_checksum(ready: Path, text: bytes) -> None:
    fd = _create(ready, ready)
    try:
        os.write(fd, text)
        os.fsync(fd)
    finally:
        os.close(fd)


def _name(partial: Path, path: Path) -> None:
    """Gives the file its name, and unlike a rename never replaces another."""
    try:
        os.link(partial, path)
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))  # the name is ours
    try:
        partial.replace(path)
    except BaseException:
        path.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system on which folders cannot be synced
            raise
    finally:
        os.close(fd)
