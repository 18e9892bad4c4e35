"""Every hostile guest, saved live and not: refused by name or saved right, at bounded cost; nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from support.judge import judge, judge_pages, judge_rules, judge_state, save_to

import pyxcsr
from hostile.guests import GUESTS, MAPS, Hostile
from hostile.inside import Inside
from hostile.run import PASSES, Cost, save_hostile
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.policy import P2M_CHANGES
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.verify import verify

SECONDS = 10.0
MIB = 1 << 20
SANITIZED = "libasan" in Path("/proc/self/maps").read_text()

CASES = [(case, live) for case in GUESTS for live in (True, False) if live or not case.live_only]


def save_by(p2m_changes: str) -> Callable[[Any, int, Path, bool, float], None]:
    """A save into a file."""

    def save_it(hv: Any, domid: int, path: Path, live: bool, patience: float) -> None:
        suspend = pyxcsr.XenstoreSuspend(hv, domid, timeout=patience)
        save_to(hv, domid, path, live=live, suspend=suspend, p2m_changes=p2m_changes)

    return save_it


def test_names_are_distinct() -> None:
    assert len({x.name for x in GUESTS}) == len(GUESTS) > 100


@pytest.mark.parametrize("p2m_changes", P2M_CHANGES)
@pytest.mark.parametrize(("case", "live"), CASES, ids=[f"{c.name}-{'live' if v else 'non-live'}" for c, v in CASES])
def test_hostile_guest(hv: StubBackend, tmp_path: Path, case: Hostile, live: bool, p2m_changes: str) -> None:
    path = tmp_path / "s"
    inside, cost, raised, acted = save_hostile(hv, case, path, live, save_by(p2m_changes))
    assert acted or case.when[0] == MAPS, "it never came to act: this tests nothing"
    followed = live and p2m_changes == "follow"
    judge_outcome(hv, case, inside, raised, path, followed)
    judge_cost(inside, cost, raised, PASSES if followed else 1)
    judge_ending(hv, case, inside, raised)
    if not case.lost:
        judge_next(hv, inside, tmp_path / "next")


def judge_outcome(
    hv: StubBackend, case: Hostile, inside: Inside, raised: Optional[BaseException], path: Path, followed: bool
) -> None:
    """Refused as it should be, or saved right."""
    if raised is None:
        assert None in case.expect, "a save succeeded that had to be refused"
        judge_rules(path, xen=False)
        judge_pages(hv, inside.domid, path, given_back=case.gives_back and not followed)
        judge_state(hv, inside.domid, path)
        return
    assert isinstance(raised, pyxcsr.XcsrError), repr(raised)
    wanted = [x for x in case.expect if x is not None]
    found = [x.__name__ for x in type(raised).__mro__]
    assert any(kind in found and words in str(raised) for kind, words in wanted), f"{raised!r}, not one of {wanted}"
    assert not complete(path), "refused, and yet there is a complete stream"


def complete(path: Path) -> bool:
    """Whether a stream looks like one that may be restored."""
    with open(path, "rb") as stream:
        try:
            return verify(StreamReader(stream)).ok
        except pyxcsr.StreamError:
            return False


def judge_cost(inside: Inside, cost: Cost, raised: Optional[BaseException], times: int) -> None:
    """What the guest owns, sent so many ``times``, bounds the stream; memory and time are bounded by what it may claim.

    One that changes its p2m in each pass has its pages sent again in each, like one that writes all its memory.
    """
    state = inside.guest.state() if inside.domid in inside.hv.stub.domains else None
    assert cost.seconds < SECONDS
    assert cost.mapped <= 1024 + 16384, cost
    assert cost.python < 24 * MIB, cost
    if cost.resident is not None and not SANITIZED:
        assert cost.resident < 64 * MIB, cost
    if state is not None:
        passes = times if raised is None else PASSES  # what cannot be sent is entered in each
        claimed = min(inside.guest.shared_info("max_pfn"), 1 << 23) * passes
        assert cost.nr_bytes <= (state.max_pages * 4096 * times + 8 * claimed) * 1.01 + 65536, cost


def judge_ending(hv: StubBackend, case: Hostile, inside: Inside, raised: Optional[BaseException]) -> None:
    """The guest runs, or is suspended by a save that succeeded; nothing is mapped, tracked or paused."""
    assert hv.stub.leaks() == {}
    if inside.domid not in hv.stub.domains:
        assert case.lost
        return
    state = inside.guest.state()
    assert not state.logdirty
    if raised is None:
        assert inside.guest.suspended
    else:
        assert state.running or case.lost, state


def judge_next(hv: StubBackend, inside: Inside, path: Path) -> None:
    """The guest behaves again, and the very next save of it is right."""
    if inside.guest.suspended:
        hv.domain_resume(inside.domid)
    inside.behave()
    inside.guest.set_suspend("ok")
    if inside.guest.shared_info("p2m_generation") & 1:
        inside.guest.bump_generation(1)
    save_to(hv, inside.domid, path, live=False)
    judge(hv, inside.domid, path, xen=False)


def test_undoing_works(hv: StubBackend, tmp_path: Path) -> None:
    """What the tests above rely on: a guest that took its lies back is what it was."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="none"))
    inside = Inside(hv, domid, domid)
    before = inside.guest.read_shared_info(), inside.guest.read_page(inside.slots()[4][0])
    inside.at_level(4, 0)
    inside.shared("max_pfn", 1)
    with pytest.raises(StubError):
        inside.word(1 << 40, 0, 0)
    assert (inside.guest.read_shared_info(), inside.guest.read_page(inside.pfn_of(
        inside.guest.shared_info("p2m_cr3") >> 12))) != before
    inside.behave()
    assert (inside.guest.read_shared_info(), inside.guest.read_page(inside.slots()[4][0])) == before
