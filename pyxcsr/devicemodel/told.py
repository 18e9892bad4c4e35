"""What a device model has been told, so that it is told to stop only what it has begun.

QEMU takes the contrary for a fault of its own: since 6.2 it ends if it is told, while its guest runs, to stop what it
has not begun, or has stopped already (the assertion in memory_global_dirty_log_do_stop), and the guest is lost. While
the guest is suspended it only notes the wish, and may be told again. libxenguest, too, has it stop only what has begun.
"""

from __future__ import annotations

from pyxcsr.devicemodel.noted import ASKED, BEGUN, ENDS_OVER_BOTH, end_left
from pyxcsr.errors import DeviceModelError, HypervisorError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.devicemodel.noted import Noted

BEFORE = ("connect", "greeting", "qmp_capabilities")
"""Of a DeviceModelError's ``op``: it failed before the command was sent."""


class Told:
    """Has a device model begin to tell Xen of the pages that it writes, and stop.

    ``stands_still``: whether the guest is suspended; asked only where it counts. ``noted``: for who comes after this
    process, should it be killed.
    """

    def __init__(self, model: DeviceModel, stands_still: Callable[[], bool], noted: Noted) -> None:
        self._model, self._stands_still, self._noted = model, stands_still, noted
        self.begun = False
        """It tells Xen, as far as is known."""
        self._lost: Optional[DeviceModelError] = None  # it was told to stop, and did not say that it has

    def begin(self) -> None:
        """Raises DeviceModelError. Then it will not be told to stop: if it has begun all the same, the guest is slower
        than it could be, and that is better than a guest without its devices."""
        self._end_what_is_left()
        self._noted.put(ASKED)
        self._model.track(True)
        self._noted.put(BEGUN)
        self.begun, self._lost = True, None

    def _end_what_is_left(self) -> None:
        """A killed save may have left it on. One release of QEMU alone minds that, and is told to stop first."""
        try:
            if self._noted.found() == BEGUN and self._model.version() == ENDS_OVER_BOTH:
                end_left(self._model, self._noted)
        except (DeviceModelError, HypervisorError):  # if it does not answer, it will not begin either, and that is told
            return

    def end(self) -> None:
        """Does nothing if it has not begun. Raises DeviceModelError; the next call tries again if that may be, and else
        raises the same."""
        if self._lost is not None:
            raise self._lost
        if not self.begun:
            return
        self._noted.put(ASKED)
        try:
            self._model.track(False)
        except DeviceModelError as error:
            if error.op in BEFORE:
                self._noted.put(BEGUN)
            elif not self._stands_still():
                self._lost = error
            raise
        self.begun = False
        self._noted.erase()

    def leave(self) -> None:
        """From now on it is somebody else's business to have it stop."""
        self.begun = False
