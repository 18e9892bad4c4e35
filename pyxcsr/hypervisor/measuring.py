"""Measuring a domain's writes through libxenctrl. Part of the backend."""

from __future__ import annotations

from pyxcsr.hypervisor.core import Child
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pyxcsr.hypervisor.core import Core
    from pyxcsr.hypervisor.interface import How


class Meter(Child):
    """One measurement's state in C."""

    over = "this measurement is over"

    def __init__(self, backend: Core, cdata: Any, domid: int, nr_pfns: int) -> None:
        super().__init__(backend, cdata, domid=domid)
        self._nr_pfns = nr_pfns
        lib = backend._lib
        self.nr_sets = int(lib.XCSR_METER_SETS)
        self._how = {"copy": lib.XCSR_METER_COPY, "add": lib.XCSR_METER_ADD, "common": lib.XCSR_METER_COMMON}

    def begin(self) -> None:
        self._call(self._backend._lib.xcsr_meter_begin)

    def end(self) -> None:
        self._call(self._backend._lib.xcsr_meter_end)

    def leave(self) -> None:
        self._backend._lib.xcsr_meter_leave(self._live())

    def fetch(self) -> int:
        return self._number(self._backend._lib.xcsr_meter_fetch, "uint64_t *")

    def peek(self) -> int:
        return self._number(self._backend._lib.xcsr_meter_peek, "uint64_t *")

    def join(self, source: int, into: int, how: How = "add") -> int:
        return self._number(self._backend._lib.xcsr_meter_join, "uint64_t *", source, into, self._how[how])

    def clear(self, number: int) -> None:
        self._call(self._backend._lib.xcsr_meter_clear, number)

    def spread(self, number: int, per_range: int) -> list[int]:
        nr_ranges = -(-self._nr_pfns // per_range)
        counts = self._backend._ffi.new("uint64_t[]", nr_ranges)
        self._call(self._backend._lib.xcsr_meter_spread, number, per_range, nr_ranges, counts)
        return [int(x) for x in counts]

    def _free(self, cdata: Any) -> None:
        self._backend._lib.xcsr_meter_free(cdata)
