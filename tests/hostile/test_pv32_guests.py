"""Hostile 32-bit guests: refused by name or saved right, at bounded cost; nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostile.guests import MAPS, Hostile
from hostile.judging import judge_cost, judge_ending
from hostile.pv32_guests import GUESTS
from hostile.run import PASSES, save_hostile
from hostile.test_guests import judge_next, judge_outcome, save_by
from pyxcsr.hypervisor.open import StubBackend

CASES = [(case, live) for case in GUESTS for live in (True, False) if live or not case.live_only]


def test_names_are_distinct() -> None:
    assert len({x.name for x in GUESTS}) == len(GUESTS) > 100


@pytest.mark.parametrize(("case", "live"), CASES, ids=[f"{c.name}-{'live' if v else 'non-live'}" for c, v in CASES])
def test_hostile_guest(hv: StubBackend, tmp_path: Path, case: Hostile, live: bool) -> None:
    path = tmp_path / "s"
    inside, cost, raised, acted = save_hostile(hv, case, path, live, save_by("follow"))
    assert acted or case.when[0] == MAPS, "it never came to act: this tests nothing"
    judge_outcome(hv, case, inside, raised, path, live)
    judge_cost(inside, cost, raised, PASSES if live else 1)
    judge_ending(hv, case, inside, raised)
    if not case.lost:
        judge_next(hv, inside, tmp_path / "next")
