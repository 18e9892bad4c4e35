"""What save() takes as ``suspend``, and what it makes of it."""

from __future__ import annotations

import os

import pytest

import pyxcsr
from pyxcsr.errors import SuspendError, UsageError
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend.base import PlainSuspend, Suspend, as_suspend


class Refuses(pyxcsr.Suspend):
    """Cannot suspend the guest, and says so beforehand."""

    def check(self) -> None:
        raise SuspendError("not now", domid=1)


def test_a_plain_callable_does_nothing_else() -> None:
    called: list[str] = []
    suspend = as_suspend(lambda: called.append("suspend"))
    assert isinstance(suspend, PlainSuspend)
    suspend.check()
    suspend()
    assert suspend.resume() is None
    assert called == ["suspend"]


def test_a_suspend_is_taken_as_it_is() -> None:
    suspend = Refuses()
    assert as_suspend(suspend) is suspend
    with pytest.raises(NotImplementedError):
        Suspend()()


def test_a_resume_that_nobody_would_call_is_refused() -> None:
    class Almost:
        def __call__(self) -> None: ...
        def resume(self) -> None: ...

    with pytest.raises(UsageError, match=r"Almost has a method 'resume'.*inherit"):
        as_suspend(Almost())
    with pytest.raises(UsageError, match="suspends the guest"):
        as_suspend(7)  # type: ignore[arg-type]


def test_it_is_asked_before_anything_is_copied(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with open(os.devnull, "wb") as out, pytest.raises(SuspendError, match="not now"):
        pyxcsr.save(hv, domid, out, suspend=Refuses())
    assert hv.stub.calls().get("xc_get_pfn_type_batch", 0) == 0
    assert hv.stub.guest(domid).running


@pytest.mark.parametrize("answer", [None, True, 0, "stop"])
def test_a_policy_must_return_a_decision(hv: StubBackend, answer: object) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with open(os.devnull, "wb") as out, pytest.raises(UsageError, match=r"no pyxcsr\.Decision"):
        pyxcsr.save(hv, domid, out, policy=lambda stats: answer)  # type: ignore[arg-type,return-value]
    assert hv.stub.guest(domid).running
