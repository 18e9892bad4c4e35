"""Processor time taken from a guest and given back: by steps, on every way out, and by recover after a SIGKILL."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

import pyxcsr
from pyxcsr.cli.recover import told
from pyxcsr.hypervisor.interface import Share
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.cap import CapRecord, path_of, read_record
from pyxcsr.transfer.throttle import Throttle

SCHEDULERS = ("credit2", "credit")


@pytest.fixture(params=SCHEDULERS)
def domid(request: pytest.FixtureRequest, hv: StubBackend) -> int:
    """A guest with two vcpus."""
    hv.stub.reset(scheduler=request.param)
    return hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", vcpus=2, writer="none"))


def cap_of(hv: StubBackend, domid: int) -> int:
    return hv.stub.guest(domid).state().sched_cap


def test_step_by_step(hv: StubBackend, domid: int) -> None:
    throttle = Throttle(hv, domid)
    throttle.check()
    assert (cap_of(hv, domid), throttle.taken) == (0, 0.0)
    seen = []
    for _ in range(11):
        taken = throttle.tighten()
        assert throttle.taken == taken
        seen.append((round(taken, 2), cap_of(hv, domid)))
    assert [x for x, _ in seen] == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.99, 0.99]
    assert [y for _, y in seen][:3] == [160, 140, 120] and seen[-1][1] == 2
    assert hv.stub.guest(domid).state().sched_weight == 256
    throttle.release()
    assert (cap_of(hv, domid), throttle.taken, throttle.left) == (0, 0.0, None)
    hv.stub.clear_calls()
    throttle.release()
    assert hv.stub.calls() == {}


def test_a_cap_that_it_has_is_the_whole(hv: StubBackend, domid: int) -> None:
    hv.set_domain_cap(domid, hv.scheduler(), 50)
    with Throttle(hv, domid, start=0.5, step=0.25) as throttle:
        throttle.tighten()
        assert cap_of(hv, domid) == 25
        throttle.tighten()
        assert cap_of(hv, domid) == 12
    assert cap_of(hv, domid) == 50


def test_never_below_one(hv: StubBackend, domid: int) -> None:
    """A cap of 0 is none at all."""
    hv.set_domain_cap(domid, hv.scheduler(), 3)
    with Throttle(hv, domid, start=0.9) as throttle:
        throttle.tighten()
        assert cap_of(hv, domid) == 1
    assert cap_of(hv, domid) == 3


def test_nothing_is_changed_before_the_first_step(hv: StubBackend, domid: int) -> None:
    with Throttle(hv, domid) as throttle:
        throttle.check()
    assert not {x for x in hv.stub.calls() if x.endswith("_set")} and hv.stub.store_read(path_of(domid)) is None


@pytest.mark.parametrize("scheduler", ["null", "rtds", "arinc653"])
def test_a_scheduler_without_caps(hv: StubBackend, scheduler: str) -> None:
    hv.stub.reset(scheduler=scheduler)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with pytest.raises(pyxcsr.NotSupported, match=f"no caps .the host's is {scheduler}"):
        Throttle(hv, domid).check()
    assert hv.domain_share(domid) is None
    with pytest.raises(pyxcsr.UsageError, match="has no caps"):
        hv.set_domain_cap(domid, scheduler, 10)


@pytest.mark.parametrize(
    "wrong",
    [{"start": 0}, {"start": 1.0}, {"start": 0.5, "most": 0.4}, {"step": 0}, {"step": 1.5}, {"most": 1}, {"step": "a"}],
)
def test_wrong_shares(hv: StubBackend, wrong: dict[str, float]) -> None:
    with pytest.raises(pyxcsr.UsageError):
        Throttle(hv, 1, **wrong)


def test_the_body_fails(hv: StubBackend, domid: int) -> None:
    with pytest.raises(KeyboardInterrupt), Throttle(hv, domid) as throttle:
        throttle.tighten()
        raise KeyboardInterrupt
    assert cap_of(hv, domid) == 0


def test_a_guest_gets_less_done(hv: StubBackend) -> None:
    """The stub's guests write less, as a guest with less time does."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", vcpus=1, writes=100))
    guest = hv.stub.guest(domid)
    hv.set_domain_cap(domid, "credit2", 10)
    before = guest.state().writes
    guest.tick(10)
    assert guest.state().writes - before == 100


# -- SIGKILL, and recover


def killed(hv: StubBackend, domid: int, steps: int = 1) -> Throttle:
    """A throttle that nobody releases."""
    throttle = Throttle(hv, domid)
    for _ in range(steps):
        throttle.tighten()
    return throttle


@pytest.mark.parametrize("was", [0, 70])
def test_recover_puts_it_back(hv: StubBackend, domid: int, was: int) -> None:
    hv.set_domain_cap(domid, hv.scheduler(), was)
    killed(hv, domid, 3)
    assert cap_of(hv, domid) not in (0, was)
    done = pyxcsr.recover(hv, domid)
    assert (cap_of(hv, domid), done.cap, done.left) == (was, was, [])
    assert f"its cap is {was or 'none'} again" in told(done)
    assert pyxcsr.recover(hv, domid) == pyxcsr.Recovery(domid) and "throttled" not in told(pyxcsr.recover(hv, domid))


@pytest.mark.parametrize("function", ["xs_write", "xc_sched_credit2_domain_set"])
@pytest.mark.parametrize("step", [1, 2])
def test_killed_between_record_and_cap(hv: StubBackend, function: str, step: int) -> None:
    """Whichever of both came last, recover knows what it was."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", vcpus=2, writer="none"))
    hv.set_domain_cap(domid, "credit2", 150)
    hv.stub.fail(function, step, errno.EIO)
    with pytest.raises(pyxcsr.HypervisorError):
        killed(hv, domid, 2)
    hv.stub.clear_failures()
    pyxcsr.recover(hv, domid)
    assert cap_of(hv, domid) == 150
    assert read_record(hv, domid) is None


def test_somebody_else_has_set_it_since(hv: StubBackend, domid: int) -> None:
    throttle = killed(hv, domid)
    hv.set_domain_cap(domid, hv.scheduler(), 33)
    done = pyxcsr.recover(hv, domid)
    assert cap_of(hv, domid) == 33 and done.cap is None and "its cap is 33 now" in done.left[0]
    assert pyxcsr.recover(hv, domid).left == [], "it is told once"
    throttle = killed(hv, domid)
    hv.set_domain_cap(domid, hv.scheduler(), 44)
    throttle.release()
    assert cap_of(hv, domid) == 44 and throttle.left is not None and "44" in throttle.left


def test_somebody_has_set_it_to_what_it_was(hv: StubBackend, domid: int) -> None:
    killed(hv, domid)
    hv.set_domain_cap(domid, hv.scheduler(), 0)
    assert pyxcsr.recover(hv, domid).left == [] and read_record(hv, domid) is None


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("cap", [50, 190, 0])
def test_somebody_else_sets_it_between_two_steps(hv: StubBackend, domid: int, steps: int, cap: int) -> None:
    """A further step would put away what was wanted, and nobody would ever be told."""
    throttle = killed(hv, domid, steps)
    hv.set_domain_cap(domid, hv.scheduler(), cap)
    assert throttle.tighten() == throttle.tighten() == throttle.taken == 0.0
    assert cap_of(hv, domid) == cap
    throttle.release()
    assert cap_of(hv, domid) == cap and read_record(hv, domid) is None
    assert (throttle.left is None) if cap == 0 else (f"its cap is {cap} now" in (throttle.left or ""))


@pytest.mark.parametrize("cap", [50, 0])
def test_a_cap_that_is_set_before_the_first_step_comes_back(hv: StubBackend, domid: int, cap: int) -> None:
    hv.set_domain_cap(domid, hv.scheduler(), 120)
    throttle = Throttle(hv, domid)
    throttle.check()
    hv.set_domain_cap(domid, hv.scheduler(), cap)
    throttle.tighten()
    assert cap_of(hv, domid) == round(0.8 * (cap or 200))
    throttle.release()
    assert (cap_of(hv, domid), throttle.left) == (cap, None)


def test_a_cap_that_is_set_after_a_killed_saves_was_taken_over_stays(hv: StubBackend, domid: int) -> None:
    killed(hv, domid, 2)
    throttle = Throttle(hv, domid)
    throttle.check()
    hv.set_domain_cap(domid, hv.scheduler(), 33)
    assert throttle.tighten() == 0.0
    throttle.release()
    assert cap_of(hv, domid) == 33 and "its cap is 33 now" in (throttle.left or "")


def test_the_next_throttle_takes_over_what_a_killed_one_left(hv: StubBackend, domid: int) -> None:
    """In the end the cap is what it was before the first, even if the second never takes a step."""
    hv.set_domain_cap(domid, hv.scheduler(), 90)
    killed(hv, domid, 2)
    with Throttle(hv, domid) as throttle:
        throttle.check()
        throttle.tighten()
        assert cap_of(hv, domid) == 72
    assert cap_of(hv, domid) == 90
    killed(hv, domid, 2)
    with Throttle(hv, domid) as throttle:
        throttle.check()
    assert cap_of(hv, domid) == 90


@pytest.mark.parametrize(
    "function", ["xs_read", "xc_sched_credit2_domain_get", "xc_sched_credit2_domain_set", "xs_write"]
)
def test_a_suspended_guest_is_resumed_whatever_becomes_of_its_cap(hv: StubBackend, function: str) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", vcpus=2, writer="none"))
    killed(hv, domid)
    hv.stub.guest(domid).shut_down(2)
    hv.stub.clear_calls()
    hv.stub.fail(function, 2 if function == "xs_read" else 1, errno.EIO)  # the first one looks for a request to suspend
    done = pyxcsr.recover(hv, domid)
    assert done.resumed and hv.stub.guest(domid).running and done.cap is None and "cap" in done.left[0], done
    hv.stub.clear_failures()
    again = pyxcsr.recover(hv, domid)
    assert cap_of(hv, domid) == 0 and again.cap == 0 and again.left == []


@pytest.mark.parametrize(
    "text", ["", "credit2", "credit2 was=0 now=1 next=x", "credit3 was=0 now=1 next=1", "credit2 was=0 now=1 next=1 "]
)
def test_a_record_that_is_none(hv: StubBackend, domid: int, text: str) -> None:
    hv.stub.store_write(path_of(domid), text)
    assert read_record(hv, domid) is None and pyxcsr.recover(hv, domid) == pyxcsr.Recovery(domid)


def test_the_domain_has_gone(hv: StubBackend, domid: int) -> None:
    throttle = killed(hv, domid)
    hv.stub.destroy(domid)
    throttle.release()
    assert throttle.left is None


def test_the_record_does_not_hide_another_scheduler() -> None:
    assert not CapRecord("credit", 0, 80, 60).is_ours(Share("credit2", 256, 80))


# -- every call fails

CALLS = ("xc_sched_credit2_domain_get", "xc_sched_credit2_domain_set", "xs_read", "xs_write", "xc_domain_getinfolist")


def whole(hv: StubBackend, domid: int) -> None:
    with Throttle(hv, domid) as throttle:
        throttle.check()
        throttle.tighten()
        throttle.tighten()


def tries(hv: StubBackend, domid: int, what: Callable[[], object], function: str) -> int:
    """How many of the function's calls let it fail; after each the cap is what it was, or recover makes it that."""
    hv.stub.clear_calls()
    what()
    total, failed = hv.stub.calls().get(function, 0), 0
    for nth in range(1, total + 1):
        hv.stub.fail(function, nth, errno.EPERM)
        try:
            what()
        except pyxcsr.HypervisorError as error:
            failed += 1
            assert error.errno == errno.EPERM
        hv.stub.clear_failures()
        assert cap_of(hv, domid) == 120, f"{function} #{nth}"
        assert pyxcsr.recover(hv, domid).left == []
    return failed


@pytest.mark.parametrize("function", CALLS)
def test_each_call_fails(hv: StubBackend, function: str) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", vcpus=2, writer="none"))
    hv.set_domain_cap(domid, "credit2", 120)
    if function == "xc_domain_getinfolist":
        hv.set_domain_cap(domid, "credit2", 0)
        hv.stub.fail(function, 1, errno.EPERM)
        with pytest.raises(pyxcsr.HypervisorError):
            whole(hv, domid)
        assert cap_of(hv, domid) == 0
        return
    assert tries(hv, domid, lambda: whole(hv, domid), function) >= 1


def test_it_cannot_be_given_back(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", vcpus=2, writer="none"))
    throttle = killed(hv, domid)
    hv.stub.fail("xc_sched_credit2_domain_set", 0, errno.EPERM)
    with pytest.raises(pyxcsr.HypervisorError):
        throttle.release()
    with pytest.raises(ValueError, match="first") as caught, throttle:
        raise ValueError("first")
    assert "besides" in str(getattr(caught.value, "__notes__", caught.value))
    hv.stub.clear_failures()
    assert cap_of(hv, domid) == 160 and pyxcsr.recover(hv, domid).cap == 0 and cap_of(hv, domid) == 0
