"""A p2m that cannot be read while the guest runs: whether it is being changed, or wrong, is told apart."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge, save_to

import pyxcsr
from pyxcsr.guest.pv.p2m import attempts
from pyxcsr.hypervisor.open import StubBackend
from transfer.test_p2m_changes import at

QUICK = pyxcsr.P2mLimits(settle_seconds=0.1)
KINDS = ["pv64", "pv32"]
TOP = "pfn_to_mfn_frame_list_list"


def make(hv: StubBackend, kind: str) -> tuple[int, Any]:
    domid = hv.stub.create(pyxcsr.StubGuest.parse(f"{kind}:mem=8M,tree=only,writes=0,pt_updates=0"))
    return domid, hv.stub.guest(domid)


class Tree:
    """An entry of the guest's one frame list, which can be made wrong and right again."""

    def __init__(self, hv: StubBackend, guest: Any) -> None:
        self._guest, self._width = guest, hv.domain_width(guest.domid)
        top = self._pfn(hv, guest.shared_info(TOP))
        self._list = self._pfn(hv, self._word(top, 0))
        self._right = self._word(self._list, 1)

    @staticmethod
    def _pfn(hv: StubBackend, mfn: int) -> int:
        pfn = hv.stub.frame(mfn)[1]
        assert pfn is not None
        return pfn

    def _word(self, pfn: int, index: int) -> int:
        at = self._width * index
        return int.from_bytes(self._guest.read_page(pfn)[at : at + self._width], "little")

    def put(self, mfn: int) -> None:
        self._guest.write_page(self._list, mfn.to_bytes(self._width, "little"), self._width)

    def mend(self) -> None:
        self.put(self._right)


def refused(hv: StubBackend, domid: int, **options: Any) -> pyxcsr.P2mError:
    options = {"p2m_limits": QUICK, **options}
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mError) as caught:
        pyxcsr.save(hv, domid, out, **options)
    assert hv.stub.guest(domid).running and hv.stub.leaks() == {}
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field, value", [(TOP, 0), ("max_pfn", 0), ("max_pfn", (1 << 32) - 1)])
def test_what_shared_info_says_of_a_tree_is_no_change(hv: StubBackend, kind: str, field: str, value: int) -> None:
    """As of a kernel that has not booted far enough: a number that cannot be is said at once, and once; a top that is
    not there yet is waited for."""
    domid, guest = make(hv, kind)
    guest.poke_shared_info(field, value)
    polls: list[int] = []
    error = refused(hv, domid, p2m_limits=None, cancel=lambda: polls.append(1) is not None)
    assert type(error) is pyxcsr.P2mError and error.field == field
    assert len(polls) < (10 if field == "max_pfn" else 60)


@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_that_was_just_restored_is_waited_for(hv: StubBackend, kind: str, tmp_path: Path) -> None:
    """It says where its p2m is once it has gone on."""
    domid, guest = make(hv, kind)
    top = guest.shared_info(TOP)
    guest.poke_shared_info(TOP, 0)
    began = time.monotonic()

    def cancel() -> bool:
        if time.monotonic() - began > 0.15:
            guest.poke_shared_info(TOP, top)
        return False

    save_to(hv, domid, tmp_path / "s", cancel=cancel, p2m_limits=pyxcsr.P2mLimits(settle_seconds=5.0))
    judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_that_stays_wrong_is_wrong(hv: StubBackend, kind: str) -> None:
    domid, guest = make(hv, kind)
    Tree(hv, guest).put(0)
    polls: list[int] = []
    error = refused(hv, domid, cancel=lambda: polls.append(1) is not None)
    assert type(error) is pyxcsr.P2mError and error.index == 1 and "entry 1 of the frame list" in str(error)
    assert len(polls) < 60, "the saver looks again and again without a pause"


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_that_is_being_changed_is_waited_for(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    """Longer than 16 walks take one after another."""
    domid, guest = make(hv, kind)
    tree, polls = Tree(hv, guest), []
    tree.put(0)

    def cancel() -> bool:
        polls.append(1)
        if len(polls) == 20:
            tree.mend()
        return False

    save_to(hv, domid, tmp_path / "s", cancel=cancel)
    assert len(polls) > 20
    judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_that_never_rests_is_being_changed(hv: StubBackend, kind: str) -> None:
    domid, guest = make(hv, kind)
    tree, polls = Tree(hv, guest), []

    def cancel() -> bool:
        polls.append(1)
        tree.put(hv.nr_mfns() + len(polls))
        return False

    tree.put(0)
    error = refused(hv, domid, cancel=cancel)
    assert isinstance(error, pyxcsr.P2mChanged) and "all the time" in str(error) and "frame list is" in str(error)


@pytest.mark.parametrize("mended", [True, False])
def test_a_tree_that_goes_wrong_later(hv: StubBackend, tmp_path: Path, mended: bool) -> None:
    """The first pass has begun. A change that ends is followed; what stays wrong ends the save with what is wrong."""
    domid, guest = make(hv, "pv64")
    tree, polls = Tree(hv, guest), []

    def cancel() -> bool:
        polls.append(1)
        if mended and len(polls) == start[0] + 5:
            tree.mend()
        return False

    start = [1 << 30]

    def breaks() -> None:
        start[0] = len(polls)
        tree.put(0)

    with hv.stub.hook(at("xc_logdirty_control", 1, breaks)):
        if mended:
            save_to(hv, domid, tmp_path / "s", cancel=cancel)
            judge(hv, domid, tmp_path / "s")
        else:
            error = refused(hv, domid, cancel=cancel, policy="libxc")
            assert type(error) is pyxcsr.P2mError and error.index == 1


@pytest.mark.parametrize("settle", [0.0, 0.05])
def test_a_look_has_an_end(hv: StubBackend, settle: float) -> None:
    """A list that the guest announces to be another one during each walk, before anything is mapped."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, pt_updates=0))
    guest = hv.stub.guest(domid)

    def hook(name: str, count: int) -> None:
        if name == "xenforeignmemory_map" and guest.running:
            guest.bump_generation(2)

    limits = pyxcsr.P2mLimits(settle_seconds=settle)
    with hv.stub.hook(hook):
        error = refused(hv, domid, p2m_limits=limits)
    assert isinstance(error, pyxcsr.P2mChanged)
    assert f"in {16 if not settle else ''}" in str(error)


def test_walks_that_take_long_are_made_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large guest: 0.3 s each, and the time for a change is over after four."""
    now = [100.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: now[0])
    for first in (True, False):
        look = attempts.Attempts(1.0, first)
        while not look.over:
            now[0] += 0.3
            look.failed(pyxcsr.P2mChanged("it has changed"), look.count)
        assert look.count == 16
    look = attempts.Attempts(1.0, True)
    while not look.over:
        now[0] += 3.0
        look.failed(pyxcsr.P2mChanged("it has changed"), look.count)
    assert look.count == 4
