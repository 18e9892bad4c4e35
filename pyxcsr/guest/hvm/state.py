"""An HVM guest's state besides its memory, as records: its TSC, Xen's own context, its parameters."""

from __future__ import annotations

from pyxcsr.errors import GuestStateError
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.stream import hvm_params
from pyxcsr.stream.hvm_params import SENT
from pyxcsr.stream.records import HvmContext, HvmParams, TscInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Optional

    from pyxcsr.hypervisor.interface import Hypervisor
    from pyxcsr.stream.records import Record


def state_records(
    hv: Hypervisor, domid: int, has_data: Callable[[int], bool], *, with_context: bool = True
) -> Iterator[Record]:
    """The records, in the order in which libxenguest writes them; parameters that are zero are left out.

    ``has_data``: whether the stream has a page of a gfn. ``with_context``: False: Xen's context is as long as it may
    get, and empty. Raises GuestStateError for parameters that no receiver takes:
    to save such a guest with success would be to lose it.
    """
    tsc = hv.domain_tsc(domid)
    yield TscInfo(tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation)
    yield HvmContext(hv.hvm_context(domid) if with_context else bytes(hv.hvm_context_size(domid)))
    params = [(index, value) for index in SENT for value in (hv.hvm_param(domid, index),) if value]
    _check(domid, params, has_data)
    if params:
        yield HvmParams(params)


def all_params(records: Iterable[Record]) -> list[tuple[int, int]]:
    """All parameters that :func:`state_records` asks for, with their values as in these records: 0 if they had none."""
    values = dict(param for record in records if isinstance(record, HvmParams) for param in record.params)
    return [(index, values.get(index, 0)) for index in SENT]


def needed_gfns(params: Iterable[tuple[int, int]]) -> list[int]:
    """The gfns in parameters where the stream must have a page."""
    return [page.pfn for page in hvm_params.pages(x for x in params if x[0] in hvm_params.NEEDED_PAGES)]


def _check(domid: int, params: list[tuple[int, int]], has_data: Callable[[int], bool]) -> None:
    for index, value in params:
        problem = None if index in hvm_params.FEATURES else hvm_params.problem(index, value)
        if problem is None and index in hvm_params.NEEDED_PAGES:
            problem = _missing(index, value, has_data)
        if problem is not None:
            raise GuestStateError(
                f"domain {domid} cannot be saved, because no receiver would take its HVM parameters: {problem}",
                domid=domid,
                field=hvm_params.name(index),
                value=value,
            )


def _missing(index: int, value: int, has_data: Callable[[int], bool]) -> Optional[str]:
    for page in hvm_params.pages([(index, value)]):
        if not has_data(page.pfn):
            return f"{hvm_params.name(index)} names gfn {page.pfn:#x}, where it has no page (has it given it back?)"
    return None
