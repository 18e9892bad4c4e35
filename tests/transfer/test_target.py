"""Whether a live save got as few dirty pages as its policy wanted is in its report, whoever asked for it."""

from __future__ import annotations

import errno
from typing import Literal, Optional, Union

import pytest

import pyxcsr
from pyxcsr.cli.show import summary
from pyxcsr.helper.summary import summary as helpers_summary
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policies.adaptive import AdaptivePolicy
from pyxcsr.report import PassReport
from pyxcsr.transfer.deciding import Deciding
from pyxcsr.transfer.outlook import Outlook
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


MANY = 3000
"""More pages than the guest has."""

TOLD = {None: (None, None), 1: (1, False), MANY: (MANY, True)}


@pytest.mark.parametrize(("before", "after"), [(1, None), (None, MANY), (MANY, 1), (1, MANY)])
@pytest.mark.parametrize("when", ["setup", "pass", "suspend", "final"])
def test_a_target_that_is_changed_while_it_runs(
    hv: StubBackend, before: Optional[int], after: Optional[int], when: str
) -> None:
    """The report goes by the last one that could do anything: what was missed is not to be wished away afterwards."""
    limits = pyxcsr.Limits(target_dirty=before, max_iterations=4)

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == when:
            limits.target_dirty = after

    domid = hv.stub.create(pyxcsr.StubGuest.parse(BUSY))
    with open("/dev/null", "wb") as out:
        report = pyxcsr.save(hv, domid, out, limits=limits, progress=progress)
    told = TOLD[after if when in ("setup", "pass") else before]
    assert (report.target_dirty, report.target_reached) == told
    assert ("dirty pages was " in summary(report)) == (told == (1, False))


LEFT = {
    # what the policy was told when it decided, what a pass under way had still to send, what the last bitmap had
    "by the fetched bitmap, which is what libxenguest's numbers mean": (30, 0, 70, True),
    "it had more then": (60, 0, 70, False),
    "by a look, or not at all": (None, 0, 70, False),
    "few were left": (None, 0, 30, True),
    "few were left, and the rest of a pass": (None, 40, 30, False),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_was_left_for_the_pause(name: str) -> None:
    decided, rest, left, reached = LEFT[name]
    report, target = pyxcsr.SaveReport(1, True), Target(pyxcsr.SimplePolicy(5, 50))
    target.decided(decided)
    target.settle(rest)
    report.passes += [PassReport(0, False, 2048), PassReport(1, True, left)]
    target.tell(report)
    assert (report.target_dirty, report.target_reached, report.dirty_left) == (50, reached, left + rest)
    assert (f": {left + rest} were left to be sent" in summary(report)) is not reached


def test_who_decides_by_the_bitmap_because_xen_cannot_be_asked_means_the_pause() -> None:
    def count() -> int:
        raise pyxcsr.HypervisorError("no", op="xc_logdirty_control", errno=errno.EPERM)

    report, outlook = pyxcsr.SaveReport(1, True), Outlook(1)
    report.passes.append(PassReport(0, False, 30, pages=30, seconds=0.1))
    outlook.passed(report.passes[0], 0.1, 0.0, 0.0)
    deciding = Deciding(AdaptivePolicy(pyxcsr.Limits(target_dirty=50)), report, outlook, count)
    wanted = [pyxcsr.Decision.CONTINUE, pyxcsr.Decision.STOP_AND_COPY]
    assert [deciding.ask(x, nr_pfns=2048, bytes_sent=1, seconds=0.1) for x in (None, 30)] == wanted
    deciding.suspends(0)
    report.passes.append(PassReport(1, True, 70))
    deciding.finish()
    assert (report.target_dirty, report.target_reached) == (50, False)


def test_a_pass_that_is_cut_leaves_its_rest_for_the_pause(hv: StubBackend) -> None:
    """The guest is suspended in the midst of the first one: it has dirtied nothing, and nearly all is left."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse(IDLE))
    limits = pyxcsr.Limits(target_dirty=50, bandwidth="1M")

    def progress(now: pyxcsr.Progress) -> None:
        limits.suspend_now = now.phase == "pass"

    with open("/dev/null", "wb") as out:
        report = pyxcsr.save(hv, domid, out, limits=limits, progress=progress)
    assert report.passes[-1].dirty < 50 and report.target_reached is False and (report.dirty_left or 0) > 500


def test_a_policy_of_ones_own_with_a_target(hv: StubBackend) -> None:
    class Mine:
        target_dirty = 1500

        def __call__(self, stats: pyxcsr.PrecopyStats) -> pyxcsr.Decision:
            few = stats.dirty_count is not None and stats.dirty_count < self.target_dirty
            return pyxcsr.Decision.STOP_AND_COPY if few else pyxcsr.Decision.CONTINUE

    report = saved(hv, BUSY, Mine())
    assert (report.target_dirty, report.target_reached) == (1500, True)
