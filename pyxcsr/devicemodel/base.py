"""What a saver needs of a guest's device model."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

    Version = tuple[int, int]
    """QEMU's, major and minor."""


class DeviceModel:
    """The device model of one guest. A base for guests that have none: PV and PVH.

    Xen's log-dirty mode sees what the guest writes, and what devices do that Xen emulates itself; a device model writes
    through mappings of its own, and marks these pages dirty only if it is told to.
    """

    def track(self, on: bool) -> None:
        """Has the device model tell Xen of the pages that it writes, from now on or no longer.

        Called before log-dirty mode is enabled and after it is disabled, on every way out. Raises DeviceModelError.
        """

    def instance(self) -> Optional[str]:
        """Names this very device model: one that is started in its place has another name. None: that is not known."""
        return None

    def version(self) -> Optional[Version]:
        """None: it is not known. Raises DeviceModelError."""
        return None
