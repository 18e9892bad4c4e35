"""A guest that somebody else has suspended goes on, its QEMU before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest
from devicemodel.stub_qemu import qemu_of
from support.on_xen import OnXen

import pyxcsr
from pyxcsr.devicemodel import place
from pyxcsr.devicemodel import qemu as qemus
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend.going_on import ATTEMPTS, let_go_on

REFUSED = [json.dumps({"error": {"desc": "no"}}).encode() + b"\n"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where QEMU would listen."""
    for module in (place, qemus):
        monkeypatch.setattr(module, "socket_path", lambda domid: str(tmp_path / f"qmp-{domid}"))
    return tmp_path


def suspended(hv: StubBackend) -> int:
    """A guest with a device model, both standing, as libxl leaves them."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse("hvm:mem=4M,devmodel=5,devmodel_stops=told"))
    pyxcsr.XenstoreSuspend(hv, domid)()
    hv.stub.guest(domid).devmodel_run(False)
    return domid


@pytest.mark.parametrize("failures", range(ATTEMPTS + 1))
def test_with_its_qemu(hv: StubBackend, path: Path, failures: int) -> None:
    """One that refuses more often than it is asked stands still, which is said; the guest runs all the same."""
    domid, told = suspended(hv), []

    def reply(name: str, arguments: dict[str, Any]) -> Optional[list[bytes]]:
        if name != "cont":
            return None
        told.append(hv.domain_info(domid).suspended)
        return REFUSED if len(told) <= failures else None

    with qemu_of(hv.stub.guest(domid), path / f"qmp-{domid}", reply):
        done = pyxcsr.recover(OnXen(hv), domid)
    assert told == [True] * min(failures + 1, ATTEMPTS)
    assert done.resumed and hv.stub.guest(domid).state().running
    assert ["may stand still" in x for x in done.left] == [True] * (failures == ATTEMPTS)


def test_without_one(hv: StubBackend, path: Path) -> None:
    domid = suspended(hv)
    let_go_on(OnXen(hv), domid)
    assert hv.stub.guest(domid).state().running


def test_the_stubs_guest_has_none_of_dom0s(hv: StubBackend, path: Path) -> None:
    """Its id may be that of a real guest."""
    domid, told = suspended(hv), []
    with qemu_of(hv.stub.guest(domid), path / f"qmp-{domid}", lambda name, arguments: told.append(name)):
        let_go_on(hv, domid)
    assert told == [] and hv.stub.guest(domid).state().running
