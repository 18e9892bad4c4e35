"""Suspending HVM and PVH guests, and the device model with them."""

from __future__ import annotations

import time

from pyxcsr.devicemodel.place import Described, has_device_model
from pyxcsr.errors import Cancelled, DeviceModelError, DomainDying, SuspendError, SuspendTimeout, XcsrError, note
from pyxcsr.hypervisor.interface import SHUTDOWN_SUSPEND
from pyxcsr.plain import TYPE_CHECKING, Protocol
from pyxcsr.plain_contexts import insist
from pyxcsr.suspend.base import Suspend
from pyxcsr.suspend.going_on import devices_go_on
from pyxcsr.suspend.xenstore import DomainControl, XenstoreSuspend, is_suspended, suspends_yet

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.qemu import Qemu
    from pyxcsr.hypervisor.interface import DomainInfo

CALLBACK_IRQ, ACPI_S_STATE = 0, 14

_POLL = 0.001


class HvmControl(DomainControl, Described, Protocol):
    """The part of a Hypervisor that is needed here."""

    def domain_shutdown(self, domid: int, reason: int, /) -> None:
        """Shuts the domain down, as if it had done so itself."""


class ByXen(Suspend):
    """Suspends a guest without asking it, as libxl does where the guest has no PV driver that could answer."""

    def __init__(
        self, hv: HvmControl, domid: int, timeout: float = 60.0, cancel: Optional[Callable[[], bool]] = None
    ) -> None:
        self._hv, self._domid, self._timeout, self._cancel = hv, domid, timeout, cancel
        self._ours = False
        self._watch: Callable[[], None] = lambda: None

    def watched_by(self, watch: Callable[[], None]) -> None:
        self._watch = watch

    def __call__(self) -> None:
        if self._info().suspended:
            return
        self._ours = True  # an attempt may have succeeded although it failed here
        refused = True
        try:
            self._hv.domain_shutdown(self._domid, SHUTDOWN_SUSPEND)
            refused = False
            self._wait()
        except (DomainDying, SuspendError):
            raise
        except BaseException as error:  # Xen goes on suspending it, and only one that is suspended can be resumed
            if not (refused and isinstance(error, XcsrError)):
                self._await(error)
            raise
        if self._cancel is not None and self._cancel():  # asked now, when there is a suspended guest to be resumed
            raise Cancelled(f"cancelled while domain {self._domid} was being suspended", domid=self._domid)

    def _wait(self) -> None:
        """Returns once the domain is suspended."""
        until = time.monotonic() + self._timeout
        while not is_suspended(self._info()):
            if time.monotonic() >= until:
                raise SuspendTimeout(
                    f"Xen has not suspended domain {self._domid} within {self._timeout:.0f} s. That cannot be taken "
                    f"back: should it suspend later, let it go on with `pyxcsr recover {self._domid}`",
                    domid=self._domid,
                    seconds=self._timeout,
                    acknowledged=True,
                )
            self._watch()
            time.sleep(_POLL)

    def _await(self, error: BaseException) -> None:
        """Waits for a domain that may be about to suspend; says by a note to ``error`` if it has not done so."""
        may_suspend = (
            f"besides, domain {self._domid} may suspend yet: let it go on then with `pyxcsr recover {self._domid}`"
        )
        suspended = False

        def wait() -> None:
            nonlocal suspended
            suspended = suspends_yet(lambda: is_suspended(self._info()), _POLL)

        try:
            insist(wait)
        except XcsrError as second:
            note(error, f"{may_suspend}; {second}")
            return
        if not suspended:
            note(error, may_suspend)

    def resume(self) -> bool:
        """Lets the domain go on if it was suspended here; returns whether it did."""
        if not self._ours or not self._info().suspended:
            return False
        self._hv.domain_resume(self._domid)
        self._ours = False
        return True

    def _info(self) -> DomainInfo:
        return self._hv.domain_info(self._domid)


class HvmSuspend(Suspend):
    """Suspends an HVM guest, by its PV driver if it has one, and then stops its QEMU; ``resume`` has both go on.

    ``qemu`` None: none is to be stopped. A PVH guest is always asked through its driver, as libxl does it. An HVM guest
    says by a parameter that it has one, once its driver runs: that is looked at when the guest is to be suspended.
    """

    def __init__(
        self,
        hv: HvmControl,
        domid: int,
        qemu: Optional[Qemu],
        timeout: float = 60.0,
        cancel: Optional[Callable[[], bool]] = None,
    ) -> None:
        self._hv, self._domid, self._qemu = hv, domid, qemu
        self._by_driver = XenstoreSuspend(hv, domid, timeout=timeout, cancel=cancel)
        self._by_xen = ByXen(hv, domid, timeout, cancel)
        self._stopped = False

    def check(self) -> None:
        if self._qemu is not None:
            self._qemu.check()
        if self._has_driver():
            self._by_driver.check()

    def watched_by(self, watch: Callable[[], None]) -> None:
        self._by_driver.watched_by(watch)
        self._by_xen.watched_by(watch)

    def _has_driver(self) -> bool:
        def param(index: int) -> int:
            return self._hv.hvm_param(self._domid, index)

        if self._qemu is None and not has_device_model(self._hv, self._domid):
            return True
        return param(CALLBACK_IRQ) != 0 and param(ACPI_S_STATE) == 0

    def __call__(self) -> None:
        if self._has_driver():
            self._by_driver()
        else:
            self._by_xen()
        self.suspended_at = time.monotonic()
        if self._qemu is not None:
            self._stopped = True  # an attempt may have succeeded although it failed here
            self._qemu.stop()

    def found_suspended(self) -> None:
        """QEMU stops, if whoever has suspended the guest did not get that far: it would write while memory is copied.

        It then stands still as the guest does, and is let go on together with it. A QEMU that has ended writes nothing,
        and the guest's memory can be saved without it. Raises DeviceModelError.
        """
        if self._qemu is None:
            return
        try:
            self._qemu.stop()
        except DeviceModelError as error:
            if not isinstance(error.__cause__, (FileNotFoundError, ConnectionRefusedError)):
                raise

    def resume(self) -> bool:
        """Lets the guest and its QEMU go on; returns whether the guest was suspended here. Raises DeviceModelError."""
        try:
            if self._stopped and self._qemu is not None:  # first, as libxl does it: the guest waits for its devices
                devices_go_on(self._qemu)
                self._stopped = False
        finally:
            self.resumed_at = time.monotonic()
            resumed = self._by_driver.resume() or self._by_xen.resume()
        return resumed
