"""A guest that changes its p2m's structure while it is saved: the save is cancelled, and the guest goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge, looks_complete, save_to

import pyxcsr
from pyxcsr.guest.pv.p2m import generation
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.save import save

Action = Callable[[Any], None]


def at(function: str, nth: int, action: Callable[[], None]) -> Callable[[str, int], None]:
    """A hook that acts at the entry of the n-th call of a function."""
    seen = 0

    def hook(name: str, count: int) -> None:
        nonlocal seen
        seen += name == function
        if name == function and seen == nth:
            action()

    return hook


CHANGES: dict[str, Action] = {
    "generation only": lambda g: g.bump_generation(2),
    "odd, in progress": lambda g: g.bump_generation(1),
    "a leaf replaced": lambda g: g.replace_leaf(1),
    "list moved": lambda g: g.move_p2m(0xFFFFC91000000000, True),
}

# (name, live, function at whose n-th call it happens)
MOMENTS: list[tuple[str, bool, str, int]] = [
    ("in the first pass", True, "xc_get_pfn_type_batch", 3),
    ("between passes", True, "xc_logdirty_control", 1),
    ("in a later pass", True, "xc_get_pfn_type_batch", 6),
    ("after suspend, before the last pass", True, "xc_logdirty_control", 5),
    ("between setup and suspend", True, "xs_write", 1),
    ("non-live, between setup and suspend", False, "xs_write", 1),
    ("non-live, in the only pass", False, "xc_get_pfn_type_batch", 2),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda x: x[0])
def test_cancelled(hv: StubBackend, tmp_path: Path, change: str, moment: tuple[str, bool, str, int]) -> None:
    _, live, function, nth = moment
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", writes=100))
    guest = hv.stub.guest(domid)
    before = guest.shared_info("p2m_generation")
    acted: list[int] = []

    def act() -> None:
        CHANGES[change](guest)
        acted.append(guest.shared_info("p2m_generation"))

    with hv.stub.hook(at(function, nth, act)), pytest.raises(pyxcsr.P2mChanged) as caught:
        save_to(hv, domid, tmp_path / "s", live=live, p2m_changes="abort")
    assert acted, "nothing happened: this test tests nothing"
    assert (caught.value.before, caught.value.after) == (before, acted[0])
    assert "p2m generation count changed. Migration aborted." in str(caught.value)
    assert str(before) in str(caught.value) and str(acted[0]) in str(caught.value)
    assert guest.running
    assert hv.stub.leaks() == {}
    assert not looks_complete(tmp_path / "s")


def test_the_command_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyxcsr.cli import main
    from pyxcsr.cli import save as command

    def save_and_change(hv: StubBackend, domid: int, fd: int, **options: Any) -> Any:
        guest = hv.stub.guest(domid)
        with hv.stub.hook(at("xc_logdirty_control", 1, lambda: guest.replace_leaf(0))):
            return save(hv, domid, fd, **options)

    monkeypatch.setattr(command, "save", save_and_change)
    words = ["save", "--backend", "stub", "--p2m-changes=abort", "pv64:mem=16M", os.fspath(tmp_path / "file")]
    status = main.main(words)
    assert status == 1
    assert list(tmp_path.iterdir()) == []


def test_a_change_during_the_walk_is_walked_again(hv: StubBackend, tmp_path: Path) -> None:
    """The list moves while it is being read: what was read is thrown away, and the save goes on with the new one."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M"))
    guest = hv.stub.guest(domid)
    moves = iter([0xFFFFC91000000000, 0xFFFFC92000345000, 0xFFFFC93000000000])
    maps = 0

    def move(name: str, count: int) -> None:
        nonlocal maps
        maps += name == "xenforeignmemory_map"
        if name == "xenforeignmemory_map" and maps in (4, 9, 14):
            guest.move_p2m(next(moves), True)

    with hv.stub.hook(move):
        report = save_to(hv, domid, tmp_path / "s", p2m_changes="abort")
    assert next(moves, None) is None
    assert report.p2m_generation == guest.shared_info("p2m_generation") == 6
    judge(hv, domid, tmp_path / "s")


def test_a_walk_that_is_always_overtaken_gives_up(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)

    def restless(name: str, count: int) -> None:
        if name == "xenforeignmemory_map":
            guest.bump_generation(2)

    with hv.stub.hook(restless), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mChanged):
        save(hv, domid, out, p2m_changes="abort")
    assert guest.running


def test_odd_at_first_is_waited_for(hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)
    guest.set_generation(7)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            guest.set_generation(8)

    monkeypatch.setattr(generation.time, "sleep", sleep)
    report = save_to(hv, domid, tmp_path / "s", p2m_changes="abort")
    assert report.p2m_generation == 8 and len(slept) >= 3
    judge(hv, domid, tmp_path / "s", xen=False)


def test_odd_for_ever_is_an_error(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "SETTLE_SECONDS", 0.02)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.guest(domid).set_generation(7)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mError, match="odd") as caught:
        save(hv, domid, out, p2m_changes="abort")
    assert caught.value.field == "p2m_generation" and caught.value.value == 7
    assert hv.stub.guest(domid).running


def test_waiting_can_be_cancelled(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "SETTLE_SECONDS", 60.0)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.guest(domid).set_generation(1)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.Cancelled):
        save(hv, domid, out, cancel=lambda: True)
