"""The meter: sets of pfns made of Xen's bitmaps, against Python's sets; and log-dirty mode, which it ends."""

from __future__ import annotations

import errno
import os
import random

import pytest

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.domain import StubDomain


def guest_of(hv: StubBackend, mem: str = "5M") -> StubDomain:
    return hv.stub.guest(hv.stub.create(pyxcsr.StubGuest.pvh(mem=mem, writer="none")))


@pytest.mark.parametrize("nr_pfns", [1280, 1281, 1000, 64, 1])
def test_against_sets(hv: StubBackend, nr_pfns: int) -> None:
    """Also with fewer pfns than the guest has, of which the last word is not whole."""
    guest, rng = guest_of(hv), random.Random(nr_pfns)
    meter, model = hv.new_meter(guest.domid, nr_pfns), dict[int, set[int]]()
    meter.begin()
    for _ in range(60):
        action = rng.randrange(3)
        one, two = rng.randrange(0, 4), rng.randrange(1, 4)
        if action == 0:
            written = {rng.randrange(1280) for _ in range(rng.randrange(40))}
            for pfn in written:
                guest.write_page(pfn, b"x")
            model[0] = {pfn for pfn in written if pfn < nr_pfns}
            assert meter.fetch() == len(model[0])
        elif action == 1:
            how = rng.choice(("copy", "add", "common"))
            a, b = model.get(one, set()), model.get(two, set())
            model[two] = set(a) if how == "copy" else a | b if how == "add" else a & b
            assert meter.join(one, two, how) == len(model[two])
        else:
            meter.clear(two)
            model[two] = set()
        spread = meter.spread(two, 64)
        assert spread == [sum(pfn // 64 == i for pfn in model.get(two, ())) for i in range(-(-nr_pfns // 64))]
    meter.close()
    assert not guest.state().logdirty


def test_what_it_refuses(hv: StubBackend) -> None:
    guest = guest_of(hv)
    meter = hv.new_meter(guest.domid, 100)
    for wrong in (lambda: meter.join(32, 1), lambda: meter.join(0, 32), lambda: meter.clear(99)):
        with pytest.raises(pyxcsr.HypervisorError, match="no set"):
            wrong()
    for per_range in (32, 100):
        with pytest.raises(pyxcsr.HypervisorError):
            meter.spread(0, per_range)
    meter.close()
    with pytest.raises(pyxcsr.UsageError, match="over"):
        meter.fetch()
    with pytest.raises(pyxcsr.HypervisorError):
        hv.new_meter(guest.domid, 0)


def test_it_ends_only_what_it_began(hv: StubBackend) -> None:
    guest = guest_of(hv)
    first, second = hv.new_meter(guest.domid, 100), hv.new_meter(guest.domid, 100)
    first.begin()
    with pytest.raises(pyxcsr.LogDirtyUnsupported):
        second.begin()
    second.end()
    second.close()
    assert guest.state().logdirty
    first.end()
    assert not guest.state().logdirty
    first.begin()
    first.leave()
    first.end()
    first.close()
    assert guest.state().logdirty, "it has been left to somebody else"
    assert hv.logdirty_off(guest.domid)


def test_peeking_changes_nothing(hv: StubBackend) -> None:
    guest = guest_of(hv)
    mine, others = hv.new_meter(guest.domid, 1280), hv.new_meter(guest.domid, 1280)
    mine.begin()
    for count in range(1, 4):
        guest.write_page(7 * count, b"x")
        assert mine.peek() == others.peek() == count
    assert mine.fetch() == 3 and mine.peek() == 0
    mine.close()
    others.close()


def test_somebody_ends_log_dirty_mode(hv: StubBackend) -> None:
    """Xen then answers with no bit set. What was written is lost, and that is said."""
    guest = guest_of(hv)
    meter = hv.new_meter(guest.domid, 1280)
    meter.begin()
    guest.write_page(3, b"x")
    assert hv.logdirty_off(guest.domid)
    assert meter.peek() == 0
    with pytest.raises(pyxcsr.HypervisorError, match="somebody else has ended log-dirty mode") as caught:
        meter.fetch()
    assert caught.value.errno == errno.ENODATA and guest.state().logdirty
    guest.write_page(4, b"x")
    assert meter.fetch() == 1
    meter.close()
    assert not guest.state().logdirty


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOMEM])
def test_whether_it_is_on_cannot_be_told(hv: StubBackend, error: int) -> None:
    guest = guest_of(hv)
    meter = hv.new_meter(guest.domid, 1280)
    meter.begin()
    hv.stub.fail("xc_shadow_control", 1, error)
    with pytest.raises(pyxcsr.HypervisorError, match="cannot tell whether") as caught:
        meter.fetch()
    assert caught.value.errno == error
    meter.close()
    assert not guest.state().logdirty


@pytest.mark.parametrize("function", ["xc_shadow_control", "xc_logdirty_control"])
def test_xen_is_busy_with_what_another_process_has_asked(hv: StubBackend, function: str) -> None:
    """It refuses until it has finished that; whoever lasts longer than that gets what was asked for."""
    guest = guest_of(hv)
    refusals = [0]

    def hook(name: str, count: int) -> int:
        refusals[0] -= name == function
        return errno.EBUSY if name == function and refusals[0] >= 0 else 0

    def after(number: int) -> None:
        refusals[0] = number

    meter, save = hv.new_meter(guest.domid, 1280), hv.new_save(guest.domid, 1280, None)
    with hv.stub.hook(hook):
        for action in (
            meter.begin, meter.peek, meter.fetch, meter.end, save.logdirty_enable, lambda: save.logdirty_clean(False),
            save.logdirty_count, save.logdirty_disable, lambda: hv.logdirty_off(guest.domid),
        ):  # fmt: skip
            after(3)
            action()
        after(1000)
        with pytest.raises(pyxcsr.HypervisorError) as caught:
            save.logdirty_enable() if function == "xc_shadow_control" else meter.peek()
        assert caught.value.errno == errno.EBUSY
    meter.close()
    save.close()
    assert not guest.state().logdirty


@pytest.mark.parametrize("dying", [True, False])
@pytest.mark.parametrize("refused", [False, True])
def test_a_domain_that_is_destroyed(hv: StubBackend, dying: bool, refused: bool) -> None:
    """Xen ignores what is asked of it, and says that all went well; since 4.18 it refuses."""
    hv.stub.reset(dying_refused=refused)
    guest = guest_of(hv)
    meter = hv.new_meter(guest.domid, 1280)
    meter.begin()
    if dying:
        guest.poke_domain("dying", 1)
    else:
        hv.stub.destroy(guest.domid)
    with pytest.raises(pyxcsr.DomainNotFound) as caught:
        meter.fetch()
    assert not dying or "is being destroyed" in str(caught.value)
    meter.close()


def test_closing_the_hypervisor_ends_it() -> None:
    hv = pyxcsr.open_hypervisor("stub")
    assert isinstance(hv, StubBackend)
    hv.stub.reset()
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.new_meter(domid, 1024).begin()
    hv.close()
    assert hv.stub.leaks(handles=True) == {}


def test_a_child_leaves_it_on(hv: StubBackend) -> None:
    """After a fork log-dirty mode is the parent's."""
    guest = guest_of(hv)
    meter = hv.new_meter(guest.domid, 100)
    meter.begin()
    pid = os.fork()
    if pid == 0:
        meter.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert guest.state().logdirty
    meter.close()
    assert not guest.state().logdirty
