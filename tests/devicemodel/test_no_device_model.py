"""A guest that has a QEMU, for a disk or a display, and no device model: PVH and PV guests, by what libxl has noted."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.on_xen import OnXen

import pyxcsr
from devicemodel.strict_qemu import Strict, listening
from pyxcsr import StubGuest
from pyxcsr.cli.suspending import guest_parts
from pyxcsr.devicemodel import place
from pyxcsr.devicemodel import qemu as qemus
from pyxcsr.devicemodel.noted import BEGUN, ENDS_OVER_BOTH, Noted, path_of
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.hypervisor.open import StubBackend

KINDS = [("pv64", "pv"), ("pvh", "pvh"), ("hvm", "hvm")]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where QEMU listens."""
    for module in (place, qemus):
        monkeypatch.setattr(module, "socket_path", lambda domid: str(tmp_path / "qmp"))
    return tmp_path / "qmp"


def made(hv: StubBackend, kind: str, noted: str) -> int:
    """As libxl makes one."""
    domid = hv.stub.create(StubGuest.parse(f"{kind}:mem=4M"))
    hv.xenstore_write(f"/libxl/{domid}/type", noted.encode())
    return domid


@pytest.mark.parametrize(("kind", "noted"), KINDS)
def test_it_is_saved_without(hv: StubBackend, path: Path, kind: str, noted: str) -> None:
    """libxl refuses a file in which a PVH guest has a device model's state, and asks no such QEMU for one."""
    domid = made(hv, kind, noted)
    with listening(path, ENDS_OVER_BOTH):
        parts = guest_parts(OnXen(hv), domid, 60.0, lambda: False)  # type: ignore[arg-type]
    assert (parts.qemu is not None) is (parts.device_model is not None) is (noted == "hvm")


@pytest.mark.parametrize(("kind", "noted"), KINDS)
def test_it_is_recovered_without(hv: StubBackend, path: Path, kind: str, noted: str) -> None:
    """QEMU 6.2 ends if it is told to stop what it has not begun. Nobody has had it begin, whatever the note says."""
    domid = made(hv, kind, noted)
    with listening(path, ENDS_OVER_BOTH) as qemu:
        Noted(hv, domid, Qemu(domid), print).put(BEGUN)
        assert (hv.xenstore_read(path_of(domid)) or b"").startswith(b"begun ")
        has_begun(qemu, noted == "hvm")
        done = pyxcsr.recover(OnXen(hv), domid)  # type: ignore[arg-type]
        assert not qemu.dead and qemu.told == [False] * (noted == "hvm")
    assert (done.device_model, done.left) == ("off" if noted == "hvm" else None, [])


def has_begun(qemu: Strict, has: bool) -> None:
    qemu.fake.tracking = has
