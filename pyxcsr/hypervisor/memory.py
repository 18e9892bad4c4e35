"""A domain's frames through libxenctrl: mapped, copied, written; a PV guest's p2m. Part of the backend."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.core import Child, Core
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence
    from typing import Any, Callable, Optional

    from pyxcsr.hypervisor.interface import P2mHandle


class Mapping(Child):
    """Frames of a guest, mapped until closed."""

    over = "these frames are not mapped any more"

    def __init__(self, backend: Core, at: Any, nr: int) -> None:
        super().__init__(backend, at)
        self._nr = nr

    def __enter__(self) -> Mapping:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_word(self, offset: int, width: int) -> None:
        if width not in (4, 8) or offset % width or not 0 <= offset < self._nr * PAGE_SIZE:
            raise UsageError(f"offset {offset} is not one of a word of {width} bytes in {self._nr} frames")

    def comparing(self, words: Sequence[tuple[int, int, int]]) -> Callable[[], bool]:
        for offset, width, _ in words:
            self._check_word(offset, width)
        made, lib = self._backend._ffi.new("xcsr_word[]", list(words)), self._backend._lib
        return lambda: bool(lib.xcsr_words_stay(self._live(), len(made), made))

    def load(self, offset: int, width: int) -> int:
        self._check_word(offset, width)
        at = self._backend._ffi.cast("char *", self._live()) + offset
        return int(self._backend._lib.xcsr_load64(at) if width == 8 else self._backend._lib.xcsr_load32(at))

    def copy(self) -> bytes:
        return bytes(self._backend._ffi.buffer(self._live(), self._nr * PAGE_SIZE))

    def _free(self, cdata: Any) -> None:
        self._backend._call(self._backend._lib.xcsr_unmap, cdata, self._nr)


class P2m(Child):
    """A guest's p2m, mapped until closed."""

    over = "this p2m is not mapped any more"

    def __init__(self, backend: Core, cdata: Any, nr_pfns: int, nr_leaves: int, domid: int) -> None:
        super().__init__(backend, cdata, domid=domid)
        self.nr_pfns, self._nr_leaves = nr_pfns, nr_leaves

    def leaf_pfns(self) -> Sequence[int]:
        from pyxcsr.plain_array import array

        out = array("Q", [0]) * self._nr_leaves
        into = self._backend._ffi.from_buffer("uint64_t[]", out, require_writable=True)
        self._call(self._backend._lib.xcsr_p2m_leaf_pfns, into)
        return out

    def leaves_stay(self) -> bool:
        return bool(self._number(self._backend._lib.xcsr_p2m_leaves_stay, "uint32_t *"))

    def check_leaves(self) -> None:
        self._call(self._backend._lib.xcsr_p2m_check_leaves)

    def entry(self, pfn: int) -> int:
        return int(self._backend._lib.xcsr_p2m_entry(self._live(), pfn))

    def pfn_of(self, mfn: int) -> Optional[int]:
        out = self._backend._ffi.new("uint64_t *")
        rc = self._backend._lib.xcsr_p2m_pfn_of(self._live(), mfn, out)
        return int(out[0]) if rc == 0 else None

    def swap(self, other: P2mHandle) -> None:
        if not isinstance(other, P2m) or other._backend is not self._backend:
            raise UsageError("this p2m belongs to another hypervisor handle")
        self._call(self._backend._lib.xcsr_p2m_swap, other._live())
        self.nr_pfns, other.nr_pfns = other.nr_pfns, self.nr_pfns
        self._nr_leaves, other._nr_leaves = other._nr_leaves, self._nr_leaves

    def _free(self, cdata: Any) -> None:
        self._backend._lib.xcsr_p2m_unmap(cdata)


class MemoryCalls(Core):
    """See :class:`pyxcsr.hypervisor.interface.Memory` for the contract."""

    def nr_mfns(self) -> int:
        return self._number(self._lib.xcsr_nr_mfns, "uint64_t *")

    def m2p(self, mfn: int) -> int:
        return self._number(self._lib.xcsr_m2p_get, "uint64_t *", mfn)

    def map_frames(self, domid: int, mfns: Sequence[int]) -> Mapping:
        out = self._ffi.new("void **")
        self._call(self._lib.xcsr_map, domid, len(mfns), self._frames(mfns), out, domid=domid)
        return Mapping(self, out[0], len(mfns))

    def read_frames(self, domid: int, mfns: Sequence[int]) -> bytes:
        out = bytearray(len(mfns) * PAGE_SIZE)
        into = self._ffi.from_buffer("char[]", out, require_writable=True)
        self._call(self._lib.xcsr_read_frames, domid, len(mfns), self._frames(mfns), into, domid=domid)
        return bytes(out)

    def nr_distinct(self, mfns: Sequence[int]) -> int:
        return self._number(self._lib.xcsr_nr_distinct, "uint64_t *", len(mfns), self._frames(mfns))

    def pte_frames(self, entries: array[int], nr_mfns: int, level: int) -> tuple[array[int], int]:
        from pyxcsr.plain_array import array

        mfns = array("Q", [0]) * len(entries)
        into = self._ffi.from_buffer("uint64_t[]", mfns, require_writable=True)
        return mfns, int(self._lib.xcsr_pte_frames(len(entries), self._frames(entries), nr_mfns, level, into))

    def map_p2m(self, domid: int, nr_pfns: int, leaf_mfns: Sequence[int], width: int = 8) -> P2m:
        out = self._ffi.new("xcsr_p2m **")
        leaves = self._frames(leaf_mfns)
        self._call(self._lib.xcsr_p2m_map, domid, width, nr_pfns, len(leaf_mfns), leaves, out, domid=domid)
        return P2m(self, out[0], nr_pfns, len(leaf_mfns), domid)

    def _p2m(self, p2m: P2mHandle) -> Any:
        if not isinstance(p2m, P2m) or p2m._backend is not self:
            raise UsageError("this p2m belongs to another hypervisor handle")
        return p2m._live()

    def write_frame(self, domid: int, mfn: int, offset: int, data: bytes) -> None:
        self._call(self._lib.xcsr_write_frame, domid, mfn, offset, data, len(data), domid=domid, mfn=mfn)

    def clear_frames(self, domid: int, frames: Sequence[int]) -> None:
        self._call(self._lib.xcsr_clear_frames, domid, len(frames), self._frames(frames), domid=domid)
