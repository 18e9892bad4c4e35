"""Ctrl-C once more, in the midst of what is done on the way out of a save: the guest comes first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import pytest
from support.hvm_guests import ToldDeviceModel, save_hvm, suspend_hvm

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.errors import DeviceModelError, OutputError, note, notes_on
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.plain_contexts import insist
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.suspend.base import Suspend
from pyxcsr.transfer.releasing import ended_by, release_by
from pyxcsr.transfer.throttle import Throttle

SMALL = "pvh:mem=2M,writes=5,compact=yes"


class Once:
    """Calls ``work``, but at its first call only after, or not even that, an interruption comes."""

    def __init__(self, work: Callable[..., Any], *, after: bool = False) -> None:
        self._work, self._after, self.calls = work, after, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        if self.calls == 1 and not self._after:
            raise KeyboardInterrupt("again")
        done = self._work(*args)
        if self.calls == 1:
            raise KeyboardInterrupt("again")
        return done


def fails(now: pyxcsr.Progress) -> None:
    """As a progress callback: ends the save when the guest has been suspended."""
    if now.phase == "tail":
        raise KeyboardInterrupt("first")


def created(hv: StubBackend, text: str = SMALL) -> tuple[int, StubDomain]:
    domid = hv.stub.create(StubGuest.parse(text))
    return domid, hv.stub.guest(domid)


# -- the parts


class Former(Exception):
    """As an exception before Python 3.11."""

    @property
    def add_note(self) -> None:  # type: ignore[override]
        raise AttributeError("add_note")


@pytest.mark.parametrize(("args", "text"), [(("full",), "full; besides"), ((), ""), ((5, "I/O"), "(5, 'I/O')")])
def test_what_else_went_wrong_is_kept_by_every_python(args: tuple[Any, ...], text: str) -> None:
    """In the error's text, where it has one; else beside it, as later releases have it. Not in both."""
    error = Former(*args)
    note(error, "besides")
    assert str(error) == text
    assert list(getattr(error, "__notes__", ())) == ([] if "besides" in text else ["besides"])
    assert notes_on(error) == ["besides"], "`pyxcsr cancel` asks whether there is anything left to undo"


@pytest.mark.parametrize("after", [False, True])
def test_it_is_done_to_the_end_and_then_raised(after: bool) -> None:
    done: list[int] = []
    work = Once(lambda: done.append(1), after=after)
    with pytest.raises(KeyboardInterrupt):
        insist(work)
    assert work.calls == 2 and done


def test_an_error_is_no_interruption() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise ValueError

    with pytest.raises(ValueError):
        insist(work)
    assert len(calls) == 1


@pytest.mark.parametrize("body_fails", [False, True])
def test_each_is_ended(body_fails: bool) -> None:
    ended: list[str] = []
    first, warnings = Once(lambda: ended.append("first")), list[str]()
    with pytest.raises(KeyboardInterrupt), ended_by((first, lambda: ended.append("second")), warnings):
        if body_fails:
            raise OutputError("the disk is full", errno=28)
    assert ended == ["first", "second"] and warnings == []


def test_each_is_released() -> None:
    from contextlib import ExitStack

    released: list[str] = []
    with pytest.raises(KeyboardInterrupt), ExitStack() as stack:
        release_by(stack, lambda: released.append("second"), [])
        release_by(stack, Once(lambda: released.append("first")), [])
    assert released == ["first", "second"]


# -- whole saves


class Resumed(Suspend):
    """The stub's own way, and an interruption at the first attempt to resume."""

    def __init__(self, inner: Suspend, after: bool) -> None:
        self.check, self._inner = inner.check, inner  # type: ignore[method-assign]
        self.resume = Once(inner.resume, after=after)  # type: ignore[method-assign]

    def __call__(self) -> None:
        self._inner()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("live", [True, False])
def test_the_guest_goes_on(hv: StubBackend, tmp_path: Path, live: bool, after: bool) -> None:
    domid, guest = created(hv)
    suspend = Resumed(suspend_hvm(hv, domid), after)
    with pytest.raises(KeyboardInterrupt):
        save_hvm(hv, domid, tmp_path / "s", live=live, suspend=suspend, progress=fails)
    assert suspend.resume.calls >= 1  # type: ignore[attr-defined]
    assert guest.running and hv.stub.leaks() == {}


def test_the_guest_has_its_time_back(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    domid, _ = created(hv, "pv64:mem=4M,vcpus=2")
    before = hv.domain_share(domid)
    with pytest.raises(KeyboardInterrupt), Throttle(hv, domid) as throttle:
        throttle.tighten()
        assert hv.domain_share(domid) != before
        monkeypatch.setattr(hv, "set_domain_cap", Once(hv.set_domain_cap))
        raise OutputError("the disk is full", errno=28)
    assert hv.domain_share(domid) == before


def test_nobody_is_left_to_suspend_with_nobody_to_resume_him(hv: StubBackend, tmp_path: Path) -> None:
    """The guest has acknowledged, and has not suspended yet: whoever is waiting for that presses Ctrl-C again."""
    domid, guest = created(hv, "pv64:mem=4M,writes=5")
    guest.set_suspend("ok", ack_polls=1, suspend_polls=200)
    polls: list[int] = []
    real = hv.domain_info

    class Impatient:
        """The hypervisor, seen by who suspends."""

        def __getattr__(self, name: str) -> Any:
            return getattr(hv, name)

        def domain_info(self, at: int) -> Any:
            polls.append(1)
            if len(polls) in (20, 40):
                raise KeyboardInterrupt(str(len(polls)))
            return real(at)

    suspend = pyxcsr.XenstoreSuspend(Impatient(), domid)  # type: ignore[arg-type]
    with open(os.devnull, "wb") as out, pytest.raises(KeyboardInterrupt):
        pyxcsr.save(hv, domid, out, suspend=suspend)
    assert len(polls) > 40
    for _ in range(300):
        guest.tick()
        real(domid)
    assert guest.running and not real(domid).suspended


class Interrupted(ToldDeviceModel):
    """QEMU hears that it is to stop, and whoever has told it is interrupted before it answers."""

    def track(self, on: bool) -> None:
        super().track(on)
        if not on:
            raise KeyboardInterrupt("second")


def test_a_qemu_that_may_have_heard_is_not_told_twice(hv: StubBackend, tmp_path: Path) -> None:
    domid, guest = created(hv, "hvm:mem=2M,writes=5,compact=yes,devmodel=2")
    model = Interrupted(guest)

    def policy(stats: PrecopyStats) -> Decision:
        raise DeviceModelError("whatever", domid=domid, op="test")

    with pytest.raises(KeyboardInterrupt):
        save_hvm(hv, domid, tmp_path / "s", device_model=model, policy=policy)
    assert model.told == [True, False] and guest.running
    assert not guest.state().logdirty and not guest.state().devmodel_logdirty
