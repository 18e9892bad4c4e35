"""Saving and restoring HVM and PVH guests: the tables' entries.

This release refuses them in ``setup``, before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional, final

from pyxcsr.errors import NotSupported
from pyxcsr.guest.ops import Following, SaveContext, Write
from pyxcsr.hypervisor.interface import SaveHandle
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.records import Record


@final
class HvmSaveOps:
    """See :class:`pyxcsr.guest.ops.SaveOps` for the contract of each method."""

    domain_type = DomainType.HVM
    p2m = None
    p2m_generation = 0

    suspend_first = True

    def __init__(self, context: SaveContext) -> None:
        self._domid = context.info.domid

    @property
    def nr_pfns(self) -> int:
        raise self._unsupported()

    def _unsupported(self) -> NotSupported:
        return NotSupported(
            f"domain {self._domid} is an HVM or PVH guest; this release saves PV guests only (xl save without "
            "LIBXL_SAVE_HELPER saves it with the stock helper)",
            domid=self._domid,
        )

    def check(self) -> None:
        raise self._unsupported()

    def setup(self) -> None:
        raise self._unsupported()

    def static_data(self) -> Iterator[Record]:
        raise self._unsupported()

    def start_of_stream(self) -> Iterator[Record]:
        raise self._unsupported()

    def start_of_checkpoint(self) -> Iterator[Record]:
        """Nothing: an HVM guest's checkpoint begins with its pages."""
        return iter(())

    def check_iteration(self) -> Iterator[Record]:
        """Nothing to check: an HVM guest's p2m is Xen's own, so nothing that was mapped can go stale."""
        return iter(())

    def following(self, save: SaveHandle, write: Write) -> Optional[Following]:
        raise self._unsupported()

    def rehearse(self) -> None:
        raise self._unsupported()

    def end_of_pages(self) -> Iterator[Record]:
        """Nothing: an HVM guest's pages are all that there is."""
        return iter(())

    def end_of_checkpoint(self) -> bytes:
        raise self._unsupported()

    def cleanup(self) -> None:
        """Nothing: ``setup`` maps nothing."""
