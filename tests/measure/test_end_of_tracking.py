"""A save comes in the instant in which a measurement has had QEMU stop telling which pages it writes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from measure.fake import SetMeter
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import DeviceModelError
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.measure.tracking import Tracking
from pyxcsr.transfer.savers import Saver, Savers


class Coming(Savers):
    """A save is there once the device model was told to stop."""

    def __init__(self, model: Model) -> None:
        self._model, self.ended = model, list[Saver]()

    def now(self) -> list[Saver]:
        return [Saver(4711, "libxl-save-helper", True)] if False in self._model.told else []

    def may_have_begun(self, saver: Saver) -> bool:
        return True

    def end(self, saver: Saver) -> bool:
        self.ended.append(saver)
        return True


class Model(DeviceModel):
    """``deaf``: it does not begin a second time."""

    def __init__(self, deaf: bool) -> None:
        self.told, self._deaf = list[bool](), deaf

    def track(self, on: bool) -> None:
        if on and self.told and self._deaf:
            raise DeviceModelError("it does not answer", op="greeting")
        self.told.append(on)


@pytest.mark.parametrize("deaf", [False, True])
def test_that_save_is_made_to_fail(hv: StubBackend, deaf: bool) -> None:
    """Also if QEMU does not tell any more, and the save would miss what it writes: then above all."""
    model = Model(deaf)
    savers, warnings = Coming(model), list[str]()
    tracking = Tracking(hv, 1, cast("Any", SetMeter(8)), model, savers, warnings)
    tracking.begin(take_over=False)
    try:
        tracking.end_model()
    except DeviceModelError:
        assert deaf
    assert [x.pid for x in savers.ended] == [4711] and "was made to fail: run it again" in warnings[0]
    tracking.end_model()
    assert model.told == [True, False] + [True] * (not deaf), "the rest is that save's business"
