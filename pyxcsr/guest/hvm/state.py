"""An HVM guest's state besides its memory, as records: its TSC, Xen's own context, its parameters."""

from __future__ import annotations

from collections.abc import Iterator

from pyxcsr.hypervisor.interface import Hypervisor
from pyxcsr.stream.hvm_params import SENT
from pyxcsr.stream.records import HvmContext, HvmParams, Record, TscInfo


def state_records(hv: Hypervisor, domid: int) -> Iterator[Record]:
    """The records, in the order in which libxenguest writes them; parameters that are zero are left out."""
    tsc = hv.domain_tsc(domid)
    yield TscInfo(tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation)
    yield HvmContext(hv.hvm_context(domid))
    params = [(index, value) for index in SENT for value in (hv.hvm_param(domid, index),) if value]
    if params:
        yield HvmParams(params)
