"""No save is made beside one by another program: Xen has one dirty bitmap for a domain, and both images would be wrong.

On the stub, as if it were Xen, and on a host whose processes are files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any, ClassVar

import pytest
from support.judge import judge, looks_complete
from support.on_xen import OnXen
from support.processes import LIBXL, PRIVCMD, Processes, only_processes

import pyxcsr
from pyxcsr.control.folder import Folder
from pyxcsr.control.lock import GuestLock
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer import others
from pyxcsr.transfer.others import Others
from pyxcsr.transfer.savers import Savers
from transfer.test_savers import LIVE, NOBODYS, started

GUEST = pyxcsr.StubGuest.pv64(mem="8M", writes=60, seed=5)
XENGUEST = "/usr/libexec/xen/bin/xenguest"
PYTHON, OURS = "/usr/bin/python3", "/usr/local/bin/pyxcsr-save-helper"
SAVE_1 = ("--save-domain", "12", "-1", "1", *LIVE)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    return folder


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Its domain is the first of the stub's: number 1, called stub-1."""
    return only_processes(tmp_path / "proc", monkeypatch)


def save(hv: StubBackend, to: Path, run_dir: object, **options: Any) -> pyxcsr.SaveReport:
    on_xen: Any = OnXen(hv)
    options = {"policy": "libxc", "control": pyxcsr.Control(str(run_dir)), **options}
    with open(to, "wb") as out:
        return pyxcsr.save(on_xen, 1, out, **options)


def made(hv: StubBackend) -> int:
    domid = hv.stub.create(GUEST)
    assert domid == 1
    return domid


def runs(hv: StubBackend) -> bool:
    state = hv.stub.guest(1).state()
    return bool(state.running and not state.logdirty)


# -- before the guest is touched


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        (LIBXL, *SAVE_1),
        (LIBXL, *SAVE_1[:4], "0", "136", "0"),
        (XENGUEST, "-debug", "-domid", "1", "-mode", "listen"),
    ],
)
def test_none_begins_beside_another(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, words: tuple[str, ...], live: bool
) -> None:
    made(hv)
    host.start(50, *words, opens="pipe:[1]")
    before = hv.stub.calls().get("xc_logdirty_control")
    with pytest.raises(pyxcsr.BeingSaved, match=r"cannot be saved: .* saves it; wait .*Nothing was done") as caught:
        save(hv, tmp_path / "s", run_dir, live=live)
    name = os.path.basename(words[0])
    assert f"{name} (process 50)" in str(caught.value) and "`kill 50`" in str(caught.value)
    assert (caught.value.pid, caught.value.program, caught.value.errno) == (50, name, errno.EBUSY)
    assert caught.value.untouched and runs(hv) and (tmp_path / "s").stat().st_size == 0
    assert hv.stub.calls().get("xc_logdirty_control") == before and list(run_dir.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        (LIBXL, *SAVE_1[:3], "2", *LIVE),
        (LIBXL, "--restore-domain", "12", "-1", "7", "3", "0", "2", "0", "136", "0"),
        (PYTHON, OURS, *SAVE_1),
        (PYTHON, "-sP", LIBXL, *SAVE_1),
        (PYTHON, "/usr/bin/pyxcsr", "save", "stub-1", "x"),
        ("less", XENGUEST),
        ("xl", "migrate", "1", "there"),
        (XENGUEST, "-mode", "listen"),
        ("xl", "create", "/etc/xen/xenguest"),
    ],
    ids=["another guest", "a restore", "ours", "ours in the place of libxl's", "our command", "a word", "xl",
         "no domain named", "another guest's name"],
)
def test_what_hinders_no_save(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, words: tuple[str, ...]
) -> None:
    """Between two through this package the lock decides: the other one is about to be refused, or is done."""
    made(hv)
    host.start(50, *words, opens="pipe:[1]")
    assert save(hv, tmp_path / "s", run_dir).warnings == []
    judge(hv, 1, tmp_path / "s", xen=False)


def test_its_ancestors_are_no_others(hv: StubBackend, host: Processes, tmp_path: Path) -> None:
    """Without a lock ours count, too; but not what has started this one, by whatever name."""
    made(hv)
    host.start(40, "sudo", "pyxcsr", "save", "1", "x")
    host.start(41, PYTHON, "/usr/bin/pyxcsr", "migrate", "1", "there", parent=40)
    host.start(42, "/bin/sh", LIBXL, *SAVE_1, parent=41)
    host.start(os.getpid(), PYTHON, OURS, *SAVE_1, parent=42)
    assert save(hv, tmp_path / "s", "none").warnings == []
    hv.domain_resume(1)
    host.start(os.getpid(), PYTHON, OURS, *SAVE_1)
    with pytest.raises(pyxcsr.BeingSaved) as caught:
        save(hv, tmp_path / "s", "none")
    assert all(f"(process {x})" in str(caught.value) for x in (40, 41, 42))


def test_without_a_lock_the_usual_one_is_asked_for(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyxcsr.transfer.savers.holder", lambda domid, _: holder(domid, str(run_dir)))
    from pyxcsr.control.lock import holder

    made(hv)
    with Folder(str(run_dir)) as folder:
        lock = GuestLock(folder, 1)
        with pytest.raises(pyxcsr.BeingSaved, match=rf"\(process {os.getpid()}\) saves it") as caught:
            save(hv, tmp_path / "s", "none")
        assert "kill" not in str(caught.value), "it is this process"
        lock.release()
    assert save(hv, tmp_path / "s", "none").warnings == []


@pytest.mark.parametrize("carried", [True, False])
def test_a_suspended_guest_that_xl_has_in_hand(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, carried: bool
) -> None:
    """Its helper has ended, and xl lets it go on, or destroys it, at any moment."""
    made(hv)
    pyxcsr.XenstoreSuspend(hv, 1)()
    host.start(50, "/usr/sbin/xl", "migrate", "stub-1" if carried else "stub-2", "there")
    if not carried:
        assert save(hv, tmp_path / "s", run_dir, live=False).warnings == []
        return
    with pytest.raises(pyxcsr.BeingSaved, match=r"xl \(process 50\)") as caught:
        save(hv, tmp_path / "s", run_dir, live=False)
    assert caught.value.untouched and hv.domain_info(1).suspended


def test_proc_cannot_be_read(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save is made all the same, and says so, once."""
    made(hv)
    host.proc.rename(tmp_path / "away")
    (warning,) = save(hv, tmp_path / "s", run_dir).warnings
    assert "it is not known whether others save domain 1, too: " in warning and "No such file" in warning
    judge(hv, 1, tmp_path / "s", xen=False)


def test_a_real_process(hv: StubBackend, tmp_path: Path) -> None:
    """By this machine's own /proc, and for a domain that no other test has."""
    on_xen: Any = OnXen(hv)
    warnings = list[str]()
    looks = Others(on_xen, NOBODYS, pyxcsr.Control("none"), warnings)
    looks.refuse(suspended=True)
    with started("--save-domain", "12", "-1", str(NOBODYS), *LIVE) as child:
        with pytest.raises(pyxcsr.BeingSaved, match=rf"libxl-save-helper \(process {child.pid}\) saves it"):
            Others(on_xen, NOBODYS, pyxcsr.Control("none"), warnings).refuse(suspended=False)
        looks.look()  # it does not open the hypervisor's device
    assert warnings == []


# -- meanwhile


def coming(act: Callable[[], None], phase: str = "pass") -> Callable[[pyxcsr.Progress], None]:
    """A callback for progress that acts once."""
    done = list[str]()

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == phase and not done:
            done.append(phase)
            act()

    return progress


@pytest.mark.parametrize("checkpointed", [None, pyxcsr.Checkpointed("20ms", count=3)], ids=["plain", "remus"])
@pytest.mark.parametrize("often", [True, False])
def test_one_that_comes_while_this_one_is_made(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch, often: bool,
    checkpointed: Any,
) -> None:  # fmt: skip
    """At the latest it is seen before the guest is asked to suspend."""
    made(hv)
    monkeypatch.setattr(others, "EVERY", 0 if often else 1e9)
    phases = list[tuple[str, int]]()
    comes = coming(lambda: host.helper(50, 1, opens=PRIVCMD))

    def progress(now: pyxcsr.Progress) -> None:
        phases.append((now.phase, now.iteration))
        comes(now)

    with pytest.raises(pyxcsr.BeingSaved, match="has begun to save domain 1 meanwhile") as caught:
        save(hv, tmp_path / "s", run_dir, progress=progress, checkpointed=checkpointed)
    text = str(caught.value)
    assert "one dirty bitmap for both" in text and "what libxl-save-helper (process 50) makes is wrong, too" in text
    assert (caught.value.pid, caught.value.program, caught.value.errno) == (50, "libxl-save-helper", errno.EBUSY)
    assert not caught.value.untouched and getattr(caught.value, "__notes__", []) == []
    assert runs(hv) and not looks_complete(tmp_path / "s")
    passes = {n for phase, n in phases if phase == "pass"}
    assert "suspend" not in dict(phases) and (passes == {0} if often else len(passes) > 1)


def test_one_that_comes_between_two_checkpoints(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(hv)
    monkeypatch.setattr(others, "EVERY", 0)
    seen = list[int]()

    def checkpoint(now: pyxcsr.Checkpoint) -> None:
        seen.append(now.number)
        if now.number == 2:
            host.helper(50, 1, opens=PRIVCMD)

    asked = pyxcsr.Checkpointed("20ms", count=50, checkpoint=checkpoint)
    with pytest.raises(pyxcsr.BeingSaved, match="has begun to save domain 1 meanwhile"):
        save(hv, tmp_path / "s", run_dir, checkpointed=asked)
    assert seen == [1, 2] and runs(hv)


def test_one_that_comes_and_suspends_the_guest(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path
) -> None:
    """It has no use for the bitmap. If this save let the guest go on, that one's image would be wrong."""
    made(hv)

    def comes() -> None:
        host.helper(50, 1, live=False)
        pyxcsr.XenstoreSuspend(hv, 1)()

    with pytest.raises(pyxcsr.BeingSaved, match="has begun to suspend and to save domain 1 meanwhile") as caught:
        save(hv, tmp_path / "s", run_dir, progress=coming(comes))
    assert "bitmap" not in str(caught.value)
    assert hv.domain_info(1).suspended and not hv.stub.guest(1).state().logdirty


def test_names_that_do_no_harm(hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path) -> None:
    """One that does not open the hypervisor's device; ours, which looks for this save itself."""
    made(hv)

    def come() -> None:
        host.helper(50, 1, opens="pipe:[1]")
        host.start(51, PYTHON, OURS, *SAVE_1, opens=PRIVCMD)
        host.start(52, PYTHON, LIBXL, *SAVE_1, opens=PRIVCMD)

    assert save(hv, tmp_path / "s", run_dir, progress=coming(come)).warnings == []
    judge(hv, 1, tmp_path / "s", xen=False)


def test_a_name_alone_is_waited_for_once(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look is short: meanwhile the guest writes what it will wait for."""
    made(hv)
    monkeypatch.setattr(others, "EVERY", 0)
    waits = list[float]()
    monkeypatch.setattr(others, "BETWEEN", others.WAIT)
    monkeypatch.setattr("pyxcsr.transfer.others.time.sleep", lambda seconds: (waits.append(seconds), sleep(seconds)))
    host.start(50, "vi", XENGUEST[1:], opens="pipe:[1]")
    host.start(51, XENGUEST, opens="pipe:[1]")
    report = save(hv, tmp_path / "s", run_dir)
    assert report.warnings == [] and len(report.passes) > 2
    assert waits.count(others.WAIT) <= 4, "one or two for each"


def test_one_that_ends_before_it_calls_xen(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its libraries are missing, or somebody pressed Ctrl-C."""
    made(hv)
    real, seen = Savers.opened, list[object]()

    def opened(self: Savers, saver: Any) -> Any:
        seen.append(real(self, saver))
        (host.proc / str(saver.pid) / "fd" / "3").unlink()
        (host.proc / str(saver.pid) / "fd").rmdir()
        return seen[-1]

    monkeypatch.setattr(Savers, "opened", lambda *x: opened(*x) if not seen else real(*x))
    comes = coming(lambda: host.helper(50, 1, opens="pipe:[1]"))
    assert save(hv, tmp_path / "s", run_dir, progress=comes).warnings == [] and seen == [False]
    judge(hv, 1, tmp_path / "s", xen=False)


def test_one_process_that_cannot_be_looked_at(
    hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are."""
    made(hv)
    real = Savers._read

    def read(self: Savers, pid: int, name: str) -> str:
        if pid == 40:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(self, pid, name)

    monkeypatch.setattr(Savers, "_read", read)
    host.start(40, "hidden")
    (warning,) = save(hv, tmp_path / "s", run_dir).warnings
    assert warning.startswith("it is not known whether process 40 saves domain 1, too")
    hv.domain_resume(1)
    host.helper(50, 1)
    with pytest.raises(pyxcsr.BeingSaved):
        save(hv, tmp_path / "s", run_dir)


def test_log_dirty_mode_that_was_on(hv: StubBackend, host: Processes, tmp_path: Path, run_dir: Path) -> None:
    """Whoever is seen then has lost it to this save; if nobody is, it may have been left on."""
    made(hv)
    other = hv.new_save(1, hv.nr_gpfns(1), None)
    other.logdirty_enable()
    (warning,) = save(hv, tmp_path / "s", run_dir).warnings
    assert warning.startswith("log-dirty mode was on already")
    hv.domain_resume(1)
    other.logdirty_enable()
    with pytest.raises(pyxcsr.BeingSaved, match="meanwhile"):
        save(hv, tmp_path / "s", run_dir, progress=coming(lambda: host.helper(50, 1), "setup"))
    assert runs(hv) and (tmp_path / "s").stat().st_size < 4096, "no page was copied"
    other.close()


class Looked(Savers):
    """Notes who was looked at."""

    seen: ClassVar[set[int]] = set()

    def among(self, pids: Any) -> Any:
        self.seen.update(pids)
        return super().among(pids)


def test_who_is_looked_at_again(
    hv: StubBackend, host: Processes, monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    """A look costs little, as most processes remain what they are: but one that was just started may become another
    program, and so may one whose number is given anew."""
    made(hv)
    on_xen: Any = OnXen(hv)
    looks = Others(on_xen, 1, pyxcsr.Control("none"), [])
    savers = looks._savers = Looked(1, proc=str(host.proc))
    now = [0.0]
    monkeypatch.setattr("pyxcsr.transfer.others.time.monotonic", lambda: now[0])
    looks._looked_at = looks._all_looked_at = 0.0

    def look() -> set[int]:
        savers.seen.clear()
        looks.look()
        return set(savers.seen)

    looks.refuse(suspended=False)
    assert savers.seen == {1}
    host.start(50, "xl", "migrate", "1", "there")
    assert look() == look() == {1, 50}, "as long as they are young"
    now[0] = others.EVERY
    assert look() == {1, 50} and look() == set()
    host.start(60, PYTHON, OURS, *SAVE_1)
    now[0] += others.EVERY
    assert look() == {60}
    now[0] += others.EVERY
    assert [look() for _ in range(3)] == [{60}] * 3, "it may hand over to Xen's own"
    now[0] = others.ANEW
    assert look() == {1, 50, 60}
    now[0] += others.EVERY
    assert look() == {1, 50, 60} and look() == {60}
    (host.proc / "50").rename(host.proc / "away")
    look()
    host.helper(50, 1)
    with pytest.raises(pyxcsr.BeingSaved):
        look()
    assert savers.seen == {50, 60}


def test_nothing_is_looked_for_where_nobody_else_can_save(
    hv: StubBackend, host: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domid = made(hv)
    host.helper(50, domid)
    monkeypatch.setattr(os, "listdir", lambda *_: pytest.fail("it was looked"))
    with open(tmp_path / "s", "wb") as out:
        assert pyxcsr.save(hv, domid, out).warnings == []
