"""XenstoreSuspend against a guest whose every step is scripted, on a clock that only sleeping moves."""

from __future__ import annotations

from typing import Callable

import pytest

from pyxcsr.errors import (
    Cancelled,
    DomainDying,
    DomainNotFound,
    HypervisorError,
    SuspendError,
    SuspendTimeout,
    UsageError,
    notes_on,
)
from pyxcsr.helper.outcome import notes_of
from pyxcsr.hypervisor.interface import DomainInfo
from pyxcsr.suspend import xenstore as module
from pyxcsr.suspend.xenstore import XenstoreSuspend

PATH = "/local/domain/5/control/shutdown"
POWEROFF, SUSPEND, CRASH = 0, 2, 3


def said(error: BaseException) -> str:
    """With its notes, which before Python 3.11 are part of its text."""
    return " ".join([str(error), *notes_of(error)])


class Guest:
    """A hypervisor with one guest, domain 5, and its xenstore node.

    ``script``: (seconds, action) pairs; an action is run once the time has come. ``log``: what was done to
    the guest. A guest that sees the request removed before it acknowledges never suspends.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.node: bytes | None = b""
        self.reason: int | None = None
        self.paused = self.dying = self.fails = False
        self.exists = True
        self.script: list[tuple[float, Callable[[], None]]] = []
        self.log: list[str] = []
        self.at_transaction: Callable[[], None] | None = None

    def acknowledge(self) -> None:
        if self.node == b"suspend":
            self.node = b""
            self.log.append("acknowledged")

    def shut_down(self, reason: int = SUSPEND) -> None:
        self.reason = reason
        self.log.append(f"shutdown {reason}")

    def acknowledged_shut_down(self) -> None:
        if "acknowledged" in self.log:
            self.shut_down()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        while self.script and self.script[0][0] <= self.now:
            self.script.pop(0)[1]()

    def domain_info(self, domid: int) -> DomainInfo:
        assert domid == 5
        if self.fails:
            raise HypervisorError("getdomaininfo", op="xc_domain_getinfolist", errno=5)
        if not self.exists:
            raise DomainNotFound("no domain 5", op="xc_domain_getinfolist", errno=3, domid=5)
        return DomainInfo(domid=5, hvm=False, paused=self.paused, dying=self.dying,
                          shutdown_reason=self.reason, tot_pages=16, max_pages=16, max_vcpu_id=0,
                          nr_online_vcpus=1, shared_info_mfn=9)

    def domain_resume(self, domid: int) -> None:
        assert domid == 5
        assert self.reason == SUSPEND
        self.reason = None
        self.log.append("resumed")

    def xenstore_read(self, path: str) -> bytes | None:
        assert path == PATH
        return self.node

    def xenstore_write(self, path: str, value: bytes) -> None:
        assert path == PATH
        self.node = value
        self.log.append(f"wrote {value.decode()!r}")

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes) -> bool:
        assert path == PATH
        if self.at_transaction is not None:
            self.at_transaction()
        if self.node != expected:
            return False
        self.node = new
        self.log.append("withdrawn")
        return True


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    made = Guest()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_guest_that_suspends(guest: Guest) -> None:
    guest.script = [(0.02, guest.acknowledge), (0.05, guest.shut_down)]
    suspend = XenstoreSuspend(guest, 5)
    suspend()
    assert guest.log == ["wrote 'suspend'", "acknowledged", "shutdown 2"]
    assert suspend.seconds_to_acknowledge == pytest.approx(0.02, abs=0.002)
    assert suspend.seconds_to_suspend == pytest.approx(0.05, abs=0.002)
    assert suspend.resume() is True
    assert suspend.resume() is False
    assert guest.log[3:] == ["resumed"]


def test_a_second_save_with_the_same_object(guest: Guest) -> None:
    suspend = XenstoreSuspend(guest, 5)
    for start in (0.0, 10.0):
        guest.now = start
        guest.script = [(start + 0.02, guest.acknowledge), (start + 0.05, guest.shut_down)]
        suspend()
        assert suspend.resume()
    assert guest.log.count("resumed") == 2


@pytest.mark.parametrize("node", [None, b"", b"suspend"])
def test_nodes_that_do_not_matter(guest: Guest, node: bytes | None) -> None:
    guest.node = node
    guest.script = [(0.02, guest.acknowledge), (0.05, guest.shut_down)]
    XenstoreSuspend(guest, 5)()
    assert guest.reason == SUSPEND


def test_another_request_is_not_overwritten(guest: Guest) -> None:
    guest.node = b"poweroff"
    with pytest.raises(SuspendError, match="poweroff"):
        XenstoreSuspend(guest, 5)()
    assert guest.log == []


def test_a_guest_without_a_node_after_the_request_has_acknowledged(guest: Guest) -> None:
    def remove() -> None:
        guest.node = None

    guest.script = [(0.02, remove), (0.05, guest.shut_down)]
    suspend = XenstoreSuspend(guest, 5)
    suspend()
    assert suspend.seconds_to_acknowledge == pytest.approx(0.02, abs=0.002)


def test_suspended_already(guest: Guest) -> None:
    guest.reason = SUSPEND
    suspend = XenstoreSuspend(guest, 5)
    suspend()
    assert suspend.resume() is False, "someone else suspended it"
    assert guest.log == []


def test_a_guest_that_suspends_without_acknowledging(guest: Guest) -> None:
    """The request would make it suspend again as soon as it is resumed."""
    guest.script = [(0.05, guest.shut_down)]
    XenstoreSuspend(guest, 5)()
    assert guest.log == ["wrote 'suspend'", "shutdown 2", "withdrawn"]


def test_no_acknowledgement(guest: Guest) -> None:
    guest.script = [(3.5, guest.acknowledge), (3.6, guest.acknowledged_shut_down)]
    with pytest.raises(SuspendTimeout, match="withdrawn and the guest goes on running") as caught:
        XenstoreSuspend(guest, 5, timeout=3.0)()
    assert caught.value.acknowledged is False
    assert caught.value.seconds == pytest.approx(3.0, abs=0.02)
    guest.sleep(2.0)
    assert guest.log == ["wrote 'suspend'", "withdrawn"], "the late guest did not suspend"


def test_acknowledged_in_the_last_moment(guest: Guest) -> None:
    """Between the look at the node and the transaction that would withdraw the request."""
    guest.at_transaction = guest.acknowledge
    guest.script = [(5.0, guest.shut_down)]
    suspend = XenstoreSuspend(guest, 5, timeout=3.0)
    suspend()
    assert guest.log == ["wrote 'suspend'", "acknowledged", "shutdown 2"]
    assert suspend.seconds_to_acknowledge == pytest.approx(3.0, abs=0.02)


def test_acknowledged_but_never_suspended(guest: Guest) -> None:
    guest.script = [(1.0, guest.acknowledge)]
    with pytest.raises(SuspendTimeout, match="let it go on with `pyxcsr recover 5`") as caught:
        XenstoreSuspend(guest, 5, timeout=3.0)()
    assert caught.value.acknowledged is True
    assert guest.now == pytest.approx(6.0, abs=0.02), "one timeout and the same again"


def test_resume_of_a_guest_that_suspended_after_all(guest: Guest) -> None:
    guest.script = [(1.0, guest.acknowledge), (7.0, guest.shut_down)]
    suspend = XenstoreSuspend(guest, 5, timeout=3.0)
    with pytest.raises(SuspendTimeout):
        suspend()
    assert suspend.resume() is False, "it still runs"
    guest.sleep(2.0)
    assert suspend.resume() is True
    assert guest.log[-1] == "resumed"


def test_no_resume_of_a_guest_that_somebody_else_suspended_later(guest: Guest) -> None:
    suspend = XenstoreSuspend(guest, 5, timeout=3.0)
    with pytest.raises(SuspendTimeout):
        suspend()
    guest.shut_down()
    assert suspend.resume() is False


@pytest.mark.parametrize(
    ("reason", "name"),
    [(POWEROFF, "poweroff"), (1, "reboot"), (CRASH, "crash"), (4, "watchdog"), (9, "unknown")],
)
@pytest.mark.parametrize("when", [0.0, 0.5])
def test_another_shutdown(guest: Guest, reason: int, name: str, when: float) -> None:
    if when:
        guest.script = [(when, lambda: guest.shut_down(reason))]
    else:
        guest.reason = reason
    with pytest.raises(SuspendError, match=name) as caught:
        XenstoreSuspend(guest, 5)()
    assert not isinstance(caught.value, SuspendTimeout)
    assert (caught.value.domid, caught.value.reason) == (5, reason)
    assert "resumed" not in guest.log


@pytest.mark.parametrize("attribute", ["dying", "exists"])
@pytest.mark.parametrize("when", [0.0, 0.5])
def test_a_domain_that_dies(guest: Guest, attribute: str, when: float) -> None:
    def die() -> None:
        setattr(guest, attribute, attribute == "dying")

    if when:
        guest.script = [(when, die)]
    else:
        die()
    with pytest.raises(DomainDying) as caught:
        XenstoreSuspend(guest, 5)()
    assert caught.value.domid == 5
    assert guest.now == pytest.approx(when, abs=0.02)


def test_paused(guest: Guest) -> None:
    guest.paused = True
    with pytest.raises(SuspendError, match="unpause"):
        XenstoreSuspend(guest, 5)()
    assert guest.log == []


def test_cancelled_before_the_acknowledgement(guest: Guest) -> None:
    guest.script = [(1.2, guest.acknowledge), (1.3, guest.acknowledged_shut_down)]
    with pytest.raises(Cancelled, match="withdrawn") as caught:
        XenstoreSuspend(guest, 5, cancel=lambda: guest.now >= 1.0)()
    assert caught.value.acknowledged is False
    assert guest.now < 1.1
    guest.sleep(1.0)
    assert guest.log == ["wrote 'suspend'", "withdrawn"]


def test_cancelled_after_the_acknowledgement(guest: Guest) -> None:
    """It is on its way: it must not be left suspended with nobody there to resume it."""
    guest.script = [(0.5, guest.acknowledge), (2.0, guest.shut_down)]
    suspend = XenstoreSuspend(guest, 5, cancel=lambda: guest.now >= 1.0)
    with pytest.raises(Cancelled, match="resumed when it had suspended") as caught:
        suspend()
    assert caught.value.acknowledged is True
    assert guest.log == ["wrote 'suspend'", "acknowledged", "shutdown 2", "resumed"]
    assert suspend.resume() is False


def test_cancelled_in_the_last_moment_before_the_acknowledgement(guest: Guest) -> None:
    guest.at_transaction = guest.acknowledge
    guest.script = [(1.5, guest.shut_down)]
    with pytest.raises(Cancelled):
        XenstoreSuspend(guest, 5, cancel=lambda: guest.now >= 1.0)()
    assert guest.log == ["wrote 'suspend'", "acknowledged", "shutdown 2", "resumed"]


def test_cancelled_and_the_guest_stays_on_its_way(guest: Guest) -> None:
    guest.script = [(0.5, guest.acknowledge)]
    with pytest.raises(Cancelled) as caught:
        XenstoreSuspend(guest, 5, cancel=lambda: guest.now >= 1.0)()
    assert guest.now == pytest.approx(1.0 + module.SECONDS_AFTER_CANCEL, abs=0.05)
    (left,) = notes_on(caught.value)
    assert "may stop running later: it acknowledged" in left and "`pyxcsr recover 5`" in left
    assert caught.value.acknowledged is True


def test_a_guest_that_stays_on_its_way_after_ctrl_c(guest: Guest) -> None:
    def interrupt() -> bool:
        if guest.now >= 1.0:
            raise KeyboardInterrupt
        return False

    guest.script = [(0.5, guest.acknowledge)]
    with pytest.raises(KeyboardInterrupt) as caught:
        XenstoreSuspend(guest, 5, cancel=interrupt)()
    (left,) = notes_on(caught.value)
    assert "may stop running later: it acknowledged" in left and "`pyxcsr recover 5`" in left


def test_a_suspend_wins_over_a_cancel_seen_at_the_same_time(guest: Guest) -> None:
    guest.script = [(0.5, guest.acknowledge), (0.5, guest.shut_down)]
    suspend = XenstoreSuspend(guest, 5, cancel=lambda: guest.now >= 0.5)
    suspend()
    assert suspend.resume(), "the caller, who polls cancel as well, can bring it back"


@pytest.mark.parametrize("acknowledged", [False, True])
def test_ctrl_c(guest: Guest, acknowledged: bool) -> None:
    def interrupt() -> bool:
        if guest.now >= 1.0:
            raise KeyboardInterrupt
        return False

    if acknowledged:
        guest.script = [(0.5, guest.acknowledge), (2.0, guest.shut_down)]
    with pytest.raises(KeyboardInterrupt):
        XenstoreSuspend(guest, 5, cancel=interrupt)()
    assert guest.log[1:] == (["acknowledged", "shutdown 2", "resumed"] if acknowledged else ["withdrawn"])


def test_an_error_of_the_hypervisor_is_the_one_reported(guest: Guest) -> None:
    def fail() -> None:
        guest.fails = True

    guest.script = [(1.0, fail)]
    with pytest.raises(HypervisorError) as caught:
        XenstoreSuspend(guest, 5)()
    assert caught.value.errno == 5
    assert guest.log == ["wrote 'suspend'", "withdrawn"]


def test_a_failed_withdrawal_does_not_hide_the_first_error(guest: Guest) -> None:
    def fail() -> None:
        guest.fails = True

    def fail_too() -> None:
        raise HypervisorError("xenstore is gone", op="xs_transaction_start", errno=32)

    guest.script = [(1.0, fail)]
    guest.at_transaction = fail_too
    with pytest.raises(HypervisorError) as caught:
        XenstoreSuspend(guest, 5)()
    assert caught.value.op == "xc_domain_getinfolist"
    text = said(caught.value)
    assert "xenstore is gone" in text and "may stop running later" in text and "`pyxcsr recover 5`" in text


def test_a_withdrawal_that_fails_once_is_tried_again(guest: Guest) -> None:
    def fail() -> None:
        guest.fails = True

    def fail_once() -> None:
        guest.at_transaction = None
        raise HypervisorError("xenstore is slow", op="xs_transaction_start", errno=11)

    guest.script = [(1.0, fail)]
    guest.at_transaction = fail_once
    with pytest.raises(HypervisorError) as caught:
        XenstoreSuspend(guest, 5)()
    assert guest.log == ["wrote 'suspend'", "withdrawn"] and "besides" not in said(caught.value)


def test_a_request_that_xenstore_refuses_was_never_made(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest is not waited for, and nothing is said of what it might do."""

    def refuse(path: str, value: bytes) -> None:
        raise HypervisorError("the quota is exceeded", op="xs_write", errno=28)

    monkeypatch.setattr(guest, "xenstore_write", refuse)
    with pytest.raises(HypervisorError) as caught:
        XenstoreSuspend(guest, 5)()
    assert said(caught.value) == "the quota is exceeded" and guest.now == 0 and guest.log == []


def test_after_an_error_a_guest_that_may_suspend_yet_is_told_of(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left then who would resume it."""

    def fails_once(domid: int) -> DomainInfo:
        monkeypatch.undo()
        monkeypatch.setattr(module, "time", guest)
        raise HypervisorError("getdomaininfo", op="xc_domain_getinfolist", errno=5)

    guest.script = [(0.5, guest.acknowledge), (1.0, lambda: monkeypatch.setattr(guest, "domain_info", fails_once))]
    with pytest.raises(HypervisorError) as caught:
        XenstoreSuspend(guest, 5)()
    text = said(caught.value)
    assert "domain 5 may stop running later" in text and "has not suspended yet" in text


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"timeout": -1.0}, {"poll": 0}])
def test_nonsense(guest: Guest, arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="greater than 0"):
        XenstoreSuspend(guest, 5, **arguments)


def test_the_wait_grows_cheaper(guest: Guest) -> None:
    """A guest that takes long is not asked 1000 times a second for a minute."""
    looks = []

    def count() -> bool:
        looks.append(guest.now)
        return False

    with pytest.raises(SuspendTimeout):
        XenstoreSuspend(guest, 5, timeout=60.0, cancel=count)()
    assert 6000 < len(looks) < 8000
    assert looks[1] - looks[0] == pytest.approx(0.001)
