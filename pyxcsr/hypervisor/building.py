"""Building a domain through libxenctrl: the stream's way in, and the domain's memory. Part of the backend."""

from __future__ import annotations

import errno

from pyxcsr.errors import IncompleteStream, InputError, UsageError
from pyxcsr.frames import INVALID_MFN
from pyxcsr.hypervisor.core import WAIT_MS, Child
from pyxcsr.hypervisor.faults import E_STREAM
from pyxcsr.hypervisor.interface import PageResult
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Optional

    from pyxcsr.hypervisor.core import Core
    from pyxcsr.hypervisor.interface import Again, SourceHandle


class Source(Child):
    """The stream's way in."""

    over = "this input has been closed"

    def __init__(self, backend: Core, fd: int) -> None:
        out, why = backend._ffi.new("xcsr_source **"), backend._ffi.new("xcsr_error *")
        if backend._lib.xcsr_source_open(fd, WAIT_MS, out, why):
            raise InputError(f"cannot read the stream: {backend._text(why.text)}", errno=why.err, offset=0)
        super().__init__(backend, out[0])

    @property
    def offset(self) -> int:
        return int(self._backend._lib.xcsr_source_offset(self._live()))

    def read(self, length: int, again: Again) -> bytes:
        lib, ffi, source = self._backend._lib, self._backend._ffi, self._live()
        out, before = bytearray(length), self.offset
        into = ffi.from_buffer("char[]", out, require_writable=True)
        rc = lib.xcsr_source_read(source, into, length)
        while rc == lib.XCSR_AGAIN:
            again()
            rc = lib.xcsr_source_read(source, into, length)
        if rc and rc != -errno.ENODATA:
            raise self._backend._exception(lib.xcsr_source_error(source), {"offset": self.offset})
        ffi.release(into)
        return bytes(out[: self.offset - before])

    def _free(self, cdata: Any) -> None:
        self._backend._lib.xcsr_source_close(cdata)


class Restore(Child):
    """One restore's state in C."""

    over = "this restore is over"

    def __init__(self, backend: Core, cdata: Any, domid: int) -> None:
        super().__init__(backend, cdata, domid=domid)
        self._result = backend._ffi.new("xcsr_page_result *")

    def grow(self, nr_pfns: int) -> None:
        self._call(self._backend._lib.xcsr_restore_grow, nr_pfns)

    def compare(self, on: bool) -> None:
        self._backend._lib.xcsr_restore_compare(self._live(), on)

    def pages(self, source: SourceHandle, length: int, again: Again, offset: int) -> PageResult:
        if not isinstance(source, Source) or source._backend is not self._backend:
            raise UsageError("this input belongs to another hypervisor handle")
        lib, out = self._backend._lib, self._result
        rc = lib.xcsr_restore_pages(self._live(), source._live(), length, out)
        while rc == lib.XCSR_AGAIN:
            again()
            rc = lib.xcsr_restore_pages(self._live(), source._live(), length, out)
        if rc:
            self._backend._check(rc, offset=offset, record="PAGE_DATA", **self._facts)
        return PageResult(
            out.nr_entries, out.nr_pages, out.nr_tables, out.nr_populated, out.nr_differing, out.first_differing
        )

    @property
    def nr_seen(self) -> int:
        return int(self._backend._lib.xcsr_restore_nr_pfns(self._live()))

    def mfn(self, pfn: int) -> Optional[int]:
        mfn = int(self._backend._lib.xcsr_restore_mfn(self._live(), pfn))
        return None if mfn == INVALID_MFN else mfn

    def type(self, pfn: int) -> int:
        return int(self._backend._lib.xcsr_restore_type(self._live(), pfn))

    def has_data(self, pfn: int) -> bool:
        return bool(self._backend._lib.xcsr_restore_has_data(self._live(), pfn))

    def check_tables(self, offset: int) -> None:
        missing = self._backend._ffi.new("uint64_t *")
        rc = self._backend._lib.xcsr_restore_check_tables(self._live(), missing)
        error = self._backend._lib.xcsr_error_of(self._backend._h)
        if rc == -errno.ENOENT and error.kind == E_STREAM:  # a call into Xen may say ENOENT, too
            raise IncompleteStream(
                f"the stream is incomplete: {self._backend._text(error.text)} ({missing[0]} such entries)",
                offset=offset,
                record="END",
                missing=int(missing[0]),
                table=error.pfn,
                level=error.level,
                index=error.index,
                pfn=error.mfn,
            )
        self._backend._check(rc, **self._facts)

    def clear_broken(self) -> tuple[int, int]:
        nr, first = self._backend._ffi.new("uint64_t *"), self._backend._ffi.new("uint64_t *")
        self._call(self._backend._lib.xcsr_restore_clear_broken, nr, first)
        return int(nr[0]), int(first[0])

    def context(self, vcpu: int, context: bytes, offset: int) -> bytes:
        out = bytearray(context)
        into = self._backend._ffi.from_buffer("char[]", out, require_writable=True)
        rc = self._backend._lib.xcsr_restore_context(self._live(), vcpu, into, len(out))
        self._backend._check(rc, offset=offset)
        return bytes(out)

    def cut(self, nr_pfns: int) -> None:
        self._call(self._backend._lib.xcsr_restore_cut, nr_pfns)

    def without_rows(self) -> None:
        """From now on memory is given for what a record names, and not ahead of a row."""
        self._call(self._backend._lib.xcsr_restore_without_rows)

    def give_back(self) -> int:
        return self._number(self._backend._lib.xcsr_restore_give_back, "uint64_t *")

    def give_unnamed(self) -> int:
        return self._number(self._backend._lib.xcsr_restore_give_unnamed, "uint64_t *")

    def make_room(self, pages: Iterable[Sequence[int]]) -> int:
        for entries in pages:
            data = self._backend._ffi.from_buffer("uint64_t[]", entries)
            self._call(self._backend._lib.xcsr_restore_foretell, data, len(entries))
        return self._number(self._backend._lib.xcsr_restore_make_room, "uint64_t *")

    def pin(self) -> int:
        return self._number(self._backend._lib.xcsr_restore_pin, "uint64_t *")

    def write_p2m(self, leaf_pfns: Sequence[int]) -> None:
        from pyxcsr.plain_array import array

        leaves = leaf_pfns if isinstance(leaf_pfns, array) else array("Q", leaf_pfns)
        data = self._backend._ffi.from_buffer("uint64_t[]", leaves)
        self._call(self._backend._lib.xcsr_restore_write_p2m, data, len(leaf_pfns))

    def _free(self, cdata: Any) -> None:
        self._backend._lib.xcsr_restore_free(cdata)
