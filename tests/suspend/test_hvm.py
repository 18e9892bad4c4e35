"""HvmSuspend: who is asked to suspend a guest, and in which order it, its device model and Xen are told."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Optional, cast

import pytest
from support.hvm_guests import save_hvm

from pyxcsr import Progress, StubGuest
from pyxcsr.devicemodel import place
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.errors import (
    Cancelled,
    DeviceModelError,
    DomainDying,
    HypervisorError,
    SuspendError,
    SuspendTimeout,
    notes_on,
)
from pyxcsr.guest.hvm.save import has_pm_timer
from pyxcsr.hypervisor.interface import SHUTDOWN_SUSPEND, DomainInfo
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend import hvm, xenstore
from pyxcsr.suspend.hvm import ACPI_S_STATE, CALLBACK_IRQ, ByXen, HvmSuspend
from pyxcsr.transfer.device_model import device_model_found

DOMID = 5
CONTROL = f"/local/domain/{DOMID}/control/shutdown"
IOREQ_SERVER_PFN = 32
SHUTDOWN_REBOOT = 1


class Xen:
    """A hypervisor with one guest, whose driver suspends it as soon as it is asked."""

    backend = "xen"

    def __init__(self, kind: Optional[bytes] = None, params: Optional[dict[int, int]] = None) -> None:
        self.log: list[str] = []
        self.suspended, self.obeys = False, True
        self.params = params or {}
        self.nodes = {f"/libxl/{DOMID}/type": kind}

    def hvm_param(self, domid: int, index: int) -> int:
        return self.params.get(index, 0)

    def xenstore_read(self, path: str) -> Optional[bytes]:
        return self.nodes.get(path)

    def xenstore_write(self, path: str, value: bytes) -> None:
        assert (path, value) == (CONTROL, b"suspend")
        self.log.append("driver")
        self.nodes[path], self.suspended = b"", True

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes) -> bool:
        return False

    def domain_shutdown(self, domid: int, reason: int) -> None:
        self.log.append("Xen")
        self.suspended = self.obeys

    def domain_resume(self, domid: int) -> None:
        assert self.suspended
        self.log.append("resume")
        self.suspended = False

    def domain_info(self, domid: int) -> DomainInfo:
        return DomainInfo(DOMID, True, False, False, 2 if self.suspended else None, 1, 1, 0, 1, 0)


class Model:
    """A QEMU. ``fails``: so many times, when it is told to go on."""

    def __init__(self, log: list[str], fails: int = 0) -> None:
        self.log, self.fails = log, fails

    def check(self) -> None:
        self.log.append("check")

    def stop(self) -> None:
        self.log.append("stop")

    def go_on(self) -> None:
        self.log.append("cont")
        if self.fails:
            self.fails -= 1
            raise DeviceModelError("busy", domid=DOMID)


@pytest.mark.parametrize(
    ("kind", "params", "listens", "has"),
    [
        (b"hvm", {}, False, True),
        (b"pvh", {}, False, False),
        (b"pvh", {}, True, False),  # a QEMU for a disk
        (b"pvh", {IOREQ_SERVER_PFN: 0xFF000}, False, False),  # as with some releases of Xen
        (None, {IOREQ_SERVER_PFN: 0xFF000}, False, True),
        (None, {}, True, True),
        (None, {}, False, False),
    ],
)
def test_libxl_says_which_guests_have_a_device_model(
    monkeypatch: pytest.MonkeyPatch, kind: Optional[bytes], params: dict[int, int], listens: bool, has: bool
) -> None:
    monkeypatch.setattr(place, "has_qemu", lambda domid: listens)
    assert place.has_device_model(Xen(kind, params), DOMID) is has


@pytest.mark.parametrize(("kind", "found"), [(b"hvm", True), (b"pvh", False)])
def test_a_guests_qemu_is_found(kind: bytes, found: bool) -> None:
    """Where a save's caller has named none."""
    assert isinstance(device_model_found(cast(Any, Xen(kind)), DOMID), Qemu) is found


@pytest.mark.parametrize(("kind", "has"), [(b"hvm", True), (b"pvh", False)])
def test_a_guest_that_has_a_pm_timer(kind: bytes, has: bool) -> None:
    """Although the save's caller has said that it has no device model."""
    assert has_pm_timer(cast(Any, Xen(kind)), DOMID) is has


def test_no_qemu_of_dom0s_is_looked_for_on_the_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "has_qemu", lambda domid: True)
    xen = Xen()
    xen.backend = "stub"
    assert not place.has_device_model(xen, DOMID)


@pytest.mark.parametrize("kind", [b"pvh", b"hvm"], ids=["asked", "by Xen"])
def test_it_is_watched_until_it_is_suspended(hv: StubBackend, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    text = f"{kind.decode()}:mem=4M,pv_drivers=no" if kind == b"hvm" else "pvh:mem=4M,ack_polls=9,suspend_polls=9"
    domid = hv.stub.create(StubGuest.parse(text))
    suspended: list[bool] = []
    suspend = HvmSuspend(hv, domid, None)
    suspend.watched_by(lambda: suspended.append(hv.stub.guest(domid).suspended))
    if kind == b"hvm":  # Xen may take its time, which the stub does not
        waits = iter([False, False, False])
        monkeypatch.setattr(hv, "domain_shutdown", lambda *_: None)
        monkeypatch.setattr("pyxcsr.suspend.hvm.is_suspended", lambda info: next(waits, None) is None)
    suspend()
    assert len(suspended) >= 3 and not any(suspended)


@pytest.mark.parametrize(
    ("kind", "params", "asked"),
    [
        (b"pvh", {}, "driver"),
        (b"pvh", {IOREQ_SERVER_PFN: 0xFF000}, "driver"),  # although it has announced none
        (b"hvm", {}, "Xen"),
        (b"hvm", {CALLBACK_IRQ: 1 << 56}, "driver"),
        (b"hvm", {CALLBACK_IRQ: 1 << 56, ACPI_S_STATE: 3}, "Xen"),
    ],
)
def test_who_suspends_it(kind: bytes, params: dict[int, int], asked: str) -> None:
    xen = Xen(kind, params)
    suspend = HvmSuspend(xen, DOMID, None, timeout=1)
    suspend()
    assert xen.log == [asked]
    assert suspend.resume() and xen.log == [asked, "resume"]
    assert not suspend.resume(), "it was resumed already"


@pytest.mark.parametrize("fails", [0, 1])
def test_devices_stop_after_the_guest_and_go_on_before_it(fails: int) -> None:
    xen = Xen(b"hvm", {CALLBACK_IRQ: 1})
    suspend = HvmSuspend(xen, DOMID, Model(xen.log, fails), timeout=1)  # type: ignore[arg-type]
    suspend()
    assert suspend.resume()
    assert xen.log == ["driver", "stop", *["cont"] * (1 + fails), "resume"]


def test_a_guest_goes_on_although_its_devices_do_not() -> None:
    xen = Xen(b"hvm", {CALLBACK_IRQ: 1})
    suspend = HvmSuspend(xen, DOMID, Model(xen.log, fails=9), timeout=1)  # type: ignore[arg-type]
    suspend()
    with pytest.raises(DeviceModelError):
        suspend.resume()
    assert xen.log[-1] == "resume" and not xen.suspended


def test_suspended_by_xen_and_cancelled_meanwhile() -> None:
    xen = Xen()
    suspend = ByXen(xen, DOMID, cancel=lambda: True)
    with pytest.raises(Cancelled):
        suspend()
    assert suspend.resume() and xen.log == ["Xen", "resume"]


def test_xen_does_not_suspend_it_in_time() -> None:
    xen = Xen()
    xen.obeys = False
    suspend = ByXen(xen, DOMID, timeout=0.05)
    with pytest.raises(SuspendTimeout, match="pyxcsr recover"):
        suspend()
    assert not suspend.resume()
    xen.suspended = True  # it does so later
    assert suspend.resume(), "an attempt may have succeeded although it failed here"


@pytest.mark.parametrize(("dying", "error"), [(False, SuspendError), (True, DomainDying)])
def test_one_that_has_shut_down_is_not_waited_for(dying: bool, error: type[Exception]) -> None:
    """Xen takes the call for done, and suspends nothing."""
    xen = Xen()
    xen.obeys = False
    info = DomainInfo(DOMID, True, False, dying, SHUTDOWN_REBOOT, 1, 1, 0, 1, 0)
    xen.domain_info = lambda domid: info  # type: ignore[method-assign]
    with pytest.raises(error, match="being destroyed" if dying else "reboot") as caught:
        ByXen(xen, DOMID, timeout=60)()
    assert not isinstance(caught.value, SuspendTimeout)


def looks_that_fail(xen: Xen, failing: int, suspends_at: int) -> None:
    """The ``failing``-th look at the domain fails; Xen has suspended it at the look ``suspends_at``."""
    looks = 0
    info = xen.domain_info

    def domain_info(domid: int) -> DomainInfo:
        nonlocal looks
        looks += 1
        if looks == failing:
            raise HypervisorError("getdomaininfo", op="xc_domain_getinfolist", errno=5)
        xen.suspended = looks >= suspends_at
        return info(domid)

    xen.obeys, xen.domain_info = False, domain_info  # type: ignore[method-assign]


@pytest.mark.parametrize("failing", [2, 3])
def test_a_look_that_fails_while_xen_suspends_the_guest(failing: int) -> None:
    """Xen goes on with it. Who resumes the guest only if it is suspended now must not look too early."""
    xen = Xen()
    looks_that_fail(xen, failing, suspends_at=7)
    suspend = ByXen(xen, DOMID)
    with pytest.raises(HypervisorError) as caught:
        suspend()
    assert suspend.resume() and xen.log == ["Xen", "resume"]
    assert "besides" not in str([caught.value, *getattr(caught.value, "__notes__", [])])


def test_a_guest_that_may_be_suspended_later_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xenstore, "SECONDS_AFTER_CANCEL", 0.05)
    xen = Xen()
    looks_that_fail(xen, 3, suspends_at=10**9)
    with pytest.raises(HypervisorError) as caught:
        ByXen(xen, DOMID)()
    (left,) = notes_on(caught.value)
    assert "may suspend yet" in left and f"`pyxcsr recover {DOMID}`" in left


def test_a_shutdown_that_xen_refuses_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    xen = Xen()
    monkeypatch.setattr(hvm, "suspends_yet", lambda *_: pytest.fail("Xen has refused it"))

    def refuse(domid: int, reason: int) -> None:
        raise HypervisorError("refused", op="xc_domain_shutdown", errno=1)

    xen.domain_shutdown = refuse  # type: ignore[method-assign]
    with pytest.raises(HypervisorError, match="refused"):
        ByXen(xen, DOMID)()


def test_devices_of_a_guest_that_is_suspended_already_stop_before_it_is_copied(
    hv: StubBackend, tmp_path: Path
) -> None:
    """Whoever has suspended it may have been killed before it stopped them; what they write now would be lost."""
    domid = hv.stub.create(StubGuest.parse("hvm:mem=4M,compact=yes"))
    guest = hv.stub.guest(domid)
    guest.shut_down(SHUTDOWN_SUSPEND)
    log: list[str] = []
    suspend = HvmSuspend(hv, domid, Model(log), timeout=1)  # type: ignore[arg-type]

    def progress(now: Progress) -> None:
        assert log == ["stop"] or now.phase not in ("pass", "final"), now

    save_hvm(hv, domid, tmp_path / "s", live=False, suspend=suspend, progress=progress)
    assert log == ["stop"] and not suspend.resume(), "it is whose who has suspended it"


@pytest.mark.parametrize("left", [False, True])
def test_the_memory_of_a_suspended_guest_whose_qemu_has_ended_can_be_saved(tmp_path: Path, left: bool) -> None:
    """Its socket may be there still. A QEMU that is there and does not answer might write."""
    path = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as listener:
        if left:
            listener.bind(str(path))
    HvmSuspend(Xen(b"hvm"), DOMID, Qemu(DOMID, str(path)), timeout=1).found_suspended()
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(DeviceModelError, match="busy"):
            HvmSuspend(Xen(b"hvm"), DOMID, Qemu(DOMID, str(path), 0.05), timeout=1).found_suspended()


def test_a_guest_that_somebody_else_has_suspended_is_not_resumed() -> None:
    xen = Xen()
    xen.suspended = True
    suspend = ByXen(xen, DOMID)
    suspend()
    assert not suspend.resume() and xen.log == []
