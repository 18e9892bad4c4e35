"""A save of an HVM guest is killed: its QEMU goes on telling Xen which pages it writes, until `pyxcsr recover` or the
next save ends that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from devicemodel.fake_qemu import FakeQemu
from devicemodel.stub_qemu import qemu_of
from support.hvm_guests import judge_hvm, save_hvm

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.cli.recover import told
from pyxcsr.devicemodel.noted import ASKED, ENDS_OVER_BOTH, Noted, path_of
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.devicemodel.told import Told
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer import recovery


@pytest.fixture
def domid(hv: StubBackend) -> int:
    return hv.stub.create(StubGuest.parse("hvm:mem=8M,devmodel=50,compact=yes"))


@pytest.fixture
def qemu(hv: StubBackend, domid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQemu]:
    """The guest's, which recover finds as it finds one of Xen's guests."""
    monkeypatch.setattr(recovery, "qemu_of", lambda hv, domid: Qemu(domid, str(tmp_path / "qmp")))
    with qemu_of(hv.stub.guest(domid), tmp_path / "qmp") as qemu:
        yield qemu


def killed(hv: StubBackend, domid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that comes to an end in which it does nothing to QEMU and to its note any more."""
    with monkeypatch.context() as patch, pytest.raises(pyxcsr.Cancelled):
        patch.setattr(Told, "end_beside_others", lambda self: None)
        model = Qemu(domid, str(tmp_path / "qmp"))
        tracked = hv.stub.guest(domid)
        save_hvm(hv, domid, tmp_path / "s", device_model=model, cancel=lambda: tracked.state().devmodel_logdirty)
    assert hv.stub.guest(domid).state().devmodel_logdirty


def is_well(hv: StubBackend, domid: int) -> bool:
    state = hv.stub.guest(domid).state()
    return state.running and state.device_model and not state.devmodel_logdirty and not state.logdirty


def test_recovered(
    hv: StubBackend, domid: int, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(hv, domid, tmp_path, monkeypatch)
    done = pyxcsr.recover(hv, domid)
    assert is_well(hv, domid) and (done.device_model, done.left) == ("off", [])
    assert "its QEMU told Xen which pages it writes, and does so no more" in told(done)
    before = list(qemu.names())
    again = pyxcsr.recover(hv, domid)
    assert again == pyxcsr.Recovery(domid) and "QEMU" not in told(again) and qemu.names() == before, "once"
    save_hvm(hv, domid, tmp_path / "s", device_model=Qemu(domid, str(tmp_path / "qmp")))
    judge_hvm(hv, domid, tmp_path / "s", xen=False)


def test_the_next_save(
    hv: StubBackend, domid: int, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(hv, domid, tmp_path, monkeypatch)
    report = save_hvm(hv, domid, tmp_path / "s", device_model=Qemu(domid, str(tmp_path / "qmp")))
    judge_hvm(hv, domid, tmp_path / "s", xen=False)
    hv.domain_resume(domid)
    assert report.warnings == [] and is_well(hv, domid) and hv.xenstore_read(path_of(domid)) == b""


def test_a_qemu_that_was_started_anew_is_left_alone(
    hv: StubBackend, domid: int, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(hv, domid, tmp_path, monkeypatch)
    hv.stub.guest(domid).devmodel_logdirty(False)
    (tmp_path / "qmp").rename(tmp_path / "old")
    with qemu_of(hv.stub.guest(domid), tmp_path / "qmp") as anew:
        assert pyxcsr.recover(hv, domid).device_model is None and anew.commands == [] and is_well(hv, domid)
    (tmp_path / "old").rename(tmp_path / "qmp")


def test_one_that_does_not_answer(
    hv: StubBackend, domid: int, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is recovered, and the next try ends it."""
    killed(hv, domid, tmp_path, monkeypatch)
    hv.stub.guest(domid).shut_down(2)
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "qemu_of", lambda hv, domid: Qemu(domid, str(tmp_path / "qmp"), 0.1))
        qemu.greets = False
        done = pyxcsr.recover(hv, domid)
    assert done.resumed and done.device_model is None and "may go on telling Xen which pages" in done.left[0]
    qemu.greets = True
    assert pyxcsr.recover(hv, domid).device_model == "off" and is_well(hv, domid)


@pytest.mark.parametrize("resume", [False, True])
def test_of_a_suspended_guest(
    hv: StubBackend, domid: int, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """Its QEMU stands still, and only notes the wish to stop, until the guest goes on."""
    killed(hv, domid, tmp_path, monkeypatch)
    hv.stub.guest(domid).shut_down(2)
    done = pyxcsr.recover(hv, domid, resume=resume)
    assert done.device_model == "off" and done.resumed is resume
    assert ("it does when the guest goes on, if not before" in told(done)) is not resume
    assert ("does so no more" in told(done)) is resume


def test_qemu_6_2_of_which_it_is_not_known_what_it_does(
    hv: StubBackend, domid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told nothing. The guest can still be saved in a way that does not need it to be told."""
    model = Qemu(domid, str(tmp_path / "qmp"))
    monkeypatch.setattr(recovery, "qemu_of", lambda hv, domid: model)
    with qemu_of(hv.stub.guest(domid), tmp_path / "qmp", version=ENDS_OVER_BOTH) as qemu:
        Noted(hv, domid, model, print).put(ASKED)
        done = pyxcsr.recover(hv, domid)
        assert done.device_model is None and len(done.left) == 1
        assert "the save ended, or was killed, before QEMU had answered" in done.left[0]
        assert "until it has another QEMU the guest cannot be saved live: `xl save` and `xl restore`" in done.left[0]
        with pytest.raises(pyxcsr.DeviceModelError, match="until it has another QEMU the guest cannot be saved live"):
            save_hvm(hv, domid, tmp_path / "s", device_model=model)
        assert is_well(hv, domid)
        save_hvm(hv, domid, tmp_path / "s", device_model=model, live=False)
        assert "xen-set-global-dirty-log" not in qemu.names()
    judge_hvm(hv, domid, tmp_path / "s", xen=False)


def test_the_note_goes_with_the_domain(
    hv: StubBackend, domid: int, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(hv, domid, tmp_path, monkeypatch)
    assert (hv.xenstore_read(path_of(domid)) or b"").startswith(b"begun ")
    hv.domain_destroy(domid)
    assert hv.xenstore_read(path_of(domid)) is None
