"""Whether a live save got as few dirty pages as its policy wanted is in its report, whoever asked for it."""

from __future__ import annotations

from typing import Literal, Optional, Union

import pytest

import pyxcsr
from pyxcsr.cli.show import summary
from pyxcsr.helper.summary import summary as helpers_summary
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.report import PassReport
from pyxcsr.transfer.target import Target

Chosen = Union[pyxcsr.Policy, Literal["libxc"], None]


def saved(hv: StubBackend, guest: str, policy: Chosen, *, live: bool = True) -> pyxcsr.SaveReport:
    domid = hv.stub.create(pyxcsr.StubGuest.parse(guest))
    with open("/dev/null", "wb") as out:
        return pyxcsr.save(hv, domid, out, policy=policy, live=live)


BUSY = "pv64:mem=8M,writes=200"
IDLE = "pv64:mem=8M,writer=none"


@pytest.mark.parametrize(
    ("guest", "numbers", "reached"), [(BUSY, (2, 1), False), (BUSY, (2, 0), False), (IDLE, (3, 50), True)]
)
def test_a_target(hv: StubBackend, guest: str, numbers: tuple[int, int], reached: bool) -> None:
    report = saved(hv, guest, pyxcsr.SimplePolicy(*numbers))
    assert (report.target_dirty, report.target_reached) == (numbers[1], reached)
    assert report.to_dict()["target_reached"] is reached and report.to_dict()["target_dirty"] == numbers[1]
    said = f"fewer than {numbers[1]} dirty pages was "
    assert (said in summary(report), said in helpers_summary(report)) == (not reached, not reached)


def test_which_defaults_have_a_target(hv: StubBackend) -> None:
    assert saved(hv, BUSY, "libxc").target_dirty == 50
    assert saved(hv, BUSY, None).target_dirty is None
    assert saved(hv, BUSY, "adaptive").target_dirty is None, "it goes by what is worth a further pass"


def test_a_save_without_a_target(hv: StubBackend) -> None:
    def policy(stats: pyxcsr.PrecopyStats) -> pyxcsr.Decision:
        return pyxcsr.Decision.STOP_AND_COPY

    for report in (saved(hv, IDLE, policy), saved(hv, IDLE, None, live=False)):
        assert (report.target_dirty, report.target_reached) == (None, None)
        assert "target" not in summary(report)


@pytest.mark.parametrize(("before", "after", "told"), [(1, None, (None, None)), (None, 1500, (1500, True)),
                                                      (1500, 1, (1, False)), (1, 1500, (1500, True))])  # fmt: skip
@pytest.mark.parametrize("when", ["setup", "pass", "final"])
def test_a_target_that_is_changed_while_it_runs(
    hv: StubBackend, before: Optional[int], after: Optional[int], told: tuple[Optional[int], Optional[bool]], when: str
) -> None:
    """The report goes by the last one."""
    limits = pyxcsr.Limits(target_dirty=before, max_iterations=4)

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == when:
            limits.target_dirty = after

    domid = hv.stub.create(pyxcsr.StubGuest.parse(BUSY))
    with open("/dev/null", "wb") as out:
        report = pyxcsr.save(hv, domid, out, limits=limits, progress=progress)
    assert (report.target_dirty, report.target_reached) == told
    assert ("dirty pages was " in summary(report)) == (told == (1, False))


def test_the_least_that_was_dirty_outlives_a_policy(hv: StubBackend) -> None:
    report = pyxcsr.SaveReport(1, True)
    target = Target(pyxcsr.SimplePolicy(5, 10))
    target.asked(30)
    target.asked(70)
    target.policy = pyxcsr.SimplePolicy(5, 50)
    report.passes.append(PassReport(1, True, 70))
    target.tell(report)
    assert (report.target_dirty, report.target_reached) == (50, True)


def test_a_policy_of_ones_own_with_a_target(hv: StubBackend) -> None:
    class Mine:
        target_dirty = 1500

        def __call__(self, stats: pyxcsr.PrecopyStats) -> pyxcsr.Decision:
            few = stats.dirty_count is not None and stats.dirty_count < self.target_dirty
            return pyxcsr.Decision.STOP_AND_COPY if few else pyxcsr.Decision.CONTINUE

    report = saved(hv, BUSY, Mine())
    assert (report.target_dirty, report.target_reached) == (1500, True)
