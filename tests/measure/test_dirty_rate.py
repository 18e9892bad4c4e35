"""Measuring guests of the stub: what is counted, what is refused, and that log-dirty mode is off on every way out."""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Callable
from typing import Any, Optional

import pytest
from support.ordinary import ordinary_pages

import pyxcsr
from measure.fake import Clock
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import StubDeviceModel, device_model_of
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.measure.dirty_rate import Measurement
from pyxcsr.measure.result import DirtyRate
from pyxcsr.transfer.savers import Saver, Savers

KINDS = ("pv64:mem=8M,writer=none", "pvh:mem=8M,writer=none", "hvm:mem=8M,writer=none,vram=64K")


def measure(
    hv: StubBackend, domid: int, seconds: float = 2.0, model: Optional[DeviceModel] = None, **more: Any
) -> DirtyRate:
    """Without waiting for the time to pass."""
    clock = Clock()
    return Measurement(hv, domid, seconds, model or DeviceModel(), clock=clock, sleep=clock.sleep, **more).run()


def on_fetch(action: Callable[[int], object]) -> Callable[[str, int], None]:
    """A hook that does something before each bitmap is fetched: the number of it is from 0."""
    seen = [0]

    def hook(name: str, count: int) -> None:
        if name == "xc_logdirty_control":
            action(seen[0])
            seen[0] += 1

    return hook


def data_pages(guest: StubDomain) -> list[int]:
    """Pages to write to that are not the guest's kernel's; of an HVM guest those of its lower memory."""
    if guest.state().hvm:
        return [int(x) for x in guest.pfns_with_memory() if x < 0x400]
    return ordinary_pages(guest)


def off(hv: StubBackend, domid: int) -> None:
    state = hv.stub.guest(domid).state()
    assert not state.logdirty and not state.devmodel_logdirty and state.running and hv.stub.leaks() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_counted(hv: StubBackend, kind: str) -> None:
    """One page each time, and one that is another each time."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse(kind))
    guest = hv.stub.guest(domid)
    pages = data_pages(guest)[:200]

    def write(number: int) -> None:
        guest.write_page(pages[0], b"again")
        guest.write_page(pages[1 + number], b"once")

    with hv.stub.hook(on_fetch(write)):
        found = measure(hv, domid)
    fetched = 2 * (6 + 1)
    assert found.bitmaps == fetched and found.distinct == 1 + fetched and found.steady == 1
    assert found.seconds == 2.0 and found.pages_per_second == 1 + 7
    assert [(x.pages, x.most) for x in found.windows] == [(2 + i, 2 + i) for i in range(7)] + [(15, 15)]
    assert [x.seconds for x in found.windows] == [2.0**x for x in range(-6, 2)]
    assert found.tot_pages == hv.domain_info(domid).tot_pages and found.nr_pfns == hv.nr_gpfns(domid)
    written = [pages[0], *pages[2 : 2 + fetched]]  # the page of the first bitmap is of the time before
    assert [x for x in found.ranges if x] == [
        sum(pfn // found.per_range == at for pfn in written)
        for at in sorted({pfn // found.per_range for pfn in written})
    ]
    assert len(found.ranges) <= 64 and sum(found.ranges) == found.distinct and not found.warnings
    off(hv, domid)


def test_what_the_device_model_writes_is_counted_if_it_is_told(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.parse("hvm:mem=8M,vram=64K,writes=0,devmodel=3"))
    assert measure(hv, domid).distinct == 0
    told = measure(hv, domid, model=device_model_of(hv.stub.guest(domid)))
    assert told.distinct > 10
    off(hv, domid)


def test_a_device_model_is_found_where_none_is_named(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.parse("hvm:mem=8M,vram=64K,writes=0,devmodel=3"))
    clock = Clock()
    assert Measurement(hv, domid, 2.0, None, clock=clock, sleep=clock.sleep).run().distinct > 10
    off(hv, domid)


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["pv64", "pvh"])
@pytest.mark.parametrize("rate", [500, 8000])
def test_a_guest_of_known_rate(hv: StubBackend, kind: str, rate: int) -> None:
    """In real time; random pages, so that some are hit twice within the second. A busy machine's guest writes less than
    its rate, so that its own count is what is compared with."""
    more = ",pt_updates=0,fixmap=no" if kind == "pv64" else ""
    domid = hv.stub.create(pyxcsr.StubGuest.parse(f"{kind}:mem=64M,writer=thread,rate={rate},filled=no{more}"))
    guest = hv.stub.guest(domid)
    pages, before = guest.state().tot_pages, guest.state().writes
    found = pyxcsr.dirty_rate(hv, domid, seconds=3.0)
    written = guest.state().writes - before
    assert written > 20

    def distinct(writes: float) -> float:
        return float(pages * (1 - math.exp(-writes / pages)))

    assert found.distinct == pytest.approx(distinct(written), rel=0.15)
    assert found.second.pages == pytest.approx(distinct(written * found.second.seconds / found.seconds), rel=0.15)
    assert found.second.pages < found.windows[0].pages / found.windows[0].seconds * 1.5
    off(hv, domid)


def test_a_hot_set_has_an_end(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", hot="400K", writes=400, pt_updates=0, fixmap=False))
    found = measure(hv, domid, 4.0)
    assert 95 <= found.distinct <= 110 and found.steady is not None and found.steady >= 90
    assert found.curve.pages(60.0) <= 115 and found.windows[-1].pages <= 110


def test_seconds_that_are_no_power_of_two(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    found = measure(hv, domid, 3.0)
    assert (found.seconds, found.windows[-1].seconds, found.windows[-1].windows) == (3.0, 2.0, 1)
    short = measure(hv, domid, 0.1)
    assert short.steady is None and short.seconds == 0.125 and short.pages_per_second > 0


def test_bitmaps_that_take_long(hv: StubBackend) -> None:
    """The periods are longer then, and what is dirtied in each of them is told with their length."""
    domid, clock = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="none")), Clock()
    with hv.stub.hook(on_fetch(lambda number: clock.sleep(0.3))):
        found = Measurement(hv, domid, 8.0, None, clock=clock, sleep=clock.sleep).run()
    assert found.period == found.to_dict()["period"] == 4.0 and found.steady is not None
    assert measure(hv, domid).period == 1.0 and measure(hv, domid, 0.1).period == 0.125


class Coming(Savers):
    """From one look on there is a save."""

    def __init__(self, comes_at: int) -> None:
        super().__init__(1)
        self._left = comes_at

    def now(self) -> list[Saver]:
        self._left -= 1
        return [Saver(4711, "libxl-save-helper", True)] if self._left < 0 else []

    def may_have_begun(self, saver: Saver) -> bool:
        return False


@pytest.mark.parametrize("at", range(12))
def test_a_save_comes_whenever_it_is_looked_for(hv: StubBackend, at: int) -> None:
    """What has been measured is told of, or it is an error that says why nothing was."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="none"))
    try:
        found = measure(hv, domid, savers=Coming(at))
    except pyxcsr.BeingSaved as error:
        assert at < 6 and "libxl-save-helper" in str(error)
    else:
        assert at >= 6 and (found.ended_by is None) == (at == 11) and found.seconds == (1.0 if at < 8 else 2.0)


class Failing(Coming):
    """The save that comes is over a while later."""

    def __init__(self, clock: Clock, comes_at: int, lasts: float) -> None:
        super().__init__(comes_at)
        self._clock, self._lasts, self._until = clock, lasts, math.inf

    def now(self) -> list[Saver]:
        there = super().now()
        if there and self._until == math.inf:
            self._until = self._clock.now + self._lasts
        return there if self._clock.now < self._until else []

    @property
    def there(self) -> bool:
        return self._clock.now < self._until < math.inf


@pytest.mark.parametrize("at", [2, 6, 8])
@pytest.mark.parametrize("lasts", [0.3, 100.0])
@pytest.mark.parametrize("suspended", [False, True])
def test_a_save_that_fails_before_it_begins(hv: StubBackend, at: int, lasts: float, suspended: bool) -> None:
    """Log-dirty mode was left to it, and nobody else would end it. One that goes on has it for itself."""
    domid, clock = hv.stub.create(pyxcsr.StubGuest.parse("hvm:mem=4M,vram=64K")), Clock()
    guest = hv.stub.guest(domid)
    model = device_model_of(guest)
    looks = Failing(clock, at, lasts)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if suspended and looks.there:
            guest.shut_down(2)

    try:
        warnings = Measurement(hv, domid, 2.0, model, clock=clock, sleep=sleep, savers=looks).run().warnings
    except pyxcsr.BeingSaved as error:
        warnings = [str(error), *getattr(error, "__notes__", ())]
    state, left = guest.state(), lasts > 2
    assert suspended or state.logdirty == left
    assert not suspended or state.logdirty, "what it does with a suspended guest is the save's business"
    # nobody knows whether the save has had it stop, and to be told so a second time would be its end
    assert state.device_model
    told = any("QEMU does so still" in x for x in warnings)
    assert told == (state.devmodel_logdirty and not suspended and not left)
    hv.logdirty_off(domid)


# -- what is refused, and how it ends


def test_looking_for_saves_may_take_long(hv: StubBackend) -> None:
    """The guest stands still only while Xen is asked: that alone says how long the windows must be."""
    clock = Clock()

    class Slow(Savers):
        def now(self) -> list[Saver]:
            clock.sleep(0.2)
            return []

    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    found = Measurement(hv, domid, 8.0, DeviceModel(), clock=clock, sleep=clock.sleep, savers=Slow(domid)).run()
    assert found.fetch_seconds == 0 and found.windows[0].seconds < 0.3
    assert found.second.seconds == pytest.approx(1.0, abs=0.3)
    off(hv, domid)


def test_another_save_at_work(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    save = hv.new_save(domid, 1024, None)
    save.logdirty_enable()
    with pytest.raises(pyxcsr.LogDirtyUnsupported, match=r"tracked already.*--take-over") as caught:
        pyxcsr.dirty_rate(hv, domid, seconds=0.2)
    assert caught.value.errno == errno.EINVAL and caught.value.domid == domid
    assert hv.stub.guest(domid).state().logdirty, "it was not ours to end"
    found = measure(hv, domid, take_over=True)
    assert found.taken_over and not hv.stub.guest(domid).state().logdirty
    save.close()


def test_devices_and_shadow_paging(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pvh(mem="4M"))
    hv.stub.guest(domid).poke_domain("assigned_devices", 1)
    with pytest.raises(pyxcsr.LogDirtyUnsupported, match="PCI devices"):
        measure(hv, domid)
    with pytest.raises(pyxcsr.LogDirtyUnsupported, match="PCI devices"):
        measure(hv, domid, take_over=True)
    hv.stub.store_write(f"/local/domain/0/backend/pci/{domid}/0", "")
    with pytest.raises(pyxcsr.LogDirtyUnsupported, match="xl pci-detach") as caught:
        measure(hv, domid)
    assert "take-over" not in str(caught.value)
    hv.stub.fail("xc_shadow_control", 0, errno.EOPNOTSUPP)
    with pytest.raises(pyxcsr.LogDirtyUnsupported, match="no shadow paging"):
        measure(hv, domid)
    hv.stub.clear_failures()


def test_a_guest_that_does_not_run(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    with pytest.raises(pyxcsr.UsageError, match="does not run"):
        measure(hv, domid)
    with pytest.raises(pyxcsr.DomainNotFound):
        pyxcsr.dirty_rate(hv, 4711)
    hv.domain_resume(domid)
    hv.domain_pause(domid)
    assert "was paused" in measure(hv, domid, 0.2).warnings[0]
    hv.domain_unpause(domid)


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": 0}, {"seconds": "5"}, {"seconds": math.inf}, {"cancel": 1}, {"take_over": "yes"}, {"device_model": 3}],
)
def test_wrong_arguments(hv: StubBackend, wrong: dict[str, Any]) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.clear_calls()
    with pytest.raises(pyxcsr.UsageError):
        pyxcsr.dirty_rate(hv, domid, **wrong)
    assert hv.stub.calls() == {}


@pytest.mark.parametrize("refused", [False, True])
def test_it_is_destroyed_or_stops_meanwhile(hv: StubBackend, refused: bool) -> None:
    """What is asked of a domain that is being destroyed is ignored until Xen 4.17, and refused since 4.18."""
    hv.stub.reset(dying_refused=refused)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    guest = hv.stub.guest(domid)
    dies = on_fetch(lambda n: guest.poke_domain("dying", n > 5))
    with hv.stub.hook(dies), pytest.raises(pyxcsr.DomainDying, match="while it was measured"):
        measure(hv, domid)
    guest.poke_domain("dying", 0)
    assert hv.logdirty_off(domid)  # of a domain that is being destroyed Xen does not switch it off any more
    with hv.stub.hook(on_fetch(lambda n: guest.shut_down(0) if n == 5 else None)):
        assert "stopped while it was measured (poweroff)" in measure(hv, domid).warnings[0]


def test_it_gets_more_pfns_meanwhile(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", max_mem="16M"))
    guest = hv.stub.guest(domid)
    with hv.stub.hook(on_fetch(lambda n: guest.resize_p2m(3000) if n == 5 else None)):
        assert "not counted" in measure(hv, domid).warnings[0]


@pytest.mark.parametrize("claim", [1 << 40, 0])
def test_a_guest_that_lies_about_its_size(hv: StubBackend, claim: int) -> None:
    """What a PV guest says of its pfns is bounded, and no pfn at all is an error like others."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="none"))
    guest = hv.stub.guest(domid)
    was = guest.shared_info("max_pfn")
    guest.poke_shared_info("max_pfn", claim)
    try:
        found = measure(hv, domid, 0.2)
        assert found.nr_pfns < 1 << 33 and len(found.ranges) <= 64
    except pyxcsr.XcsrError as error:
        assert claim, error
    guest.poke_shared_info("max_pfn", was)
    off(hv, domid)


def test_cancelled(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.hvm(mem="4M"))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(pyxcsr.Cancelled):
        pyxcsr.dirty_rate(hv, domid, device_model=StubDeviceModel(hv.stub.guest(domid)), cancel=stop.is_set)
    off(hv, domid)


@pytest.mark.parametrize("kind", ["pv64:mem=4M", "hvm:mem=4M"])
@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("xc_domain_getinfolist", errno.EPERM),
        ("xc_domain_nr_gpfns", errno.ESRCH),
        ("xc_shadow_control", errno.ENOMEM),
        ("xc_logdirty_control", errno.ENOMEM),
        ("xc__hypercall_buffer_alloc_pages", errno.ENOMEM),
    ],
)
def test_each_call_fails(hv: StubBackend, kind: str, function: str, error: int) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.parse(kind))
    model = device_model_of(hv.stub.guest(domid))
    hv.stub.clear_calls()
    measure(hv, domid, 0.3, model)
    total, failed = hv.stub.calls()[function], 0
    for nth in range(1, total + 1):
        hv.stub.fail(function, nth, error)
        try:
            assert measure(hv, domid, 0.3, model).warnings == []
        except pyxcsr.HypervisorError as raised:
            failed += 1
            assert raised.errno == error, f"{function} #{nth}"
        hv.stub.clear_failures()
        off(hv, domid)
    assert failed >= (total - 1 if function == "xc_shadow_control" else total)


def test_it_cannot_be_ended(hv: StubBackend) -> None:
    """A warning, or a note at the error; and what closes the meter tries once more."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.clear_calls()
    measure(hv, domid, 0.2)
    last = hv.stub.calls()["xc_shadow_control"]  # which ends it
    for nth in (last, last + 1):
        hv.stub.fail("xc_shadow_control", nth, errno.ENOMEM)
    found = measure(hv, domid, 0.2)
    assert "stays on" in found.warnings[0]
    hv.stub.clear_failures()
    off(hv, domid)


class Refuses(DeviceModel):
    """A device model that does not do one of both."""

    def __init__(self, on: bool) -> None:
        self._on, self.told = on, list[bool]()

    def track(self, on: bool) -> None:
        self.told.append(on)
        if on is self._on:
            raise pyxcsr.DeviceModelError("it does not answer", domid=1, op="track")


def test_a_device_model_that_refuses(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.hvm(mem="4M"))
    refuses = Refuses(True)
    with pytest.raises(pyxcsr.DeviceModelError):
        measure(hv, domid, model=refuses)
    assert refuses.told == [True], "to stop what it has not begun would be QEMU's end"
    refuses = Refuses(False)
    assert "does not answer" in measure(hv, domid, model=refuses).warnings[0]
    assert refuses.told == [True, False]
    off(hv, domid)
