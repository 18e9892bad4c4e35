"""XenstoreSuspend on the stub hypervisor's guests."""

from __future__ import annotations

import time

import pytest

from pyxcsr import StubGuest, XenstoreSuspend
from pyxcsr.errors import Cancelled, DomainDying, SuspendError, SuspendTimeout
from pyxcsr.hypervisor.open import StubBackend


def guest(hv: StubBackend, **values: object) -> int:
    return hv.stub.create(StubGuest.pv64(mem="16M", **values))


def node(hv: StubBackend, domid: int) -> str:
    return hv.stub.store_read(f"/local/domain/{domid}/control/shutdown") or ""


def test_suspend_and_resume(hv: StubBackend) -> None:
    domid = guest(hv)
    suspend = XenstoreSuspend(hv, domid)
    for _ in range(2):
        suspend()
        assert hv.domain_info(domid).suspended
        assert node(hv, domid) == ""
        assert suspend.seconds_to_suspend is not None
        assert suspend.resume()
        assert not hv.domain_info(domid).shutdown


def test_a_deaf_guest(hv: StubBackend) -> None:
    domid = guest(hv, suspend="ignore")
    with pytest.raises(SuspendTimeout) as caught:
        XenstoreSuspend(hv, domid, timeout=0.2)()
    assert caught.value.acknowledged is False
    assert node(hv, domid) == "", "withdrawn"
    assert not hv.domain_info(domid).shutdown


def test_a_guest_that_only_acknowledges(hv: StubBackend) -> None:
    domid = guest(hv, suspend="ack-only")
    suspend = XenstoreSuspend(hv, domid, timeout=0.2)
    with pytest.raises(SuspendTimeout) as caught:
        suspend()
    assert caught.value.acknowledged is True
    assert suspend.resume() is False


@pytest.mark.parametrize("how", ["crash", "poweroff"])
def test_another_shutdown(hv: StubBackend, how: str) -> None:
    with pytest.raises(SuspendError, match=how):
        XenstoreSuspend(hv, guest(hv, suspend=how))()


def test_gone(hv: StubBackend) -> None:
    domid = guest(hv)
    hv.stub.destroy(domid)
    with pytest.raises(DomainDying):
        XenstoreSuspend(hv, domid)()


@pytest.mark.alone
def test_cancelled(hv: StubBackend) -> None:
    domid = guest(hv, suspend="ignore")
    start = time.monotonic()
    with pytest.raises(Cancelled):
        XenstoreSuspend(hv, domid, cancel=lambda: time.monotonic() - start > 0.1)()
    assert time.monotonic() - start < 5.0
    assert node(hv, domid) == ""


def test_cancelled_while_a_slow_guest_is_on_its_way(hv: StubBackend) -> None:
    domid = guest(hv, suspend="slow:200")
    suspend = XenstoreSuspend(hv, domid, cancel=lambda: suspend.seconds_to_acknowledge is not None)
    with pytest.raises(Cancelled, match="resumed"):
        suspend()
    assert not hv.domain_info(domid).shutdown
    assert node(hv, domid) == ""
