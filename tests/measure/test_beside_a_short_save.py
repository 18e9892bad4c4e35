"""Between two looks of a measurement somebody has the guest's QEMU stop who is gone again by the next one.

QEMU, and the stub's device model, ends if it is told to stop once more while the guest runs, and the guest is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Optional

import pytest
from support.another_save import another_save

import pyxcsr
from measure.fake import Clock
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.noted import path_of
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import device_model_of
from pyxcsr.measure.dirty_rate import Measurement
from pyxcsr.transfer import recovery

TEXT = "hvm:mem=4M,vram=64K,writer=none"
Deed = Callable[[StubBackend, int, DeviceModel], None]


def saves(hv: StubBackend, domid: int, model: DeviceModel) -> None:
    with open(os.devnull, "wb") as out:
        pyxcsr.save(hv, domid, out, device_model=model)
    hv.domain_resume(domid)


def recovers(hv: StubBackend, domid: int, model: DeviceModel) -> None:
    assert pyxcsr.recover(hv, domid).device_model == "off"


def measures(hv: StubBackend, domid: int, model: DeviceModel) -> None:
    clock = Clock()
    found = Measurement(hv, domid, 0.5, model, take_over=True, clock=clock, sleep=clock.sleep).run()
    assert found.taken_over


class Scene:
    """One guest, and a measurement of three seconds, in whose second one somebody does something."""

    def __init__(self, hv: StubBackend, monkeypatch: pytest.MonkeyPatch, model: Optional[DeviceModel] = None) -> None:
        self.hv, self.domid = hv, hv.stub.create(pyxcsr.StubGuest.parse(TEXT))
        self.guest = hv.stub.guest(self.domid)
        found = device_model_of(self.guest)
        assert found is not None
        self.inner = found
        self.model = model or found
        self.done = False
        monkeypatch.setattr(recovery, "qemu_of", lambda hv, domid: found)

    def measure(self, deed: Deed, cancelled: bool) -> pyxcsr.DirtyRate:
        clock = Clock()

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            if not self.done and clock.now > 101.5:
                self.done = True
                deed(self.hv, self.domid, self.inner)

        cancel = (lambda: self.done) if cancelled else None
        return Measurement(self.hv, self.domid, 3.0, self.model, cancel, clock=clock, sleep=sleep).run()

    def check(self, tracking: bool = False) -> None:
        state = self.guest.state()
        assert self.done and state.device_model and state.running and not state.logdirty
        assert state.devmodel_logdirty is tracking


@pytest.mark.parametrize("cancelled", [False, True], ids=["at-the-next-bitmap", "cancelled"])
@pytest.mark.parametrize("deed", [saves, another_save, recovers, measures])
def test_the_guest_keeps_its_device_model(
    hv: StubBackend, monkeypatch: pytest.MonkeyPatch, deed: Deed, cancelled: bool
) -> None:
    scene = Scene(hv, monkeypatch)
    if cancelled:
        with pytest.raises(pyxcsr.Cancelled) as raised:
            scene.measure(deed, cancelled)
        assert getattr(raised.value, "__notes__", []) == []
    else:
        found = scene.measure(deed, cancelled)
        assert found.warnings == [] and "somebody else has ended log-dirty mode" in (found.ended_by or "")
    scene.check()
    assert not hv.xenstore_read(path_of(scene.domid)), "nothing is left to be recovered"


class OfAProgram(DeviceModel):
    """A program's own, which does nothing but what it must: nobody can ask it anything."""

    inner: DeviceModel

    def track(self, on: bool) -> None:
        self.inner.track(on)


def test_one_of_which_nothing_is_known_is_left_as_it_is(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-dirty mode was ended, and it may have been told to stop as well, or not."""
    model = OfAProgram()
    for deed, tracking in ((another_save, False), (lambda hv, domid, model: hv.logdirty_off(domid), True)):
        scene = Scene(hv, monkeypatch, model)
        model.inner = scene.inner
        (warning,) = scene.measure(deed, False).warnings
        assert "may have had QEMU stop" in warning and "If it tells still, the guest is slower for it" in warning
        scene.check(tracking)


def test_of_a_guest_without_one_nothing_is_said(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(hv, monkeypatch, DeviceModel())
    found = scene.measure(lambda hv, domid, model: hv.logdirty_off(domid), False)  # type: ignore[arg-type, return-value]
    assert found.ended_by and found.warnings == []
