"""Guests that turn hostile between two checkpoints of a checkpointed save (Remus).

They are those of the other tables, and the same may come of them as when they are saved once: an image that is right,
or one of the errors that name what lied. Then the guest runs, and what was whole before is left: the first checkpoint.
``PYXCSR_ALL=1 pytest tests/hostile/test_checkpointed.py`` tries all of them.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional

import pytest
from support.judge import judge_pages, judge_rules, judge_state, save_to
from support.remus import is_whole_with, places

import pyxcsr
from hostile import guests, pv32_guests
from hostile.guests import Hostile
from hostile.inside import Inside
from hostile.judging import judge_ending
from hostile.run import Acting, Cost, hostile, inside_of, measured
from hostile.test_guests import judge_next
from pyxcsr.container.checkpoints import convert_checkpoint
from pyxcsr.hypervisor.open import StubBackend

ALL = os.environ.get("PYXCSR_ALL") == "1"
MOMENTS = ("before", "suspended", "thread")
"""Others are calls of the saver, of which all but a few find the guest suspended here: then no guest acts."""
CASES = [x for x in (*guests.GUESTS, *pv32_guests.GUESTS) if x.when in MOMENTS][:: 1 if ALL else 4]
COUNT = 3
MIB = 1 << 20


class Protected:
    """A guest that acts only once its first checkpoint is written."""

    def __init__(self, hv: StubBackend, case: Hostile, path: Path) -> None:
        other = hv.stub.create(pyxcsr.StubGuest.parse("pv64:mem=2M,writer=none"))
        self.hv, self.case, self.path = hv, case, path
        self.domid = hv.stub.create(pyxcsr.StubGuest.parse(f"{case.kind}:{case.guest}"))
        self.inside, self.cost = inside_of(hv, self.domid, other), Cost()
        self.acting: Optional[Acting] = None
        self.raised: Optional[BaseException] = None

    def save(self) -> None:
        with measured(self.cost), ExitStack() as stack:

            def checkpoint(done: Any) -> None:
                if self.acting is None:
                    self.acting = stack.enter_context(hostile(self.case, self.inside, self.cost))

            try:
                self.save_by(pyxcsr.Checkpointed(0.0, count=COUNT, checkpoint=checkpoint))
            except Exception as error:
                self.raised = error
        self.cost.nr_bytes = self.path.stat().st_size

    def save_by(self, asked: pyxcsr.Checkpointed) -> None:
        suspend = pyxcsr.XenstoreSuspend(self.hv, self.domid, timeout=self.case.patience)
        save_to(self.hv, self.domid, self.path, suspend=suspend, checkpointed=asked)

    @property
    def acted(self) -> int:
        return self.acting.acted if self.acting is not None else 0

    def checkpoint(self, number: int) -> Path:
        """One of the stream's checkpoints, as a plain stream."""
        plain = self.path.with_name(f"checkpoint-{number}")
        with open(self.path, "rb") as stream, open(plain, "wb") as out:
            convert_checkpoint(stream, out.write, number)
        return plain


@pytest.mark.parametrize("case", CASES, ids=[f"{x.kind} {x.name}" for x in CASES])
def test_hostile_between_checkpoints(hv: StubBackend, tmp_path: Path, case: Hostile) -> None:
    guest = Protected(hv, case, tmp_path / "s")
    guest.save()
    assert guest.acting is not None, f"the first checkpoint was never written: {guest.raised!r}"
    judge_rules(guest.checkpoint(1), xen=False)
    if not guest.acted and guest.raised is None:
        pytest.skip("its moment is one that does not come between checkpoints")
    if guest.raised is None:
        assert None in case.expect, "a save succeeded that had to be refused"
        last = guest.checkpoint(COUNT)
        judge_rules(last, xen=False)
        judge_pages(hv, guest.domid, last)
        judge_state(hv, guest.domid, last)
    else:
        judge_refused(guest)
    judge_bounds(guest.inside, guest.cost)
    judge_ending(hv, case, guest.inside, guest.raised)
    if not case.lost:
        judge_next(hv, guest.inside, tmp_path / "next")


def judge_refused(guest: Protected) -> None:
    """By an error that is expected of such a guest; END has not been written."""
    raised, case = guest.raised, guest.case
    assert isinstance(raised, pyxcsr.XcsrError), repr(raised)
    assert guest.acted or case.lost, f"it has not acted, and yet: {raised!r}"
    kinds = {kind for wanted in case.expect if wanted is not None for kind in wanted[:1]} | {"GuestStateError"}
    assert kinds & {x.__name__ for x in type(raised).__mro__}, f"{raised!r}, not one of {sorted(kinds)}"
    data = guest.path.read_bytes()
    whole = [x for x in places(data) if is_whole_with(x, False)]
    assert 1 <= len(whole) < COUNT or data[whole[-1].end :] != bytes(8)


def judge_bounds(inside: Inside, cost: Cost) -> None:
    """As for a single save; the stream has a live save's passes and a last one for each further checkpoint."""
    assert cost.python < 24 * MIB and cost.seconds < 20.0 and cost.mapped <= 1024 + 16384, cost
    if inside.domid in inside.hv.stub.domains:
        times = 6 + COUNT
        claimed = min(inside.claims(), 1 << 23) * times
        assert cost.nr_bytes <= (inside.guest.state().max_pages * 4096 * times + 8 * claimed) * 1.01 + 65536, cost
