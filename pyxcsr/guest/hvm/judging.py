"""What HVM and PVH guests' records must be, whether they are put into a domain at once or held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, final

from pyxcsr.errors import StreamError
from pyxcsr.guest.judging import is_common, no_place
from pyxcsr.stream import hvm_context, hvm_params
from pyxcsr.stream.entries import problem
from pyxcsr.stream.records import HvmContext, HvmParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyxcsr.hypervisor.interface import DomainInfo
    from pyxcsr.stream.records import Record


def check_context(record: HvmContext, info: DomainInfo) -> int:
    """How many vcpus it has. Raises StreamError."""
    blob, offset = bytes(record.blob), record.offset or 0
    return len(hvm_context.check(blob, offset=offset, nr_vcpus=info.max_vcpu_id + 1).vcpus)


def check_params(record: HvmParams, newer: bool) -> None:
    """Raises StreamError for one that is not to be set. ``newer``: the stream's Xen may be newer than this release."""
    for index, value in record.params:
        why = None if index in hvm_params.DROPPED else _why_not(index, value, newer)
        if why is not None:
            raise StreamError(
                f"HVM_PARAMS: {why}", offset=record.offset or 0, record=record.name, param=index, value=value
            )


def _why_not(index: int, value: int, newer: bool) -> Optional[str]:
    """Why a parameter is not set. Of what came after this release, Xen is the judge: it may be newer, too."""
    if newer and hvm_params.may_be_newer(index, value):
        return None
    why = hvm_params.problem(index, value)
    if why is None and index not in hvm_params.RESTORED:
        why = f"{hvm_params.describe(index, value)} is not a receiver's to set"
    return why


@final
class HvmJudge:
    """See :class:`pyxcsr.guest.judging.Judge`. ``limit``: the first gfn that the domain cannot have."""

    def __init__(self, info: DomainInfo, limit: int, newer: bool) -> None:
        self._info, self._limit, self._newer = info, limit, newer

    def record(self, record: Record) -> None:
        if isinstance(record, HvmContext):
            check_context(record, self._info)
        elif isinstance(record, HvmParams):
            check_params(record, self._newer)
        elif not is_common(record):
            raise no_place(record, "an HVM")

    def entries(self, entries: Sequence[int], length: int) -> str:
        return problem(entries, length, self._limit, tables=False)
