"""Restoring HVM and PVH guests: not in this release."""

from __future__ import annotations

from typing import final

from pyxcsr.errors import NotSupported
from pyxcsr.guest.ops import RestoreContext, RestoredState
from pyxcsr.hypervisor.interface import PageResult, SourceHandle
from pyxcsr.stream.records import Record


@final
class HvmRestoreOps:
    """See :class:`pyxcsr.guest.ops.RestoreOps` for the contract of each method."""

    def __init__(self, context: RestoreContext) -> None:
        self._domid = context.info.domid

    def _unsupported(self) -> NotSupported:
        return NotSupported(
            f"domain {self._domid}: the stream is an HVM or PVH guest's; this release restores PV guests only",
            domid=self._domid,
        )

    def setup(self) -> None:
        raise self._unsupported()

    def static_data_complete(self) -> int:
        raise self._unsupported()

    def process_record(self, record: Record) -> None:
        raise self._unsupported()

    def pages(self, source: SourceHandle, length: int, offset: int) -> PageResult:
        raise self._unsupported()

    def compare(self) -> None:
        raise self._unsupported()

    def body_limit(self, code: int) -> int:
        raise self._unsupported()

    def stream_complete(self, offset: int) -> RestoredState:
        raise self._unsupported()

    def cleanup(self) -> None:
        """Nothing: ``setup`` maps nothing."""
