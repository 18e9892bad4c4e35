"""`pyxcsr save`, once the image is complete: what fails then costs neither the image nor, in silence, the guest."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge_rules

from pyxcsr.cli import main
from pyxcsr.cli import save as command
from pyxcsr.control.folder import Folder
from pyxcsr.control.lock import holder_of
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend.hvm import HvmSuspend

GUEST = "pv64:mem=8M,writes=20"


class Seen:
    """The guest that the command makes; ``state``: what it was when the hypervisor was closed."""

    hv: StubBackend
    domid: int
    state: str


def look(domid: int, hv: StubBackend) -> str:
    guest = hv.domain_info(domid)
    return "suspended" if guest.suspended else "paused" if guest.paused else "running"


@pytest.fixture
def seen(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, seen, opened = command.find_domain, Seen(), command.opened

    def find(hv: Any, domain: str) -> int:
        seen.hv, seen.domid = hv, found(hv, domain)
        return seen.domid

    class Opened:
        def __init__(self, *words: Any) -> None:
            self._within = opened(*words)

        def __enter__(self) -> Any:
            return self._within.__enter__()

        def __exit__(self, *error: Any) -> Any:
            domains = seen.hv.stub.domains
            seen.state = look(seen.domid, seen.hv) if seen.domid in domains else "gone"
            return self._within.__exit__(*error)

    monkeypatch.setattr(command, "find_domain", find)
    monkeypatch.setattr(command, "opened", Opened)
    return seen


def failing(monkeypatch: pytest.MonkeyPatch, seen: Seen, name: str, times: list[int]) -> None:
    found = command.find_domain

    def find(hv: Any, domain: str) -> int:
        domid = found(hv, domain)
        for nth in times:
            hv.stub.fail(name, nth, errno.EIO)
        return domid

    monkeypatch.setattr(command, "find_domain", find)


def save(file: Path, *words: str) -> int:
    return main.main(["save", "--backend", "stub", GUEST, str(file), "--quiet", *words])


def test_a_guest_that_cannot_be_resumed_leaves_its_image(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, seen, "xc_domain_resume", list(range(1, 9)))
    assert save(tmp_path / "s") == 1
    text = capsys.readouterr().err
    assert f"{tmp_path}/s is complete all the same; domain {seen.domid} stays suspended" in text
    assert "pyxcsr recover" in text and seen.state == "suspended"
    judge_rules(tmp_path / "s", xen=False)
    assert [x.name for x in tmp_path.iterdir()] == ["s"]


def test_a_resume_that_fails_once(tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, seen, "xc_domain_resume", [1])
    assert save(tmp_path / "s") == 0 and seen.state == "running"
    judge_rules(tmp_path / "s", xen=False)


def test_a_guest_that_runs_although_a_later_step_failed(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, seen, "xs_resume_domain", [1])
    assert save(tmp_path / "s") == 1
    text = capsys.readouterr().err
    assert f"is complete all the same; domain {seen.domid} is running" in text and "suspended" not in text
    assert seen.state == "running"
    judge_rules(tmp_path / "s", xen=False)


@pytest.mark.parametrize("then", ["resume", "pause"])
def test_with_the_container_of_xl(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], then: str
) -> None:
    failing(monkeypatch, seen, "xc_domain_resume", list(range(1, 9)))
    (tmp_path / "c.json").write_text('{"c_info": {"type": "pv", "name": "stub-1"}, "b_info": {"type.pv": {}}}')
    words = ("--format", "xl", "--config", str(tmp_path / "c.json"), "--then", then)
    assert save(tmp_path / "s", *words) == 1 and (tmp_path / "s").exists()
    assert "is complete all the same" in capsys.readouterr().err and seen.state == "suspended"


def test_a_guest_that_cannot_be_paused(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, seen, "xc_domain_pause", [1])
    assert save(tmp_path / "s", "--then", "pause") == 1
    assert f"is complete all the same; domain {seen.domid} is running" in capsys.readouterr().err
    assert seen.state == "running"
    judge_rules(tmp_path / "s", xen=False)


def test_devices_that_do_not_go_on(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyxcsr.errors import DeviceModelError

    real = HvmSuspend.resume

    def resume(self: HvmSuspend) -> bool:
        real(self)
        raise DeviceModelError("QEMU has gone", domid=seen.domid)

    monkeypatch.setattr(HvmSuspend, "resume", resume)
    words = ["save", "--backend", "stub", "hvm:mem=8M,writes=20", str(tmp_path / "s"), "--quiet"]
    assert main.main(words) == 1 and seen.state == "running"
    text = capsys.readouterr().err
    assert "is running, but its QEMU may stand still" in text and "restore" not in text, "the image lacks the devices"
    judge_rules(tmp_path / "s", xen=False)


def at_first_sync(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Does it while the complete file is being synced."""
    real, acts = os.fsync, [act]

    def fsync(fd: int) -> None:
        if acts:
            acts.pop()()
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)


def test_ctrl_c_while_the_file_is_synced_keeps_the_guest(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_first_sync(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert save(tmp_path / "s", "--then", "destroy") == 128 + signal.SIGINT
    assert seen.state == "running" and f"domain {seen.domid} is not destroyed" in capsys.readouterr().err
    judge_rules(tmp_path / "s", xen=False)


def test_a_guest_that_somebody_resumes_meanwhile_is_not_destroyed(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_first_sync(monkeypatch, lambda: seen.hv.domain_resume(seen.domid))
    assert save(tmp_path / "s", "--then", "destroy") == 1
    assert seen.state == "running" and "it is not as it was saved, but running" in capsys.readouterr().err
    judge_rules(tmp_path / "s", xen=False)


def test_a_guest_that_cannot_be_destroyed(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, seen, "xc_domain_destroy", [1])
    assert save(tmp_path / "s", "--then", "destroy") == 1 and seen.state == "suspended"
    assert f"the stream is complete; domain {seen.domid} stays suspended" in capsys.readouterr().err
    judge_rules(tmp_path / "s", xen=False)


def no_space(fd: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("times", [1, 8])
def test_a_file_that_cannot_be_kept_costs_no_guest(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    failing(monkeypatch, seen, "xc_domain_resume", list(range(1, times + 1)))
    monkeypatch.setattr(os, "fsync", no_space)
    assert save(tmp_path / "s", "--then", "pause") == 1 and list(tmp_path.iterdir()) == []
    text = capsys.readouterr().err
    assert seen.state == ("running" if times == 1 else "suspended")
    assert (f"let it go on with `pyxcsr recover {seen.domid}`" in text) is (times > 1)


@pytest.mark.parametrize("then", ["resume", "destroy"])
def test_nobody_else_saves_it_until_it_is_known_what_becomes_of_it(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    held: list[bool] = []

    def locked() -> None:
        with Folder(str(tmp_path / "run")) as folder:
            held.append(holder_of(folder, seen.domid) is not None)

    def destroyer(*words: Any) -> Callable[[], None]:
        def destroy() -> None:
            locked()
            made()
            locked()

        made = real(*words)
        return destroy

    real = command.destroyer
    monkeypatch.setattr(command, "destroyer", destroyer)
    at_first_sync(monkeypatch, locked)
    assert save(tmp_path / "s", "--then", then, "--run-dir", str(tmp_path / "run")) == 0
    locked()
    assert held == ([True, True, True, False] if then == "destroy" else [False, False])
    assert [x.name for x in (tmp_path / "run").iterdir()] == []
