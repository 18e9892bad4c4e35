"""What becomes of the guest once its image is complete.

An image may be all that is left of a guest then: no failure here costs it, and each one is told together with what has
become of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from pyxcsr.cli import say
from pyxcsr.errors import DeviceModelError, XcsrError, note
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.report import SaveReport
from pyxcsr.suspend.base import Suspend
from pyxcsr.transfer.pause import ATTEMPTS
from pyxcsr.transfer.steering import condition_of


class Outcome:
    """The end of a saved guest's pause. What goes wrong is kept until ``check``, by when the image has its name.

    ``whole``: the image has all that the guest needs, the state of its device model included if it has one.
    """

    def __init__(self, hv: Backend, domid: int, suspend: Suspend, whole: bool = True) -> None:
        self._hv, self._domid, self._suspend, self._whole = hv, domid, suspend, whole
        self._problem: Optional[XcsrError] = None

    def goes_on(self, _report: Optional[SaveReport] = None) -> None:
        """Lets the guest go on, if this save has suspended it. Again: only if it has not gone on yet."""
        for _ in range(ATTEMPTS):
            try:
                resumed = self._suspend.resume()
            except XcsrError as problem:
                self._problem = problem
                continue
            # of a guest that runs, what failed besides has been done now only if it is its devices
            if resumed or isinstance(self._problem, DeviceModelError):
                self._problem = None
            return

    def is_paused(self) -> None:
        """Has Xen pause the guest, which then is suspended no more. If that fails it goes on."""
        try:
            self._hv.domain_pause(self._domid)
        except XcsrError as problem:
            self.goes_on()
            self._problem = self._problem or problem
        else:
            self.goes_on()

    def check(self, image: str) -> None:
        """Raises what went wrong. ``image``: what has become of the image, in words."""
        if self._problem is not None:
            state = self._state(condition_told(self._hv, self._domid), self._whole)
            note(self._problem, f"{image}; {state}")
            raise self._problem

    @contextmanager
    def goes_on_if_this_fails(self) -> Iterator[None]:
        """For what comes after the save: a file that could not be kept must not cost a guest."""
        try:
            yield
        except BaseException:
            self.goes_on()
            if self._problem is not None:  # not the first error, which is the one that is raised
                condition = condition_told(self._hv, self._domid)
                # a guest that has crashed or gone waits neither to be resumed nor for its devices
                if condition in (None, "suspended") or isinstance(self._problem, DeviceModelError):
                    say.note(f"{self._state(condition, restorable=False)}: {self._problem}")
            raise

    def _state(self, condition: Optional[str], restorable: bool) -> str:
        """``condition``: what was told of the guest; ``restorable``: there is an image, and it has all that the guest
        needs."""
        if condition is None:
            return f"it is not known what has become of domain {self._domid}"
        if condition == "suspended":
            restore = ", or destroy it and restore the image" if restorable else ""
            return f"domain {self._domid} stays suspended: let it go on with `pyxcsr recover {self._domid}`{restore}"
        if isinstance(self._problem, DeviceModelError):
            restore = "destroy it and restore the image, or " if restorable else ""
            return (
                f"domain {self._domid} is {condition}, but its QEMU may stand still: {restore}have QEMU go on by its "
                "command `cont`"
            )
        return f"domain {self._domid} is {condition}"


def condition_told(hv: Backend, domid: int) -> Optional[str]:
    """What a guest is now, in a word; None if Xen does not say."""
    try:
        return condition_of(hv, domid)
    except XcsrError:
        return None
