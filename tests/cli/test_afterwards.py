"""`pyxcsr cancel` says that the guest runs on only if that was seen: by Xen, or of the stub's guests by the save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.cli import afterwards, cancel, main
from pyxcsr.control.folder import Folder
from pyxcsr.control.lock import GuestLock
from pyxcsr.hypervisor.open import StubBackend


class OnXen:
    """The stub, as if it were Xen. ``later``: is called at the second look, and then no more."""

    backend = "xen"

    def __init__(self, hv: StubBackend, later: Any = None) -> None:
        self._hv, self._later, self.looks = hv, later, 0

    def domain_info(self, domid: int) -> Any:
        self.looks += 1
        if self.looks == 2 and self._later is not None:
            self._later()
        return self._hv.domain_info(domid)

    def __enter__(self) -> OnXen:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def end(domid: int, backend: str = "xen", guest_is: Optional[str] = "running", **more: Any) -> dict[str, Any]:
    """The event of a save that was cancelled."""
    return {"event": "end", "result": "cancelled", "stream_complete": False, "notes": [], "pid": 4711, "domid": domid,
            "guest": "db1", "backend": backend, "guest_is": guest_is, **more}  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(afterwards, "BETWEEN", 0.001)


def looked(monkeypatch: pytest.MonkeyPatch, xen: Any, told: dict[str, Any], seconds: float = 30.0) -> afterwards.Seen:
    monkeypatch.setattr(afterwards, "open_hypervisor", lambda _: xen)
    return afterwards.look(told, "none", seconds)


def test_a_guest_that_runs(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    xen = OnXen(hv)
    seen = looked(monkeypatch, xen, end(domid, guest_is="suspended"))
    assert seen.well and seen.text(end(domid)) == "the guest runs on" and xen.looks == 2, "Xen counts, not the save"


def test_a_guest_that_xl_resumes_a_little_later(hv: StubBackend, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    seen = looked(monkeypatch, OnXen(hv, later=lambda: hv.domain_resume(domid)), end(domid, guest_is="suspended"))
    assert seen.well


@pytest.mark.parametrize(
    ("become", "condition", "says"),
    [
        (lambda hv, domid: hv.stub.guest(domid).shut_down(2), "suspended", "nobody has resumed it. `pyxcsr recover 1`"),
        (lambda hv, domid: hv.domain_pause(domid), "paused", "`xl unpause 1`"),
        (lambda hv, domid: hv.stub.guest(domid).shut_down(3), "crashed", "has not gone on: it is crashed"),
        (lambda hv, domid: hv.stub.guest(domid).shut_down(0), "shut down", "has not gone on: it is shut down"),
        (lambda hv, domid: hv.stub.destroy(domid), "gone", "the guest is gone"),
    ],
)  # fmt: skip
def test_a_guest_that_does_not_run(
    hv: StubBackend, quick: None, monkeypatch: pytest.MonkeyPatch, become: Any, condition: str, says: str
) -> None:
    """Whatever the save believed."""
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    become(hv, domid)
    seen = looked(monkeypatch, OnXen(hv), end(domid), seconds=0.01)
    assert (seen.guest_is, seen.well) == (condition, False) and says in seen.text(end(domid))
    if condition == "paused":
        hv.domain_unpause(domid)


def test_xen_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> None:
        raise pyxcsr.BackendUnavailable("there is no Xen here")

    monkeypatch.setattr(afterwards, "open_hypervisor", fails)
    seen = afterwards.look(end(1), "none", 0.01)
    assert not seen.well and "it is not known whether the guest runs: there is no Xen here" in seen.text(end(1))


def test_a_guest_of_the_stub_is_what_its_save_has_seen() -> None:
    for condition in "running", "suspended", None:
        seen = afterwards.look(end(1, "stub", condition), "none", 0.01)
        assert seen.well is (condition == "running") and seen.guest_is == condition


def test_a_save_by_an_older_pyxcsr_is_taken_for_one_of_xen(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says neither what it is linked with nor what the guest is."""
    old = end(hv.stub.create(StubGuest.pv64(mem="4M")))
    del old["backend"], old["guest_is"]
    assert looked(monkeypatch, OnXen(hv), old).well
    hv.domain_pause(old["domid"])
    assert looked(monkeypatch, OnXen(hv), old, seconds=0.01).guest_is == "paused"
    hv.domain_unpause(old["domid"])


def test_a_save_that_does_not_let_go(run_dir: Path, quick: None) -> None:
    """Another one of the guest is no reason to doubt."""
    import os

    lock = GuestLock(Folder(str(run_dir), make=True), 1)
    seen = afterwards.look(end(1, "stub", pid=os.getpid()), str(run_dir), 0.01)
    assert seen.held and not seen.well and f"process {os.getpid()} still holds" in seen.text(end(1, pid=os.getpid()))
    assert afterwards.look(end(1, "stub"), str(run_dir), 0.01).well
    lock.release()
    assert afterwards.look(end(1, "stub", pid=os.getpid()), str(run_dir), 0.01).well


@pytest.mark.parametrize(("condition", "expected"), [("running", 0), ("suspended", 1), (None, 1)])
def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], condition: Optional[str], expected: int
) -> None:
    class Save:
        def cancel(self, seconds: float) -> dict[str, Any]:
            return end(1, "stub", condition)

    monkeypatch.setattr(cancel, "running_save", lambda *_: Save())
    assert main.main(["cancel", "--run-dir", "none", "db1"]) == expected
    assert ("the guest runs on" in capsys.readouterr().out) is (condition == "running")
    assert main.main(["cancel", "--run-dir", "none", "--json", "db1"]) == expected
    assert json.loads(capsys.readouterr().out)["guest_is"] == condition
