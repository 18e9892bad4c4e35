"""Pages put aside in a file, where their input is a pipe and cannot be read again."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Callable, Union

from pyxcsr.errors import OutputError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.image.pagemap import CHUNK, chunk_of

STEP = 256
"""Pages that are read and written together at most."""

ZERO = bytes(PAGE_SIZE)


def put(fd: int, data: Union[bytes, bytearray, memoryview], offset: int) -> None:
    """Writes all of ``data`` at ``offset``. Raises OutputError, with the offset, where it cannot."""
    view = memoryview(data)
    while view:
        try:
            done = os.pwrite(fd, view, offset)
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", None) or errno.EFBIG
            text = f"cannot write: {os.strerror(number)}"
            raise OutputError(text, errno=number, offset=offset) from error
        view, offset = view[done:], offset + done


class _Kept:
    """Pages kept in a file. ``end``: where the last of them ends, and the file should, too."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.end = 0

    def _place(self, pfn: int) -> int:
        raise NotImplementedError

    def take(self, pfns: Sequence[int], read: Callable[[int], memoryview]) -> Sequence[int]:
        """See ``taking.Keep``. What is zero and beyond all that was written before is left as a hole."""
        places = [self._place(pfn) for pfn in pfns]
        at = 0
        while at < len(places):
            count = _together(places, at)
            self._put(read(count * PAGE_SIZE), places[at])
            at += count
        return places

    def _put(self, data: memoryview, place: int) -> None:
        if place < self.end:
            put(self._fd, data, place)
        else:
            put_sparsely(self._fd, data, place)
        self.end = max(self.end, place + len(data))


class Spool(_Kept):
    """A file of pages in the order in which their pfns came first; one that comes again takes its old place.

    So it needs no more room than the guest has memory, however long the stream is. It remembers eight bytes a pfn.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._numbers: dict[int, array[int]] = {}  # in chunks, of each pfn the page's number in the file, from 1 on
        self._nr_pages = 0

    def forget(self, pfns: Sequence[int]) -> None:
        """Their places stay theirs."""

    def _place(self, pfn: int) -> int:
        chunk, at = chunk_of(self._numbers, pfn // CHUNK), pfn % CHUNK
        if not chunk[at]:
            self._nr_pages += 1
            chunk[at] = self._nr_pages
        return (chunk[at] - 1) * PAGE_SIZE


class InPlace(_Kept):
    """A file in which each page stands where its pfn says, so that it is a raw image once the stream has been read."""

    def forget(self, pfns: Sequence[int]) -> None:
        """What was written of them is wiped."""
        for pfn in pfns:
            put(self._fd, ZERO, pfn * PAGE_SIZE)

    def _place(self, pfn: int) -> int:
        return pfn * PAGE_SIZE


def put_sparsely(fd: int, data: Union[bytes, memoryview], offset: int) -> None:
    """Writes pages where nothing was written yet: those of zeros become holes."""
    view, start = memoryview(data), 0
    for at in _zero_pages(view):
        if at > start:
            put(fd, view[start:at], offset + start)
        start = at + PAGE_SIZE
    if start < len(view):
        put(fd, view[start:], offset + start)


def _zero_pages(view: memoryview) -> Iterator[int]:
    """Where in ``view`` pages of zeros begin. Only those that begin with a zero are looked at wholly."""
    heads = bytes(view[::PAGE_SIZE])
    number = heads.find(0)
    while number >= 0:
        at = number * PAGE_SIZE
        if bytes(view[at : at + PAGE_SIZE]) == ZERO:
            yield at
        number = heads.find(0, number + 1)


def _together(places: Sequence[int], at: int) -> int:
    """How many places from the one at ``at`` on follow one another."""
    count = 1
    while count < STEP and at + count < len(places) and places[at + count] == places[at] + count * PAGE_SIZE:
        count += 1
    return count
