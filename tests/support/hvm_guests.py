"""HVM and PVH guests of the stub: their device model, and judges of their streams."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional, Union, cast

from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import DeviceModelError
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import device_model_of
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.report import SaveReport
from pyxcsr.stream.records import HvmContext, HvmParams
from pyxcsr.suspend.hvm import HvmSuspend
from pyxcsr.transfer.restore import restore
from pyxcsr.transfer.save import save
from support.hvm_truth import wrong
from support.image import MemoryImage
from support.judge import judge_rules, records


class ToldDeviceModel(DeviceModel):
    """The stub's device model; of a PVH guest it has nothing to do. ``refuse``: at which switches it fails; ``told``:
    all switches."""

    def __init__(self, guest: StubDomain, refuse: tuple[int, ...] = ()) -> None:
        self._guest, self._refuse = guest, refuse
        self.told: list[bool] = []

    def track(self, on: bool) -> None:
        self.told.append(on)
        if len(self.told) in self._refuse:
            raise DeviceModelError("the device model does not answer", domid=self._guest.domid, op="track")
        model = device_model_of(self._guest)
        if model is not None:
            model.track(on)


class StubQemu(ToldDeviceModel):
    """The same, stopped and started as HvmSuspend does it with QEMU."""

    def check(self) -> None:
        """Nothing: it always answers."""

    def stop(self) -> None:
        self._guest.devmodel_run(False)

    def go_on(self) -> None:
        self._guest.devmodel_run(True)


def suspend_hvm(hv: StubBackend, domid: int) -> HvmSuspend:
    """What suspends a guest of the stub as libxl does: by its driver or by Xen, and then its device model."""
    guest = hv.stub.guest(domid)
    return HvmSuspend(hv, domid, cast(Any, StubQemu(guest)) if guest.state().device_model else None)


def save_hvm(hv: StubBackend, domid: int, path: Union[str, Path], **options: Any) -> SaveReport:
    """Saves into a file, the device model told. The guest stays suspended. The policy is that of ``judge.save_to``."""
    model = device_model_of(hv.stub.guest(domid))
    with open(path, "wb") as out:
        return save(hv, domid, out, **{"device_model": model, "policy": "libxc", **options})


def wrong_pages(hv: StubBackend, domid: int, path: Union[str, Path]) -> list[int]:
    """Gfns of which the stream's last word is not what the suspended guest has, by the machine's own tables."""
    guest = hv.stub.guest(domid)
    fd = os.open(path, os.O_RDONLY)
    try:
        image = MemoryImage(fd)
        gfns = guest.pfns_with_memory()
        wrong = [gfn for gfn in gfns if image.page(gfn) != guest.read_page(gfn)]
        with_content = (gfn for gfn, entry in image.entries.items() if entry.type != PageType.XTAB)
        wrong += set(with_content).difference(gfns)
    finally:
        os.close(fd)
    return wrong


def judge_hvm(hv: StubBackend, domid: int, path: Union[str, Path], xen: bool = True) -> None:
    """Asserts that a stream is right in every way. The guest must still be suspended, as the save left it."""
    judge_rules(path, xen)
    judge_guest(hv, domid, path)


def judge_guest(hv: StubBackend, domid: int, path: Union[str, Path]) -> None:
    """Asserts that all of the guest is in a stream as it is; not that the stream keeps every rule."""
    assert wrong(hv.stub.guest(domid), path) == ([], [])
    (context,) = [x for x in records(path) if isinstance(x, HvmContext)]
    assert bytes(context.blob) == hv.hvm_context(domid)
    (params,) = [x for x in records(path) if isinstance(x, HvmParams)]
    assert params.params and all(hv.hvm_param(domid, index) == value for index, value in params.params)


def restored(hv: StubBackend, path: Union[str, Path], kind: str, mem: str, vcpus: int = 1) -> StubDomain:
    """Restores a stream into a new domain, whose kernel then finds itself and runs."""
    new = hv.stub.create_empty(mem, vcpus=vcpus, kind=kind)
    with open(path, "rb") as stream:
        report = restore(hv, new, stream)
    assert (report.store_gfn, report.console_gfn) != (0, 0) and report.nr_vcpus >= 1
    return hv.stub.guest(new)


def pages_of(guest: StubDomain, but: Optional[set[int]] = None) -> dict[int, bytes]:
    """All of a guest's memory, by gfn."""
    return {gfn: guest.read_page(gfn) for gfn in guest.pfns_with_memory() if gfn not in (but or set())}
