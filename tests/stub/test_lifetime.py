"""Guests of the stub end with the hypervisor that made them; what a guest and its like say of themselves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.stream import records


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_guest_ends_with_its_hypervisor(hv: StubBackend) -> None:
    before, free = threads(), hv.stub.free_frames
    with pyxcsr.open_hypervisor("stub") as mine:
        domid = mine.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="thread", rate=1000))
        empty = mine.stub.create_empty("4M")
        assert threads() == before + 1 and {domid, empty} <= set(hv.stub.domains)
    assert threads() == before and hv.stub.domains == [] and hv.stub.free_frames == free
    with pytest.raises(StubError):
        hv.stub.guest(domid)


def test_guests_of_others_stay(hv: StubBackend) -> None:
    theirs = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with pyxcsr.open_hypervisor("stub") as mine:
        gone = mine.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
        mine.stub.destroy(gone)
    assert hv.stub.guest(theirs).running


def test_a_guest_of_a_later_machine_stays(hv: StubBackend) -> None:
    """Domids begin anew with each machine: the one that was ours may be another's now."""
    with pyxcsr.open_hypervisor("stub") as mine:
        ours = mine.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
        hv.stub.reset()
        assert hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M")) == ours
    assert hv.stub.guest(ours).running


def test_as_many_guests_as_one_likes(hv: StubBackend) -> None:
    for _ in range(40):  # of 256 MiB; the machine has 8 GiB
        with pyxcsr.open_hypervisor("stub") as mine:
            mine.stub.create(pyxcsr.StubGuest.pv64())
    assert hv.stub.domains == []


def test_a_forked_child_ends_nothing(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="thread", rate=1000))
    pid = os.fork()
    if not pid:
        try:
            hv.close()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0 and hv.stub.guest(domid).running


def test_a_writer_thread_without_a_rate_writes_nothing(hv: StubBackend) -> None:
    before = threads()
    domid = hv.stub.create(pyxcsr.StubGuest.parse("pv64:mem=4M,writer=thread,rate=0"))
    with open("/dev/null", "wb") as out:
        report = pyxcsr.save(hv, domid, out, policy="libxc")
    assert threads() == before and hv.stub.guest(domid).state().writes == 0
    assert report.target_reached


def test_what_things_say_of_themselves(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    assert repr(hv) == "<StubBackend 'stub', open>"
    assert repr(hv.stub).startswith(f"<Stub: guests {domid}; ")
    assert repr(hv.stub.guest(domid)) == f"<StubDomain {domid}: pv64, running, 1024 pages>"
    assert repr(pyxcsr.XenstoreSuspend(hv, domid)) == f"<XenstoreSuspend of domain {domid}, timeout 60 s>"
    guest = hv.stub.guest(domid)
    with open(tmp_path / "s", "w+b") as file:
        pyxcsr.save(hv, domid, file)
        assert "suspended" in repr(guest)
        file.seek(0)
        reader = pyxcsr.StreamReader(file)
        longest = max(len(repr(x)) for x in reader)
        assert longest < 200 and repr(reader) == f"<StreamReader: after END, at byte {reader.offset}>"
    hv.stub.destroy(domid)
    assert "no such guest" in repr(guest)
    hv.close()
    assert repr(hv) == "<StubBackend 'stub', closed>"


def test_a_described_guest_says_how_to_make_it_again() -> None:
    guest = pyxcsr.StubGuest.pv64(mem="16M", vcpus=2)
    assert repr(guest) == "StubGuest.parse('pv64:mem=16M,vcpus=2')"
    assert eval(repr(guest), {"StubGuest": pyxcsr.StubGuest}) == guest


def test_records_are_short() -> None:
    page = records.PageData.build([(0, pyxcsr.PageType.NOTAB, bytes(4096))] * 9)
    assert repr(page) == "PageData(entries=<9 words>, pages=<36864 bytes>, reserved=0)"


def test_a_child_forked_while_a_thread_holds_the_lock(hv: StubBackend) -> None:
    """The machine's lock is no lock of a thread that the child does not have."""
    hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="thread", rate=10**9))
    for _ in range(100):
        pid = os.fork()
        if not pid:
            signal.alarm(20)  # a child that waits for ever ends by this
            with pyxcsr.open_hypervisor("stub") as own:
                os._exit(own.stub.domains != [])
        assert os.waitpid(pid, 0)[1] == 0


def test_numbers_come_again_when_none_are_left(hv: StubBackend) -> None:
    """As Xen's do, but for those of domains that there are. None is as large as DOMID_FIRST_RESERVED."""
    kept, last = hv.stub.create_empty("1M"), 0
    seen = set()
    for _ in range(0x7FF0 + 100):
        last = hv.stub.create_empty("1M")
        seen.add(last)
        hv.stub.destroy(last)
    assert kept not in seen and seen == set(range(1, 0x7FF0)) - {kept}
    assert last < 200 and list(hv.stub.domains) == [kept]
