"""Every hostile PVH and HVM guest, saved live and not: refused by name or saved right, at bounded cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest
from support.hvm_guests import ToldDeviceModel, judge_hvm, save_hvm, wrong_pages
from support.judge import judge_rules

from hostile.guests import MAPS, Hostile
from hostile.hvm_guests import HVM_GUESTS
from hostile.inside import Inside
from hostile.judging import judge_cost, judge_ending, judge_refusal
from hostile.run import PASSES, save_hostile
from pyxcsr.guest.hvm import pod
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.report import SaveReport
from pyxcsr.suspend.hvm import HvmSuspend

CASES = [(case, live) for case in HVM_GUESTS for live in (True, False) if live or not case.live_only]


def test_names_are_distinct() -> None:
    assert len({x.name for x in HVM_GUESTS}) == len(HVM_GUESTS) > 100


@pytest.mark.parametrize(("case", "live"), CASES, ids=[f"{c.name}-{'live' if v else 'non-live'}" for c, v in CASES])
def test_hostile_guest(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Hostile, live: bool
) -> None:
    monkeypatch.setattr(pod, "SECONDS", case.patience)
    path, saver = tmp_path / "s", Saver()
    inside, cost, raised, acted = save_hostile(hv, case, path, live, saver)
    assert acted or case.when[0] == MAPS, "it never came to act: this tests nothing"
    judge_outcome(hv, case, inside, raised, path, saver.report)
    judge_cost(inside, cost, raised, PASSES if live else 1)
    judge_ending(hv, case, inside, raised)
    assert saver.told in ([], [True, False]) or case.lost  # it is told twice to stop if it does not
    if not case.lost and not case.for_good:
        judge_next(hv, inside, tmp_path / "next")


class Saver:
    """Saves into a file. ``told``: what the device model was told; ``report``: if the save succeeded."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.report: Optional[SaveReport] = None

    def __call__(self, hv: Any, domid: int, path: Path, live: bool, patience: float, **options: Any) -> None:
        guest = hv.stub.guest(domid)
        model = ToldDeviceModel(guest) if guest.state().device_model else None
        if model is not None:
            self.told = model.told
        path.touch()
        suspend = HvmSuspend(hv, domid, None, patience)
        self.report = save_hvm(hv, domid, path, live=live, suspend=suspend, device_model=model, **options)


def judge_outcome(
    hv: StubBackend, case: Hostile, inside: Inside, raised: Optional[BaseException], path: Path,
    report: Optional[SaveReport],
) -> None:  # fmt: skip
    """Refused as it should be, or saved right. What nothing tells of may be wrong: pages that it has exchanged."""
    if raised is not None:
        judge_refusal(case, raised, path)
        return
    assert None in case.expect and report is not None, "a save succeeded that had to be refused"
    if "exchanges" in case.name or report.physmap.may_have_missed:
        judge_rules(path, xen=False)
        assert set(wrong_pages(hv, inside.domid, path)) <= inside.changed
        assert report.warnings or not report.physmap.may_have_missed
    else:
        judge_hvm(hv, inside.domid, path, xen=False)


def judge_next(hv: StubBackend, inside: Inside, path: Path) -> None:
    """The guest behaves again, and the very next save of it is right."""
    if inside.guest.suspended:
        hv.domain_resume(inside.domid)
    inside.behave()
    inside.guest.set_suspend("ok")
    save_hvm(hv, inside.domid, path, live=False)
    judge_hvm(hv, inside.domid, path, xen=False)
