"""Every hostile guest, saved live and not: refused by name or saved right, at bounded cost; nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from support.judge import judge, judge_pages, judge_rules, judge_state, save_to

import pyxcsr
from hostile.guests import GUESTS, MAPS, Hostile
from hostile.inside import Inside
from hostile.judging import judge_cost, judge_ending, judge_refusal
from hostile.run import PASSES, save_hostile
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.policy import P2M_CHANGES

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
    judge_refusal(case, raised, path)


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


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("kind", ["pv64", "pv32"])
def test_another_domains_frame_of_the_same_pfn(hv: StubBackend, tmp_path: Path, kind: str, live: bool) -> None:
    """The m2p gives the frame to this pfn, and no page table names the one that the guest had there before."""
    described = pyxcsr.StubGuest.parse(f"{kind}:mem=5M,writes=0,pt_updates=0,seed=5")
    domid = hv.stub.create(described)
    g = Inside(hv, domid, hv.stub.create(described))
    pfn = g.data()
    g.p2m(pfn, g.other.mfn(pfn))
    for _ in range(4):
        try:
            save_to(hv, domid, tmp_path / "s", live=live)
        except pyxcsr.PageTableError as error:
            assert error.pfn is not None and error.index is not None
            g.word(error.pfn, error.index, 0)
        except pyxcsr.PageError as error:
            assert (error.pfn, error.mfn) == (pfn, g.other.mfn(pfn)) and "not the guest's" in str(error)
            return
        else:
            break
    pytest.fail("a frame of another domain's was taken for a hole")
