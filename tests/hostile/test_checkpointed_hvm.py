"""PVH and HVM guests that turn hostile between two checkpoints of a save (Remus): see test_checkpointed.py.

``PYXCSR_ALL=1 pytest tests/hostile/test_checkpointed_hvm.py`` tries all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.judge import judge_rules

import pyxcsr
from hostile.guests import Hostile
from hostile.hvm_guests import ASKED, HVM_GUESTS
from hostile.judging import judge_ending
from hostile.test_checkpointed import ALL, COUNT, MOMENTS, Protected, judge_bounds, judge_refused
from hostile.test_hvm_guests import Saver, judge_next, judge_outcome
from pyxcsr.guest.hvm import following, pod
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer import checkpoints

NOT_AT_ALL = "never populated"
"""Guests that are populated on demand, and never done with that: no checkpoint of theirs is ever written."""
CASES = [x for x in HVM_GUESTS if x.when in (*MOMENTS, ASKED) and NOT_AT_ALL not in x.name][:: 1 if ALL else 3]


class ProtectedHvm(Protected):
    """The same with its device model, which is told to track once, and to end that."""

    def __init__(self, hv: StubBackend, case: Hostile, path: Path) -> None:
        super().__init__(hv, case, path)
        self.saver = Saver()

    def save_by(self, asked: pyxcsr.Checkpointed) -> None:
        self.saver(self.hv, self.domid, self.path, True, self.case.patience, checkpointed=asked)


@pytest.mark.parametrize("case", CASES, ids=[x.name for x in CASES])
def test_hostile_between_checkpoints(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Hostile
) -> None:
    monkeypatch.setattr(pod, "SECONDS", case.patience)
    monkeypatch.setattr(following, "UNWATCHED", 1e9)  # guests act at calls: these do not go by how long it had to wait
    monkeypatch.setattr(checkpoints, "CALLED", 1e9)
    guest = ProtectedHvm(hv, case, tmp_path / "s")
    guest.save()
    assert guest.acting is not None, f"the first checkpoint was never written: {guest.raised!r}"
    judge_rules(guest.checkpoint(1), xen=False)
    assert guest.acted or guest.raised is None
    if not guest.acted:
        pytest.skip("its moment is one that does not come between checkpoints")
    if guest.raised is None:
        judge_outcome(hv, case, guest.inside, None, guest.checkpoint(COUNT), guest.saver.report)
    else:
        judge_refused(guest)
    judge_bounds(guest.inside, guest.cost)
    judge_ending(hv, case, guest.inside, guest.raised)
    assert guest.saver.told in ([], [True, False]) or case.lost
    if not case.lost and not case.for_good:
        judge_next(hv, guest.inside, tmp_path / "next")
