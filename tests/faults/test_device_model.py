"""`pyxcsr save` of an HVM guest whose QEMU fails: each command of each save, in each way, once; and for good.

After each: the guest runs, and its device model with it; neither Xen nor QEMU tracks anything; and there is a complete
file, or none.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from devicemodel.fake_qemu import FakeQemu
from devicemodel.stub_qemu import qemu_of
from support import containers

from pyxcsr.cli import main
from pyxcsr.cli import save as command
from pyxcsr.cli.suspending import GuestParts
from pyxcsr.container.verify import verify_input
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend.hvm import HvmSuspend

GUEST = "hvm:mem=2M,writes=4,devmodel=3,compact=yes,name=guest"
SECONDS = 0.8
HOW: dict[str, list[bytes]] = {
    "refuses": [b'{"error": {"class": "GenericError", "desc": "not now"}}\n'],
    "closes": [b""],
    "is silent": [],
    "talks nonsense": [b"QEVM\n"],
}
"""What QEMU answers to a command that fails."""
FORMATS = {"libxc": [], "xl": ["--format", "xl", "--config", "config"]}
TRACK, STOP, STATE, GO_ON = "xen-set-global-dirty-log", "stop", "xen-save-devices-state", "cont"


class Script:
    """Answers for QEMU: the ``nth`` command fails as ``how`` says; ``for_good``: that, and all that follow."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.nth, self.how, self.for_good = 0, "", False
        self.qemu: Optional[FakeQemu] = None
        self.left: dict[str, Any] = {}

    def reply(self, name: str, arguments: dict[str, Any]) -> Optional[list[bytes]]:
        if name == "qmp_capabilities":
            return None
        self.seen.append(f"{name} {arguments['enable']}" if "enable" in arguments else name)
        count = len(self.seen)
        fails = count == self.nth or (self.for_good and count > self.nth > 0)
        return HOW[self.how] if fails else None


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """A QEMU behind the guest of `pyxcsr save --backend stub`, as there is one behind that of real Xen."""
    made, close = Script(), StubBackend.close
    monkeypatch.chdir(tmp_path)
    Path("config").write_bytes(containers.text_of(containers.config("hvm")))

    def parts(hv: StubBackend, domid: int, timeout: float, cancel: Any) -> GuestParts:
        qemu = Qemu(domid, "qmp", SECONDS)
        made.context = qemu_of(hv.stub.guest(domid), Path("qmp"), made.reply)  # type: ignore[attr-defined]
        made.qemu = made.context.__enter__()  # type: ignore[attr-defined]
        return GuestParts(HvmSuspend(hv, domid, qemu, timeout, cancel), qemu, qemu)

    def look(self: StubBackend) -> None:
        if self._handle is not None and self.stub.domains:
            state = self.stub.guest(self.stub.domains[-1]).state()
            names = ("running", "logdirty", "devmodel_logdirty", "devmodel_stopped")
            made.left = {**{x: getattr(state, x) for x in names}, **self.stub.leaks()}
            made.context.__exit__(None, None, None)  # type: ignore[attr-defined]
        close(self)

    monkeypatch.setattr(command, "guest_parts", parts)
    monkeypatch.setattr(StubBackend, "close", look)
    yield made


WELL = {"running": True, "logdirty": False, "devmodel_logdirty": False, "devmodel_stopped": False}


def save(script: Script, path: Path, *words: str) -> int:
    """Runs the command; its exit status."""
    script.seen = []
    return main.main(["save", "--backend", "stub", GUEST, os.fspath(path), "--quiet", *words])


def judge(script: Script, path: Path, status: int) -> None:
    """What must hold after each."""
    assert script.left == WELL, (script.seen, script.nth, script.how)
    assert path.exists() == (status == 0) and not list(path.parent.glob("*.partial"))
    if status == 0:
        with open(path, "rb") as stream:
            assert verify_input(stream).ok
        path.unlink()


@pytest.mark.parametrize("live", ["--live", "--no-live"])
@pytest.mark.parametrize("form", FORMATS)
def test_each_command_fails_once(script: Script, tmp_path: Path, form: str, live: str) -> None:
    path, words = tmp_path / "s", [live, *FORMATS[form]]
    assert save(script, path, *words) == 0
    judge(script, path, 0)
    on_off = [f"{TRACK} True", STOP, f"{TRACK} False"] if live == "--live" else [STOP]
    assert script.seen == [*on_off, *([STATE] if form == "xl" else []), GO_ON]
    good, failed = list(script.seen), []
    for nth in range(1, len(good) + 1):
        for how in HOW:
            script.nth, script.how = nth, how
            status = save(script, path, *words)
            judge(script, path, status)
            failed += [good[nth - 1]] * (status != 0)
    # what is the last to be told is told twice
    assert set(failed) == set(good) - {f"{TRACK} False", GO_ON}
    assert len(failed) == len(HOW) * len(set(failed))


@pytest.mark.parametrize("how", HOW)
def test_it_fails_for_good_from_the_first_command_on(
    script: Script, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script.nth, script.how, script.for_good = 1, how, True
    assert save(script, tmp_path / "s") == 1
    judge(script, tmp_path / "s", 1)
    assert script.seen == [f"{TRACK} True"], "to stop what has not begun would be the end of QEMU"
    assert "has a device model that" in capsys.readouterr().err


def test_a_suspended_guest_whose_devices_do_not_go_on_is_told_of(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guest itself is resumed; that its device model stands still is said."""
    script.nth, script.how, script.for_good = 2, "closes", True
    assert save(script, tmp_path / "s", "--no-live", *FORMATS["xl"]) == 1
    assert script.left == {**WELL, "devmodel_stopped": True}
    assert script.seen[:2] == [STOP, STATE] and script.seen[2:4] == [GO_ON, GO_ON]
    text = capsys.readouterr().err
    assert "is running, but its QEMU may stand still: have QEMU go on" in text
    assert "restore" not in text, "there is no image"


@pytest.mark.parametrize(("what", "says"), [("missing", "no device model that listens"), ("busy", "busy with another")])
def test_a_socket_that_is_missing_or_busy(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str,
    says: str,
) -> None:  # fmt: skip
    parts = command.guest_parts

    def with_bad_socket(*args: Any) -> GuestParts:
        made = parts(*args)
        assert script.qemu is not None
        if what == "missing":
            script.qemu.path.unlink()
        else:
            script.qemu.greets = False
        return made

    monkeypatch.setattr(command, "guest_parts", with_bad_socket)
    assert save(script, tmp_path / "s") == 2, "nothing was done"
    judge(script, tmp_path / "s", 1)
    assert says in capsys.readouterr().err and script.seen == []


def test_without_a_driver_xen_suspends_it(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.GUEST", f"{GUEST},pv_drivers=no")
    assert save(script, tmp_path / "s") == 0
    judge(script, tmp_path / "s", 0)


@pytest.mark.paths
@pytest.mark.parametrize("nth", [1, 2, 5, 35, 45])
def test_a_parameter_that_xen_does_not_tell(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], nth: int
) -> None:
    """Whether it is asked who suspends the guest, before its state is needed, or once it is suspended.

    (What fails in between, in the rehearsal of the end, is asked again.)
    """
    parts = command.guest_parts

    def with_bad_param(hv: StubBackend, *args: Any) -> GuestParts:
        hv.stub.fail("xc_hvm_param_get", nth, errno.EINVAL)
        return parts(hv, *args)

    monkeypatch.setattr(command, "guest_parts", with_bad_param)
    assert save(script, tmp_path / "s") == (2 if nth <= 2 else 1), "2: nothing was done"
    judge(script, tmp_path / "s", 1)
    assert "cannot read HVM parameter" in capsys.readouterr().err
