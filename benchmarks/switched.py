"""Savers whose output is /dev/null until the guest is suspended, and a guest that dirties pages just before."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from typing import Any, Callable, Optional

from benchmarks import sinks
from benchmarks.guests import pages_of
from benchmarks.savers import Marks, Ours, Theirs
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.saving import Sink
from pyxcsr.hypervisor.stub.panel import StubError

WORD = bytes(8)


class _SwitchedSink(Sink):
    """A sink that can be changed for another one."""

    def __init__(self, backend: Any, first: int, then: int) -> None:
        super().__init__(backend, first)
        self._other: Optional[Sink] = Sink(backend, then)

    def switch(self) -> None:
        """Changes from the first output to the second."""
        assert self._other is not None
        self._cdata, self._other._cdata = self._other._cdata, self._cdata

    def close(self) -> None:
        other, self._other = self._other, None
        if other:
            other.close()
        super().close()


class _SwitchedHypervisor:
    """The hypervisor, with such a sink as its output."""

    def __init__(self, hv: Any, then: int) -> None:
        self._hv, self._then = hv, then
        self.sink: Optional[_SwitchedSink] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hv, name)

    def open_sink(self, fd: int) -> _SwitchedSink:
        """The saver's output."""
        self.sink = _SwitchedSink(self._hv, fd, self._then)
        return self.sink


class SwitchedOurs(Ours):
    """pyxcsr.save, written to /dev/null until the guest is suspended."""

    def switched(self, fd: int, before: Callable[[], None]) -> Marks:
        """One live pass to /dev/null; ``before``; the rest to ``fd``."""
        hv, switched = self.hv, _SwitchedHypervisor(self.hv, fd)

        def switch() -> None:
            before()
            assert switched.sink is not None
            switched.sink.switch()

        self.hv = switched
        try:
            with sinks.null() as null:
                return self.save(null, live=True, before=switch)
        finally:
            self.hv = hv


class SwitchedTheirs(Theirs):
    """The same with xc_domain_save, whose descriptor is replaced by another (dup2)."""

    def switched(self, fd: int, before: Callable[[], None]) -> Marks:
        """As SwitchedOurs.switched."""
        with sinks.null() as null:

            def switch() -> None:
                before()
                os.dup2(fd, null)

            return self.save(null, live=True, before=switch)


def first_data(size: str) -> int:
    """A pfn beyond the tables of a packed guest."""
    return pages_of(size) * 3 // 512 + 128


def anywhere(guest: Any, size: str, count: int, run: int = 1) -> list[int]:
    """The pfns of ``count`` data pages of a guest, in runs of ``run``; the same ones each time, in order."""
    rng, last = random.Random(count), pages_of(size)
    chosen: set[int] = set()
    while len(chosen) < count:
        pfn = rng.randrange(first_data(size), last) // run * run
        pfns = range(pfn, pfn + run)
        if pfn >= first_data(size) and pfn + run <= last and all(_is_data(guest, x) for x in {pfns[0], pfns[-1]}):
            chosen.update(pfns)
    return sorted(chosen)[:count]


def _is_data(guest: Any, pfn: int) -> bool:
    try:
        return bool(guest.types([pfn]) == [PageType.NOTAB])
    except StubError as error:
        assert error.facts["errno"] == errno.ENOENT  # ballooned out
        return False


class Dirtier:
    """Writes to pages of a guest."""

    def __init__(self, guest: Any, pages: Sequence[int]) -> None:
        self._guest, self._pages = guest, pages

    def __call__(self) -> None:
        for pfn in self._pages:
            self._guest.write_page(pfn, WORD)
