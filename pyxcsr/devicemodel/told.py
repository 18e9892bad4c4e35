"""What a device model has been told, so that it is told to stop only what it has begun.

QEMU takes the contrary for a fault of its own: since 6.2 it ends if it is told, while its guest runs, to stop what it
has not begun, or has stopped already (the assertion in memory_global_dirty_log_do_stop), and the guest is lost. While
the guest is suspended it only notes the wish, and may be told again. libxenguest, too, has it stop only what has begun.
But what has begun may have been stopped since by somebody else, another save or `recover`: see ``end_beside_others``.
"""

from __future__ import annotations

from pyxcsr.devicemodel.noted import (
    ASKED,
    BEFORE,
    BEGUN,
    ENDS_OVER_BOTH,
    NEEDS_ANOTHER,
    end_left,
    may_end_over_both,
    tell,
)
from pyxcsr.errors import DeviceModelError, HypervisorError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.devicemodel.noted import Noted


class Told:
    """Has a device model begin to tell Xen of the pages that it writes, and stop.

    ``stands_still``: whether the guest is suspended; asked only where it counts. ``noted``: for who comes after this
    process, should it be killed.
    """

    def __init__(self, model: DeviceModel, stands_still: Callable[[], bool], noted: Noted) -> None:
        self._model, self._stands_still, self._noted = model, stands_still, noted
        self.begun = False
        """It tells Xen, as far as is known."""
        self._is_noted = False  # that it has begun, in xenstore
        self._lost: Optional[DeviceModelError] = None  # it was told to stop, and did not say that it has

    def begin(self) -> None:
        """Raises DeviceModelError. Then it will not be told to stop: if it has begun all the same, the guest is slower
        than it could be, and that is better than a guest without its devices."""
        tell(self._model, self._noted, True, self._left())
        # first: should this be interrupted now, it has to be told to stop
        self.begun, self._lost, self._is_noted = True, None, False
        self._is_noted = self._noted.put(BEGUN) and self._model.instance() is not None

    def _left(self) -> Optional[str]:
        """What is noted of an earlier save that was killed, or got no answer. Only where something is, or where that
        cannot be read, does it matter which release this is: one of them is told to stop first, or nothing at all.

        Raises DeviceModelError: a save that fails is better than a guest that is lost.
        """
        try:
            found = self._noted.found()
            if found is None or not may_end_over_both(self._model):
                return found
            if end_left(self._model, self._noted) is not False:
                return None
        except HypervisorError as problem:
            if not may_end_over_both(self._model):
                return ASKED
            raise self._refused(f"what is noted of its QEMU cannot be read ({problem})", "try again") from problem
        raise self._refused("a save ended, or was killed, before its QEMU had answered", NEEDS_ANOTHER)

    def _refused(self, why: str, what_to_do: str) -> DeviceModelError:
        return DeviceModelError(
            f"domain {self._noted.domid}: {why}, so that it is not known whether QEMU tells Xen already which pages it "
            f"writes. QEMU 6.2 ends, and the guest with it, if it is told to do what it does already; {what_to_do}",
            domid=self._noted.domid,
            op="note",
        )

    def end(self) -> None:
        """Does nothing if it has not begun. Raises DeviceModelError; the next call tries again if that may be, and else
        raises the same."""
        if self._lost is not None:
            raise self._lost
        if not self.begun:
            return
        try:
            tell(self._model, self._noted, False, BEGUN)
        except DeviceModelError as error:
            if error.op not in BEFORE:
                self._is_noted = False
                if not self._stands_still():
                    self._lost = error
            raise
        except BaseException:  # Ctrl-C, for example: it may have heard
            text = f"domain {self._noted.domid}: it was interrupted while QEMU was told to stop"
            self._lost, self._is_noted = DeviceModelError(text, domid=self._noted.domid, op="interrupted"), False
            if self._stands_still():
                self._lost = None
            raise
        self.begun = False
        self._noted.put(None)

    def end_beside_others(self, seen: bool = False) -> None:
        """As :meth:`end`, where somebody else may have had it stop since it began. ``seen``: somebody has ended
        log-dirty mode, and so has probably done that as well.

        So it begins once more, which changes nothing if it has not stopped; then there is something to stop, whatever
        the others did. QEMU 6.2 ends over that, too. There the note decides: whoever has had QEMU 6.2 stop, and it
        lives, has emptied it, since Xen's own helper, which writes none, would have had it begin twice. Where neither
        helps, because there is no note, or the release is not known, this is DeviceModelError if ``seen``, or else the
        same as :meth:`end`.
        """
        if self.begun and self._lost is None:
            release = self._model.version()
            if release not in (ENDS_OVER_BOTH, None):
                tell(self._model, self._noted, True, BEGUN)
            elif self._is_noted and self._was_stopped():
                self.begun = False
            elif seen and not (self._is_noted and release == ENDS_OVER_BOTH):
                self._lost = DeviceModelError(
                    f"domain {self._noted.domid}: somebody else has ended log-dirty mode, and may have had QEMU stop "
                    "telling Xen which pages it writes. So it is not told to: since 6.2 QEMU ends, and the guest with "
                    "it, if it is told to stop twice. If it tells still, the guest is slower for it",
                    domid=self._noted.domid,
                    op="track",
                )
        self.end()

    def _was_stopped(self) -> bool:
        """Whether somebody has emptied the note, in which this one had said that it had begun.

        Raises DeviceModelError if that is not known.
        """
        try:
            found = self._noted.found()
        except HypervisorError as problem:
            raise self._refused(f"what is noted of its QEMU cannot be read ({problem})", "try again") from problem
        if found == ASKED:
            raise self._refused("a save ended, or was killed, before its QEMU had answered", NEEDS_ANOTHER)
        return found is None

    def leave(self) -> None:
        """From now on it is somebody else's business to have it stop."""
        self.begun = False
