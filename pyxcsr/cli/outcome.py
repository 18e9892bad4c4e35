"""What becomes of the guest once its image is complete.

An image may be all that is left of a guest then: no failure here costs it, and each one is told together with what has
become of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from pyxcsr.cli import say
from pyxcsr.errors import DeviceModelError, DomainNotFound, XcsrError, note
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.report import SaveReport
from pyxcsr.suspend.base import Suspend

ATTEMPTS = 2
"""How often it is tried to let a guest go on: one that stays suspended is lost to its users."""


class Outcome:
    """The end of a saved guest's pause. What goes wrong is kept until ``check``, by when the image has its name."""

    def __init__(self, hv: Backend, domid: int, suspend: Suspend) -> None:
        self._hv, self._domid, self._suspend = hv, domid, suspend
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
            note(self._problem, f"{image}; {self._state()}")
            raise self._problem

    def _state(self) -> str:
        if is_suspended(self._hv, self._domid):
            return (
                f"domain {self._domid} stays suspended: let it go on with `pyxcsr recover {self._domid}`, or destroy "
                "it and restore the image"
            )
        if isinstance(self._problem, DeviceModelError):
            return f"domain {self._domid} runs without its devices: destroy it and restore the image"
        return f"domain {self._domid} runs"


@contextmanager
def guest_goes_on_if_this_fails(hv: Backend, domid: int, suspend: Suspend) -> Iterator[None]:
    """For what comes after the save: a file that could not be kept must not cost a guest."""
    try:
        yield
    except BaseException:
        try:
            suspend.resume()
        except XcsrError as problem:  # not the first error, which is the one that is raised
            if is_suspended(hv, domid):
                say.note(f"the guest may still be suspended: {problem}")
            elif isinstance(problem, DeviceModelError):
                say.note(f"the guest does not wait to be resumed, but its devices may stand still: {problem}")
        raise


def is_suspended(hv: Backend, domid: int) -> bool:
    """Whether a guest waits to be resumed, for all that is known: one that has crashed or gone does not."""
    try:
        return hv.domain_info(domid).suspended
    except XcsrError as error:
        return not isinstance(error, DomainNotFound)
