"""A guest of the stub hypervisor inside the helper, so that the whole program can be tested without Xen."""

from __future__ import annotations

from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import UsageError
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.text import StubGuest
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.suspend.base import Suspend

if TYPE_CHECKING:
    from typing import Callable, Optional, Union

    from pyxcsr.checkpointed import Checkpointed
    from pyxcsr.hypervisor.backend import Backend


def create_guest(hv: Union[Backend, StubBackend], description: str) -> int:
    """Creates the guest that PYXCSR_STUB_GUEST describes; returns its domid. Raises UsageError."""
    if not isinstance(hv, StubBackend):
        raise UsageError("PYXCSR_STUB_GUEST needs PYXCSR_BACKEND=stub")
    return hv.stub.create(StubGuest.parse(description))


def create_empty(hv: Union[Backend, StubBackend], description: str) -> int:
    """Creates a paused domain without memory that may own what the guest described by PYXCSR_STUB_GUEST may, for a
    restore; returns its domid. Raises UsageError."""
    if not isinstance(hv, StubBackend):
        raise UsageError("PYXCSR_STUB_GUEST needs PYXCSR_BACKEND=stub")
    guest = StubGuest.parse(description)
    return hv.stub.create_empty(max_mem=guest.max_mem or guest.mem, vcpus=guest.vcpus)


class SuspendInStep(Suspend):
    """A ``suspend`` that asks libxl, then does what libxl would have done to a guest it can reach.

    Like the one for real guests it has no ``resume``: whether the guest goes on is libxl's affair.
    """

    def __init__(self, asks_libxl: Suspend, suspends: Suspend) -> None:
        self._asks_libxl, self._suspends = asks_libxl, suspends

    def watched_by(self, watch: Callable[[], None]) -> None:
        self._asks_libxl.watched_by(watch)
        self._suspends.watched_by(watch)

    def __call__(self) -> None:
        self._asks_libxl()
        self._suspends()


def suspend_in_step(hv: Union[Backend, StubBackend], domid: int, asks_libxl: Suspend) -> Suspend:
    """That of the guest that :func:`create_guest` has made."""
    from pyxcsr.suspend.default import default_suspend

    return SuspendInStep(asks_libxl, default_suspend(hv, domid, hv.domain_info(domid).hvm, None, None))


def goes_on_in_step(hv: Union[Backend, StubBackend], domid: int, checkpointed: Optional[Checkpointed]) -> None:
    """Has the stub's guest go on after a checkpoint when libxl has let the one go on that it knows."""
    if checkpointed is None or checkpointed.postcopy is None:
        return
    libxls = checkpointed.postcopy

    def postcopy() -> None:
        libxls()
        hv.domain_resume(domid)

    checkpointed.postcopy = postcopy


class DeviceModelInStep(DeviceModel):
    """Asks libxl's, and then has the stub's do the same, as libxl would have had QEMU do it."""

    def __init__(self, stubs: DeviceModel, libxls: DeviceModel) -> None:
        self._stubs, self._libxls = stubs, libxls

    def track(self, on: bool) -> None:
        self._libxls.track(on)
        self._stubs.track(on)


def device_model_in_step(
    hv: Union[Backend, StubBackend], domid: int, libxls: Optional[DeviceModel]
) -> Optional[DeviceModel]:
    """A ``device_model`` for the guest that :func:`create_guest` has made; None: it has none, or libxl takes no
    messages for it."""
    if libxls is None or not isinstance(hv, StubBackend):
        return libxls
    from pyxcsr.hypervisor.stub.devmodel import device_model_of

    stubs = device_model_of(hv.stub.guest(domid))
    return None if stubs is None else DeviceModelInStep(stubs, libxls)
