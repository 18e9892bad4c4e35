"""What a saver leaves that was killed, and how it is undone."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from support.judge import judge_pages, judge_rules, save_to

import pyxcsr
from pyxcsr.cli.recover import told
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend import going_on
from pyxcsr.transfer.savers import Saver, Savers

SHUTDOWN = "/local/domain/{}/control/shutdown"


def tracked(hv: StubBackend) -> int:
    """A guest whose log-dirty mode somebody left on."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    save = hv.new_save(domid, 1024, None)
    save.logdirty_enable()
    hv.stub.fail("xc_shadow_control", 1, errno.EIO)  # its end is not carried out
    save.close()
    hv.stub.clear_failures()
    assert hv.stub.guest(domid).state().logdirty
    return domid


@pytest.mark.parametrize("suspended", [True, False])
def test_a_killed_save_is_undone(hv: StubBackend, tmp_path: Path, suspended: bool) -> None:
    domid = tracked(hv)
    if suspended:
        pyxcsr.XenstoreSuspend(hv, domid)()
    done = pyxcsr.recover(hv, domid)
    assert (done.suspended, done.resumed, done.logdirty, done.left) == (suspended, suspended, "off", [])
    state = hv.stub.guest(domid).state()
    assert state.running and not state.logdirty and hv.stub.leaks() == {}
    save_to(hv, domid, tmp_path / "s")
    judge_rules(tmp_path / "s")
    judge_pages(hv, domid, tmp_path / "s")
    assert ("was resumed" in told(done)) is suspended


def test_a_guest_that_runs_elsewhere_stays_suspended(hv: StubBackend) -> None:
    domid = tracked(hv)
    pyxcsr.XenstoreSuspend(hv, domid)()
    done = pyxcsr.recover(hv, domid, resume=False)
    state = hv.stub.guest(domid).state()
    assert not state.running and not state.logdirty
    assert done.suspended and not done.resumed and "stays suspended" in told(done)


@pytest.mark.parametrize("cannot_be_read", [False, True])
def test_a_guest_that_xl_has_given_away_is_resumed_only_if_that_is_said(hv: StubBackend, cannot_be_read: bool) -> None:
    domid = tracked(hv)
    hv.stub.store_write(f"/local/domain/{domid}/name", "guest--migratedaway" if not cannot_be_read else "guest")
    pyxcsr.XenstoreSuspend(hv, domid)()
    if cannot_be_read:
        hv.stub.fail("xs_read", 3, errno.EIO)  # the first two are of the request to suspend and the cap
    done = pyxcsr.recover(hv, domid)
    hv.stub.clear_failures()
    state = hv.stub.guest(domid).state()
    assert not state.running and not state.logdirty and done.suspended and not done.resumed
    assert "--resume" in done.left[-1] and ("cannot be read" in done.left[-1]) is cannot_be_read
    assert "was resumed" not in told(done)
    assert pyxcsr.recover(hv, domid, resume=True).resumed and hv.stub.guest(domid).state().running


def test_a_request_that_nobody_waits_for_is_withdrawn(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", suspend="ignore"))
    hv.stub.store_write(SHUTDOWN.format(domid), "suspend")
    assert pyxcsr.recover(hv, domid).withdrawn
    assert hv.stub.store_read(SHUTDOWN.format(domid)) == ""
    assert hv.stub.guest(domid).state().running
    hv.stub.store_write(SHUTDOWN.format(domid), "poweroff")
    assert not pyxcsr.recover(hv, domid).withdrawn
    assert hv.stub.store_read(SHUTDOWN.format(domid)) == "poweroff"


def test_a_guest_that_is_well_is_left_alone(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    assert pyxcsr.recover(hv, domid) == pyxcsr.Recovery(domid)
    hv.domain_pause(domid)
    assert "xl unpause" in pyxcsr.recover(hv, domid).left[0]
    hv.domain_unpause(domid)


def test_a_hypervisor_without_shadow_paging(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.fail("xc_shadow_control", 1, errno.EOPNOTSUPP)
    assert pyxcsr.recover(hv, domid).logdirty == "unsupported"


def test_a_guest_that_stays_suspended_is_not_called_resumed(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    monkeypatch.setattr(going_on, "let_go_on", lambda *_: None)
    done = pyxcsr.recover(hv, domid)
    assert done.suspended and not done.resumed and "still suspended" in done.left[0]
    assert "was resumed" not in told(done)


def test_what_cannot_be_undone(hv: StubBackend) -> None:
    with pytest.raises(pyxcsr.DomainNotFound):
        pyxcsr.recover(hv, 99)
    domid = tracked(hv)
    hv.stub.fail("xc_shadow_control", 1, errno.EPERM)
    with pytest.raises(pyxcsr.HypervisorError, match="domain 1"):
        pyxcsr.recover(hv, domid)
    hv.stub.clear_failures()
    pyxcsr.recover(hv, domid)


@pytest.mark.parametrize(
    ("function", "left"),
    [("xc_shadow_control", "its writes may still be tracked"), ("xs_write", "may still be waiting")],
)
def test_a_guest_is_resumed_whatever_else_cannot_be_undone(hv: StubBackend, function: str, left: str) -> None:
    """A slow guest is better than one that stays suspended."""
    domid = tracked(hv)
    pyxcsr.XenstoreSuspend(hv, domid)()
    if function == "xs_write":
        hv.stub.store_write(SHUTDOWN.format(domid), "suspend")
    hv.stub.fail(function, 1, errno.EIO)
    done = pyxcsr.recover(hv, domid)
    hv.stub.clear_failures()
    assert done.resumed and hv.stub.guest(domid).state().running
    assert left in done.left[0] and left in told(done) and len(done.left) == 1
    assert done.logdirty == ("unknown" if function == "xc_shadow_control" else "off")
    assert ("could not be ended" in told(done)) is (done.logdirty == "unknown")


class OneSaver(Savers):
    """As if a process saved the domain."""

    def now(self) -> list[Saver]:
        return [Saver(4711, "libxl-save-helper", True)]


class OneCarrier(Savers):
    """As if xl had the guest in hand, and its helper had ended."""

    def now(self) -> list[Saver]:
        return []

    def carriers(self) -> list[Saver]:
        return [Saver(4712, "xl", None)]


def test_not_while_xl_may_give_the_guest_away(hv: StubBackend) -> None:
    """It would run here, and a moment later at the other end, too."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    pyxcsr.XenstoreSuspend(hv, domid)()
    with pytest.raises(pyxcsr.BeingSaved, match="4712"):
        pyxcsr.recover(hv, domid, savers=OneCarrier(domid))
    assert hv.domain_info(domid).suspended


def test_not_beside_a_save(hv: StubBackend) -> None:
    """Its log-dirty mode would end, and Xen would tell it that nothing is dirty any more."""
    domid = tracked(hv)
    with pytest.raises(pyxcsr.BeingSaved, match="4711") as caught:
        pyxcsr.recover(hv, domid, savers=OneSaver(domid))
    assert caught.value.untouched and caught.value.pid == 4711 and caught.value.program == "libxl-save-helper"
    assert hv.stub.guest(domid).state().logdirty
    assert pyxcsr.recover(hv, domid).logdirty == "off"
