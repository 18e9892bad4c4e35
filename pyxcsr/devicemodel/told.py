"""What a device model has been told, so that it is told to stop only what it has begun.

QEMU takes the contrary for a fault of its own: since 6.2 it ends if it is told, while its guest runs, to stop what it
has not begun, or has stopped already (the assertion in memory_global_dirty_log_do_stop), and the guest is lost. While
the guest is suspended it only notes the wish, and may be told again. libxenguest, too, has it stop only what has begun.
"""

from __future__ import annotations

from pyxcsr.errors import DeviceModelError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.base import DeviceModel

BEFORE = ("connect", "greeting", "qmp_capabilities")
"""Of a DeviceModelError's ``op``: it failed before the command was sent."""


class Told:
    """Has a device model begin to tell Xen of the pages that it writes, and stop.

    ``stands_still``: whether the guest is suspended; asked only where it counts.
    """

    def __init__(self, model: DeviceModel, stands_still: Callable[[], bool]) -> None:
        self._model, self._stands_still = model, stands_still
        self.begun = False
        """It tells Xen, as far as is known."""
        self._lost: Optional[DeviceModelError] = None  # it was told to stop, and did not say that it has

    def begin(self) -> None:
        """Raises DeviceModelError. Then it will not be told to stop: if it has begun all the same, the guest is slower
        than it could be, and that is better than a guest without its devices."""
        self._model.track(True)
        self.begun, self._lost = True, None

    def end(self) -> None:
        """Does nothing if it has not begun. Raises DeviceModelError; the next call tries again if that may be, and else
        raises the same."""
        if self._lost is not None:
            raise self._lost
        if not self.begun:
            return
        try:
            self._model.track(False)
        except DeviceModelError as error:
            if error.op not in BEFORE and not self._stands_still():
                self._lost = error
            raise
        self.begun = False

    def leave(self) -> None:
        """From now on it is somebody else's business to have it stop."""
        self.begun = False
