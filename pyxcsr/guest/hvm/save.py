"""Saving HVM and PVH guests: the physmap belongs to Xen, so that pfn, gfn and what is mapped are one."""

from __future__ import annotations

from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.noted import Noted
from pyxcsr.devicemodel.place import has_device_model
from pyxcsr.devicemodel.told import Told
from pyxcsr.errors import HypervisorError
from pyxcsr.guest.hvm.following import PhysmapFollowing
from pyxcsr.guest.hvm.limits import check_nr_gfns, gfn_limit
from pyxcsr.guest.hvm.pod import wait_until_populated
from pyxcsr.guest.hvm.state import all_params, needed_gfns, state_records
from pyxcsr.guest.x86 import policy_records
from pyxcsr.plain import TYPE_CHECKING, final
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.records import frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Optional

    from pyxcsr.guest.ops import Following, SaveContext, Write
    from pyxcsr.hypervisor.interface import EndPlan, Hypervisor, SaveHandle
    from pyxcsr.stream.records import Record


STATE_ROOM = 16384
"""Bytes by which the state may grow between the rehearsal and the end."""


def has_pm_timer(hv: Hypervisor, domid: int) -> bool:
    """Whether Xen emulates a PM timer for the guest, as it does for guests with a device model.

    To be asked where the save's caller has named no device model. False for a guest of the stub: its id says nothing.
    """
    return hv.backend == "xen" and has_device_model(hv, domid)


@final
class HvmSaveOps:
    """See :class:`pyxcsr.guest.ops.SaveOps` for the contract of each method."""

    domain_type = DomainType.HVM
    p2m = None
    p2m_generation = 0
    suspend_first = True
    """So that a save that is not live asks for its last gfn when that cannot change any more."""

    def __init__(self, context: SaveContext) -> None:
        self._hv, self._info, self._poll = context.hv, context.info, context.poll
        self._domid = context.info.domid
        self._report = context.report
        model = context.options.device_model or DeviceModel()
        self._has_pm_timer = type(model) is not DeviceModel  # one that is told what to note
        noted = Noted(self._hv, self._domid, model, self._report.warnings.append)
        self._device_model = Told(model, self._stands_still, noted)
        self._nr_gfns = 0
        self._save: Optional[SaveHandle] = None
        self._following: Optional[PhysmapFollowing] = None
        self._rehearsed: Sequence[Record] = ()

    @property
    def nr_pfns(self) -> int:
        if not self._nr_gfns:
            raise HypervisorError("the guest's gfns have not been counted", op="setup", errno=22)
        return self._nr_gfns if self._save is None else self._save.nr_pfns

    def check(self) -> None:
        """Waits for a guest that is populated on demand: it must be over before it is suspended, or looked at."""
        wait_until_populated(self._hv, self._domid, self._poll)

    def setup(self) -> None:
        self._has_pm_timer = self._has_pm_timer or has_pm_timer(self._hv, self._domid)
        self._nr_gfns = check_nr_gfns(self._info, self._hv.nr_gpfns(self._domid))

    def following(self, save: SaveHandle, write: Write) -> Optional[Following]:
        self._save = save
        self._following = PhysmapFollowing(self._hv, self._domid, save, self._poll, self._report)
        return self._following

    def switch_device_model(self, on: bool, alone: bool = True) -> None:
        if on:
            self._device_model.begin()
        elif alone:
            self._device_model.end()
        else:
            self._device_model.end_beside_others()

    def _stands_still(self) -> bool:
        return self._hv.domain_info(self._domid).suspended

    def static_data(self) -> Iterator[Record]:
        return policy_records(self._hv, self._domid)

    def start_of_stream(self) -> Iterator[Record]:
        """Nothing: there is no p2m that a receiver must be told of."""
        return iter(())

    def start_of_checkpoint(self) -> Iterator[Record]:
        """Nothing: an HVM guest's checkpoint begins with its pages."""
        return iter(())

    def check_iteration(self) -> Iterator[Record]:
        """Nothing to check: an HVM guest's p2m is Xen's own, so nothing that was mapped can go stale.

        What changes of the physmap mean for pages that were sent is PhysmapFollowing's to find out.
        """
        return iter(())

    def rehearse(self, save: SaveHandle) -> None:
        # which pages there are, the last pass tells
        self._rehearsed = list(
            state_records(self._hv, self._domid, lambda gfn: True, with_context=not self._has_pm_timer)
        )

    def plan_end(self, save: SaveHandle, last: bytes) -> Optional[EndPlan]:
        pages, most = self._following.settled if self._following else None, self._info.max_pages
        if pages is None or save.nr_pfns > gfn_limit(self._info):
            return None
        from pyxcsr.hypervisor.interface.ending import EndPlan

        params = all_params(self._rehearsed)
        room = STATE_ROOM + sum(len(frame(x)) for x in self._rehearsed)
        gfns, pm_timer = needed_gfns(params), self._has_pm_timer
        return EndPlan(None, (), 0, (), 0, params, gfns, pages, most, b"", last, room, pm_timer)

    def end_of_pages(self) -> Iterator[Record]:
        """Nothing: an HVM guest's pages are all that there is."""
        return iter(())

    def end_of_checkpoint(self, save: SaveHandle) -> bytes:
        return b"".join(map(frame, state_records(self._hv, self._domid, save.has_data)))

    def cleanup(self) -> None:
        """Nothing: ``setup`` maps nothing."""
