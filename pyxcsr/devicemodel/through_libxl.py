"""A device model that libxl speaks to: behind `xl`, QEMU's socket is libxl's."""

from __future__ import annotations

from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.place import instance_at, socket_path
from pyxcsr.errors import DeviceModelError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.base import Version

ASKED_FOR = 2.0
"""Seconds for QEMU to say which one it is; libxl, which waits for us, has no connection to it meanwhile."""


class ThroughLibxl(DeviceModel):
    """Asks libxl, whose answer is 0 if all is well. ``switch``: sends the domid and on or off, and returns the answer.

    For a guest that has a device model. libxl answers 0 for a PVH guest, too, and tells its QEMU nothing, if it has one
    for a disk: what would be noted of that QEMU would not be so.
    """

    def __init__(self, switch: Callable[[int, bool], int], domid: int) -> None:
        self._switch, self._domid = switch, domid

    def track(self, on: bool) -> None:
        answer = self._switch(self._domid, on)
        if answer:
            raise DeviceModelError(
                f"libxl could not have domain {self._domid}'s device model {'begin' if on else 'stop'} to tell which "
                f"pages it writes (answer {answer}); its own messages say why",
                domid=self._domid,
                op="switch_qemu_logdirty",
                answer=answer,
            )

    def instance(self) -> Optional[str]:
        return instance_at(socket_path(self._domid))

    def version(self) -> Optional[Version]:
        """That is not libxl's to say: QEMU is asked, if there is one that listens."""
        if self.instance() is None:
            return None
        from pyxcsr.devicemodel.qemu import Qemu

        return Qemu(self._domid, seconds=ASKED_FOR).version()
