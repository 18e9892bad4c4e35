"""The device model of the stub's HVM guests, as a save is given one."""

from __future__ import annotations

from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import DeviceModelError
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.plain import TYPE_CHECKING, final

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.hypervisor.stub.domain import StubDomain


@final
class StubDeviceModel(DeviceModel):
    """Tells the stub of the pages it writes, as QEMU tells Xen."""

    def __init__(self, guest: StubDomain) -> None:
        self._guest = guest

    def track(self, on: bool) -> None:
        """Raises DeviceModelError if the guest has gone."""
        try:
            self._guest.devmodel_logdirty(on)
        except StubError as error:
            raise DeviceModelError(str(error), domid=self._guest.domid, op="track") from error

    def instance(self) -> Optional[str]:
        """It is never started anew."""
        return "stub"

    def version(self) -> Optional[tuple[int, int]]:
        """Of a QEMU that behaves so."""
        return (7, 2)

    def __repr__(self) -> str:
        return f"<StubDeviceModel of domain {self._guest.domid}>"


def device_model_of(guest: StubDomain) -> Optional[StubDeviceModel]:
    """The guest's, if it has one: HVM guests do, PVH guests do not."""
    return StubDeviceModel(guest) if guest.state().device_model else None
