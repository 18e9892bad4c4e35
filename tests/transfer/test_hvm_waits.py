"""HVM and PVH guests whose pages go, come back, or come anew while nothing is dirty, or while the save waits."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from support.hvm_guests import StubQemu, save_hvm, wrong_pages

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.cli.suspending import guest_parts
from pyxcsr.guest.hvm import following
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.suspend.base import Suspend
from pyxcsr.suspend.hvm import HvmSuspend

CLEAN = "xc_logdirty_control"
QUIET = "pvh:mem=8M,writes=0,compact=yes"


def gets_page(domid: int, gfn: int) -> None:
    """As a device model gives a guest a page, from outside: the guest itself writes nothing."""
    body = struct.pack("<IIQ", 1, 0, gfn) + b"new!" * 1024
    reader, writer = os.pipe()
    os.write(writer, body)
    os.close(writer)
    with pyxcsr.open_hypervisor("stub") as other:
        source, memory = other.open_source(reader), other.new_restore(domid, gfn + 1, width=0)
        memory.pages(source, len(body), lambda: None, 0)
        memory.close()
        source.close()
    os.close(reader)


@pytest.mark.parametrize("moment", [("xc_domain_shutdown", 1), (CLEAN, 1), (CLEAN, 2)], ids=str)
def test_a_page_beyond_all_others_when_nothing_is_dirty(
    hv: StubBackend, tmp_path: Path, moment: tuple[str, int]
) -> None:
    domid = hv.stub.create(StubGuest.parse("hvm:mem=8M,max_mem=16M,writes=0,pv_drivers=no,compact=yes"))
    gfn, seen = hv.stub.guest(domid).nr_pfns + 3, 0

    def act(name: str, count: int) -> None:
        nonlocal seen
        seen += name == moment[0]
        if name == moment[0] and seen == moment[1]:
            seen += 1
            gets_page(domid, gfn)

    with hv.stub.hook(act):
        report = save_hvm(hv, domid, tmp_path / "s")
    assert hv.stub.guest(domid).read_page(gfn)[:4] == b"new!"
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert all(x.dirty >= x.pages for x in report.passes)


class Exchange:
    """Takes pages of a guest away at the third call, and gives it others at the tenth: the number is as before."""

    def __init__(self, hv: StubBackend, domid: int) -> None:
        self._guest = hv.stub.guest(domid)
        self._gfns = [x for x in self._guest.pfns_with_memory() if x < 0x400][-5:]
        self.calls = 0

    def __call__(self) -> bool:
        """As a wish to cancel, which there is none."""
        self.calls += 1
        if self.calls == 3:
            self._guest.balloon_out(self._gfns)
        if self.calls == 10:
            self._guest.balloon_in(self._gfns)
        return False


class Resting:
    """A policy that has nothing to do before its third pass."""

    rest = 0.0

    def __call__(self, stats: PrecopyStats) -> Decision:
        self.rest = 0.3 if stats.iteration == 2 else 0.0
        return Decision.CONTINUE if stats.iteration < 4 else Decision.STOP_AND_COPY


def test_an_exchange_while_nothing_is_done_between_two_passes(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(StubGuest.parse(QUIET))
    policy, exchange = Resting(), Exchange(hv, domid)
    report = save_hvm(hv, domid, tmp_path / "s", policy=policy, cancel=lambda: policy.rest > 0 and exchange())
    assert exchange.calls > 10
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert report.physmap.moves >= 2 and report.physmap.may_have_missed


def test_an_exchange_while_the_guest_is_asked_to_suspend(hv: StubBackend, tmp_path: Path) -> None:
    """The end in one call has been prepared by then, and does not see to that."""
    domid = hv.stub.create(StubGuest.parse(QUIET))
    hv.stub.guest(domid).set_suspend("ok", ack_polls=30, suspend_polls=30)
    exchange, suspending = Exchange(hv, domid), False

    def progress(now: pyxcsr.Progress) -> None:
        nonlocal suspending
        suspending = now.phase == "suspend"

    report = save_hvm(hv, domid, tmp_path / "s", progress=progress, cancel=lambda: suspending and exchange())
    assert exchange.calls > 10
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert report.physmap.moves >= 2 and report.physmap.may_have_missed


class Slow:
    """An output that goes through a program, which works off what it has before the guest is suspended."""

    whole = finished = False

    def __init__(self, fd: int) -> None:
        self._fd, self.out, self.settles = fd, fd, False

    def fileno(self) -> int:
        return self._fd

    def settle(self, poll: object) -> Optional[float]:
        self.settles = True
        assert callable(poll)
        for _ in range(100):
            poll()
            time.sleep(0.002)
        self.settles = False
        return 0.2

    def finish(self, poll: object) -> None:
        """It is somebody else's affair."""


def test_an_exchange_while_a_compressor_is_waited_for(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(StubGuest.parse(QUIET))
    exchange = Exchange(hv, domid)
    with open(tmp_path / "s", "wb") as file:
        out = Slow(file.fileno())
        pyxcsr.save(hv, domid, out, policy="libxc", cancel=lambda: out.settles and exchange())  # type: ignore[arg-type]
    assert exchange.calls > 10
    assert wrong_pages(hv, domid, tmp_path / "s") == []


def test_an_exchange_while_pyxcsr_save_asks_it_to_suspend(hv: StubBackend, tmp_path: Path) -> None:
    """The command makes what suspends the guest itself."""
    domid = hv.stub.create(StubGuest.parse(QUIET))
    hv.stub.guest(domid).set_suspend("ok", ack_polls=30, suspend_polls=30)
    exchange = Exchange(hv, domid)
    report = save_hvm(hv, domid, tmp_path / "s", suspend=guest_parts(hv, domid, 60.0, exchange).suspend)
    assert exchange.calls > 10
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert report.physmap.moves >= 2 and report.physmap.may_have_missed


class Slowly(Suspend):
    """Suspends a guest, which gives pages back and gets others meanwhile; or, watched, the same ones."""

    def __init__(self, hv: StubBackend, domid: int, watches: bool) -> None:
        self._guest, self._watches = hv.stub.guest(domid), watches
        gfns = [x for x in self._guest.pfns_with_memory() if x < 0x400]
        self._there, self._gone = gfns[-5:], gfns[-10:-5]
        self._guest.balloon_out(self._gone)
        self.watch: Optional[Callable[[], None]] = None

    def watched_by(self, watch: Callable[[], None]) -> None:
        self.watch = watch

    def __call__(self) -> None:
        self._guest.balloon_out(self._there)
        time.sleep(following.UNWATCHED if not self._watches else following.WATCH)
        if self._watches and self.watch is not None:
            self.watch()
        comes = self._there if self._watches else self._gone
        self._guest.balloon_in(comes)
        time.sleep(following.WATCH)
        if self._watches and self.watch is not None:
            self.watch()
        for gfn in comes:
            self._guest.write_page(gfn, os.urandom(4096))
        self._guest.shut_down(2)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "a Suspend"])
def test_an_exchange_while_a_function_of_the_callers_suspends_it(
    hv: StubBackend, tmp_path: Path, plain: bool
) -> None:
    """Nobody can watch it. So it is looked at once it is suspended: the end in one call does not see to that."""
    domid = hv.stub.create(StubGuest.parse(QUIET))
    slowly = Slowly(hv, domid, watches=False)
    report = save_hvm(hv, domid, tmp_path / "s", suspend=slowly.__call__ if plain else slowly)
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert report.physmap.may_have_missed and report.physmap.unwatched >= following.UNWATCHED


def test_one_that_watches_while_it_suspends_the_guest(hv: StubBackend, tmp_path: Path) -> None:
    """The gfns have pages before and after, which no look could tell: the number does."""
    domid = hv.stub.create(StubGuest.parse(QUIET))
    slowly = Slowly(hv, domid, watches=True)
    report = save_hvm(hv, domid, tmp_path / "s", suspend=slowly)
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert report.physmap.may_have_missed and report.physmap.moves == 2 and report.physmap.sent_again == 1
    assert slowly.watch is not None
    slowly.watch()  # the save is over, and has let go of it


class SlowQemu(StubQemu):
    """A device model that takes its time to stop: it writes to disks first. The guest stands still by then."""

    def stop(self) -> None:
        time.sleep(following.UNWATCHED + 0.05)
        super().stop()


@pytest.mark.parametrize("drivers", ["yes", "no"])
def test_no_suspended_guest_waits_for_a_look_because_its_device_model_stops_slowly(
    hv: StubBackend, tmp_path: Path, drivers: str
) -> None:
    domid = hv.stub.create(StubGuest.parse(f"hvm:mem=8M,writes=3,pv_drivers={drivers}"))
    qemu: Any = SlowQemu(hv.stub.guest(domid))
    report = save_hvm(hv, domid, tmp_path / "s", suspend=HvmSuspend(hv, domid, qemu), device_model=qemu)
    assert report.seconds_suspending > following.UNWATCHED
    assert (report.physmap.looks, report.physmap.unwatched) == (0, 0.0) and not report.physmap.may_have_missed


@pytest.mark.parametrize("phase", ["pass", "suspend"])
def test_a_look_that_is_due_is_made_while_the_guest_runs(hv: StubBackend, tmp_path: Path, phase: str) -> None:
    """A function of the caller's has kept the save for so long that nobody knows what the guest has exchanged."""
    domid = hv.stub.create(StubGuest.parse("pvh:mem=8M,writes=3"))
    guest, looks = hv.stub.guest(domid), {True: 0, False: 0}

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == phase and not now.remaining:
            time.sleep(following.UNWATCHED + 0.02)

    def count(name: str, _count: int) -> None:
        if name == "xc_get_pfn_type_batch":
            looks[guest.suspended] += 1

    with hv.stub.hook(count):
        report = save_hvm(hv, domid, tmp_path / "s", progress=progress)
    assert report.physmap.looks >= 1 and report.physmap.unwatched > following.UNWATCHED
    assert looks[True] < 10 < looks[False], "a look at all gfns takes many more"
    assert wrong_pages(hv, domid, tmp_path / "s") == []
