"""Xen's own helper saves a guest that is being saved already, which nothing keeps it from doing, and has QEMU stop.

The first save fails, because log-dirty mode was taken from it, or is cancelled before it knows. Were QEMU told to stop
a second time then, it would end, and the guest with it: at once, or when the guest goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest
from support.another_save import another_save
from support.hvm_guests import save_hvm

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import StubDeviceModel
from pyxcsr.hypervisor.stub.domain import StubDomain


class Strict(StubDeviceModel):
    """The stub's allows more while the guest is suspended: that is when QEMU notes the wish, for when it goes on."""

    def __init__(self, guest: StubDomain) -> None:
        super().__init__(guest)
        self.on, self.twice = False, False

    def track(self, on: bool) -> None:
        self.twice = self.twice or not (on or self.on)
        self.on = on
        super().track(on)


@pytest.mark.parametrize("how", ["cancelled", "next-bitmap", "last-bitmap"])
def test_the_guest_keeps_its_device_model(hv: StubBackend, tmp_path: Path, how: str) -> None:
    domid = hv.stub.create(StubGuest.parse("hvm:mem=8M,devmodel=50,compact=yes"))
    guest = hv.stub.guest(domid)
    model, done = Strict(guest), list[str]()

    def comes(when: bool) -> bool:
        if when and not done:
            done.append(how)
            another_save(hv, domid, model)
        return bool(done)

    def progress(now: pyxcsr.Progress) -> None:
        comes(how != "cancelled" and now.phase == ("suspend" if how == "last-bitmap" else "pass"))

    cancel: Optional[Callable[[], bool]] = (lambda: comes(model.on)) if how == "cancelled" else None
    with pytest.raises(pyxcsr.Cancelled if how == "cancelled" else pyxcsr.HypervisorError) as raised:
        save_hvm(hv, domid, tmp_path / "s", device_model=model, progress=progress, cancel=cancel)
    assert getattr(raised.value, "__notes__", []) == []
    state = guest.state()
    assert done and state.running and state.device_model and not state.devmodel_logdirty and not state.logdirty
    assert not model.twice
