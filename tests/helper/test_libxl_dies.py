"""libxl dies with its program: xl killed, libvirt's daemon restarted. What it has left on ends all the same."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from devicemodel.strict_qemu import NEW, OLD, Strict, listening
from support.hvm_guests import save_hvm

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.devicemodel import place, through_libxl
from pyxcsr.devicemodel import qemu as qemus
from pyxcsr.devicemodel.noted import ENDS_OVER_BOTH, path_of
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.helper import ending, resuming
from pyxcsr.helper.devicemodel import OrBySocket
from pyxcsr.helper.protocol import SWITCH_QEMU_LOGDIRTY, Channel, ChannelClosed
from pyxcsr.helper.saving import Success
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend import xenstore
from pyxcsr.suspend.xenstore import XenstoreSuspend

REQUEST = "/local/domain/{}/control/shutdown"


class Libxl:
    """The other end of the helper's pipes, in the same thread: has QEMU do what the helper says, until it dies."""

    def __init__(self) -> None:
        answers, self._answers = os.pipe()
        self._messages, messages = os.pipe()
        self._theirs = (answers, messages)
        self.channel = Channel(answers, messages, 1 << SWITCH_QEMU_LOGDIRTY)
        self.dead = self.dies_of_it = False

    def switch(self, domid: int, on: bool) -> int:
        if self.dies_of_it:  # between the message and its answer
            os.close(self._answers)
            self._answers = -1
        elif not self.dead:
            Qemu(domid).track(on)
            os.write(self._answers, struct.pack("=i", 0))
        return self.channel.switch_qemu_logdirty(domid, on)

    def die(self) -> bool:
        """True, as the save is cancelled by that."""
        for fd in (self._answers, self._messages):
            if fd >= 0:
                os.close(fd)
        self._answers = self._messages = -1
        self.dead = True
        return True

    def close(self) -> None:
        self.die()
        for fd in self._theirs:
            os.close(fd)


@pytest.fixture
def libxl() -> Iterator[Libxl]:
    libxl = Libxl()
    yield libxl
    libxl.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where QEMU listens."""
    for module in (place, qemus, through_libxl):
        monkeypatch.setattr(module, "socket_path", lambda domid: str(tmp_path / "qmp"))
    return tmp_path / "qmp"


@pytest.fixture
def domid(hv: StubBackend) -> int:
    return hv.stub.create(StubGuest.parse("hvm:mem=4M,compact=yes"))


def has_ended(hv: StubBackend, domid: int, qemu: Strict) -> None:
    assert not qemu.dead and not qemu.fake.tracking and qemu.told[0] and not qemu.told[-1]
    assert hv.xenstore_read(path_of(domid)) == b"" and not hv.stub.guest(domid).state().logdirty


@pytest.mark.parametrize("release", [OLD, ENDS_OVER_BOTH, NEW])
def test_in_a_live_pass(hv: StubBackend, domid: int, path: Path, libxl: Libxl, release: tuple[int, int]) -> None:
    with listening(path, release) as qemu:
        cancel = lambda: qemu.fake.tracking and libxl.die()  # noqa: E731
        with pytest.raises(pyxcsr.Cancelled) as caught:
            save_hvm(hv, domid, path.with_name("s"), device_model=OrBySocket(libxl.switch, domid), cancel=cancel)
        has_ended(hv, domid, qemu)
    assert getattr(caught.value, "__notes__", []) == [] and hv.stub.guest(domid).running


@pytest.mark.parametrize("release", [OLD, ENDS_OVER_BOTH, NEW])
def test_in_the_pause(hv: StubBackend, domid: int, path: Path, libxl: Libxl, release: tuple[int, int]) -> None:
    """The save is complete before it has been noticed."""

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == "tail":
            libxl.die()

    with listening(path, release) as qemu:
        model = OrBySocket(libxl.switch, domid)
        report = save_hvm(hv, domid, path.with_name("s"), device_model=model, progress=progress)
        has_ended(hv, domid, qemu)
    assert report.warnings == []


def test_before_its_answer(hv: StubBackend, domid: int, path: Path, libxl: Libxl) -> None:
    """It is not known what QEMU does: the note says so, and this release is told nothing."""

    def cancel() -> bool:
        libxl.dies_of_it = qemu.fake.tracking
        return libxl.dies_of_it

    with listening(path, ENDS_OVER_BOTH) as qemu:
        with pytest.raises(pyxcsr.Cancelled):
            save_hvm(hv, domid, path.with_name("s"), device_model=OrBySocket(libxl.switch, domid), cancel=cancel)
        assert qemu.told == [True]
    assert (hv.xenstore_read(path_of(domid)) or b"").startswith(b"asked ")


def test_with_its_qemu(hv: StubBackend, domid: int, path: Path, libxl: Libxl) -> None:
    """Then there is nobody to be told, and the error is that libxl is gone."""
    model = OrBySocket(libxl.switch, domid)
    libxl.die()
    with pytest.raises(ChannelClosed, match="cannot write to libxl"):
        model.track(False)


def test_qemu_does_not_let_anybody_in(hv: StubBackend, domid: int, path: Path, libxl: Libxl) -> None:
    """It was told nothing: the note is what it was, for `recover`."""

    def cancel() -> bool:
        qemu.shuts = qemu.fake.tracking
        return qemu.shuts and libxl.die()

    with listening(path, ENDS_OVER_BOTH) as qemu:
        with pytest.raises(pyxcsr.Cancelled) as caught:
            save_hvm(hv, domid, path.with_name("s"), device_model=OrBySocket(libxl.switch, domid), cancel=cancel)
        assert qemu.told == [True]
    assert (hv.xenstore_read(path_of(domid)) or b"").startswith(b"begun ")
    assert len(getattr(caught.value, "__notes__", ["before 3.11"])) == 1


# -- while it has the guest suspend, behind a program that does not resume it


class Asks:
    """As SuspendThroughLibxl: the guest has been asked, or not yet, when libxl dies."""

    def __init__(self, hv: StubBackend, domid: int, looks: int, direction: str = "answers") -> None:
        self._hv, self._domid, self._looks, self._direction = hv, domid, looks, direction

    def __call__(self) -> None:
        if self._direction == "answers":
            self._hv.xenstore_write(REQUEST.format(self._domid), b"suspend")
        for _ in range(self._looks):
            self._hv.domain_info(self._domid)
        raise ChannelClosed("libxl is gone", direction=self._direction)


def failed(
    hv: StubBackend, domid: int, tmp_path: Path, looks: int, direction: str = "answers"
) -> tuple[str, list[str]]:
    """What the error says, with its notes, and the log."""
    said: list[str] = []
    suspend = resuming.Resuming(hv, domid, Asks(hv, domid, looks, direction), said.append)
    with open(tmp_path / "s", "wb") as out, pytest.raises(ChannelClosed) as caught:
        pyxcsr.save(hv, domid, out, live=False, suspend=suspend)
    return " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())]), said


def test_the_guest_has_not_taken_the_request(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    hv.stub.guest(domid).set_suspend("ignore")
    assert failed(hv, domid, tmp_path, 3) == ("libxl is gone", [])
    assert hv.xenstore_read(REQUEST.format(domid)) == b"" and hv.stub.guest(domid).running


def test_the_guest_has_taken_it_and_suspends_later(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    guest = hv.stub.guest(domid)
    guest.set_suspend("ok", ack_polls=1, suspend_polls=50)
    text, said = failed(hv, domid, tmp_path, 5)
    assert text == "libxl is gone" and len(said) == 1 and "the guest goes on (PYXCSR_RESUME)" in said[0]
    for _ in range(100):  # it would suspend within these, had it not been waited for
        assert not hv.domain_info(domid).suspended


def test_the_guest_has_taken_it_and_does_not_suspend(
    hv: StubBackend, domid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xenstore, "SECONDS_AFTER_CANCEL", 0.1)
    hv.stub.guest(domid).set_suspend("ack-only")
    text, said = failed(hv, domid, tmp_path, 5)
    assert "may have been asked to suspend, and has not done so" in text and f"`pyxcsr recover {domid}`" in text
    assert said == []


def test_the_guest_powers_off_instead(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    hv.stub.guest(domid).set_suspend("poweroff")
    text, said = failed(hv, domid, tmp_path, 3)
    assert "libxl is gone" in text and "has shut down, not suspended" in text and said == []


def test_libxl_was_not_asked(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    """Then nothing is waited for."""
    began = time.monotonic()
    assert failed(hv, domid, tmp_path, 0, "messages") == ("libxl is gone", [])
    assert time.monotonic() - began < xenstore.SECONDS_AFTER_CANCEL / 2


# -- and when the suspending has failed, or the save has come to its end


class Refused(Asks):
    """As SuspendThroughLibxl where libxl answers that it has failed, and has left its request there."""

    def __call__(self) -> None:
        try:
            super().__call__()
        except ChannelClosed:
            raise pyxcsr.SuspendError("libxl did not get it to suspend") from None


@pytest.mark.parametrize("taken", [False, True])
def test_libxl_gives_up_and_leaves_its_request(hv: StubBackend, domid: int, tmp_path: Path, taken: bool) -> None:
    """The guest would suspend later, and nobody resume it."""
    guest = hv.stub.guest(domid)
    guest.set_suspend("ok" if taken else "ignore", ack_polls=1, suspend_polls=50)
    said: list[str] = []
    suspend = resuming.Resuming(hv, domid, Refused(hv, domid, 5), said.append)
    with open(tmp_path / "s", "wb") as out, pytest.raises(pyxcsr.SuspendError):
        pyxcsr.save(hv, domid, out, live=False, suspend=suspend)
    guest.set_suspend("ok")
    for _ in range(100):
        assert not hv.domain_info(domid).suspended
    assert hv.xenstore_read(REQUEST.format(domid)) == b"" and len(said) == taken


@pytest.mark.parametrize("warning", ["", "pages may be missing"])
@pytest.mark.parametrize("resumes", [True, False])
def test_a_guest_whose_image_libxl_cannot_complete_goes_on(
    hv: StubBackend, domid: int, libxl: Libxl, capfd: pytest.CaptureFixture[str], resumes: bool, warning: str
) -> None:
    """libxl's own end of the stream was to follow: nobody has a whole copy."""
    left: list[int] = []
    success = Success(libxl.channel, left.append)
    suspend = resuming.Resuming(hv, domid, XenstoreSuspend(hv, domid), lambda text: ending.warn(libxl.channel, text))
    if resumes:
        success.resume = suspend

    def complete(report: pyxcsr.SaveReport) -> None:
        report.warnings += [warning] * bool(warning)
        libxl.die()
        success(report)

    with open(os.devnull, "wb") as out:
        pyxcsr.save(hv, domid, out, live=False, suspend=suspend, complete=complete)
    assert left == [ending.EXIT_UNREPORTED] and hv.stub.guest(domid).running is resumes
    said = capfd.readouterr().err
    assert "libxl cannot be told" in said and warning in said and ("the guest goes on" in said) is resumes


def test_what_libxl_cannot_be_told_is_said_on_stderr(libxl: Libxl, capfd: pytest.CaptureFixture[str]) -> None:
    libxl.die()
    ending.warn(libxl.channel, "the guest goes on")
    assert "the guest goes on" in capfd.readouterr().err
