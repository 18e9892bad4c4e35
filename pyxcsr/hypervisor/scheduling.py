"""Weights and caps of domains through libxenctrl. Part of the backend."""

from __future__ import annotations

import errno

from pyxcsr.errors import HypervisorError, UsageError
from pyxcsr.hypervisor.core import Core
from pyxcsr.hypervisor.interface import SCHEDULER_NAMES, Share
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

WITH_CAPS = {"credit2": 6, "credit": 5}
"""The schedulers that have caps, in the order in which they are tried."""


class SchedulingCalls(Core):
    """See :class:`pyxcsr.hypervisor.interface.Scheduling` for the contract."""

    def scheduler(self) -> str:
        number = self._number(self._lib.xcsr_scheduler, "uint32_t *")
        return SCHEDULER_NAMES.get(number, f"unknown code {number}")

    def domain_share(self, domid: int) -> Optional[Share]:
        weight, cap = self._ffi.new("uint32_t *"), self._ffi.new("uint32_t *")
        for name, number in WITH_CAPS.items():
            try:
                self._call(self._lib.xcsr_sched_get, domid, number, weight, cap, domid=domid)
            except HypervisorError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
            else:
                return Share(name, int(weight[0]), int(cap[0]))
        return None

    def set_domain_cap(self, domid: int, scheduler: str, cap: int) -> None:
        if scheduler not in WITH_CAPS:
            raise UsageError(f"the scheduler {scheduler!r} has no caps; {' and '.join(WITH_CAPS)} have")
        self._call(self._lib.xcsr_sched_set_cap, domid, WITH_CAPS[scheduler], cap, domid=domid)
