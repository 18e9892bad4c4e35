"""What must hold after each save of a hostile guest, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from support.judge import looks_complete

import pyxcsr
from hostile.guests import Hostile
from hostile.inside import Inside
from hostile.run import PASSES, Cost

SECONDS = 10.0
MIB = 1 << 20
SANITIZED = "libasan" in Path("/proc/self/maps").read_text()


def judge_refusal(case: Hostile, raised: BaseException, path: Path) -> None:
    """It is one of those that are expected, and leaves nothing that looks complete."""
    assert isinstance(raised, pyxcsr.XcsrError), repr(raised)
    wanted = [x for x in case.expect if x is not None]
    found = [x.__name__ for x in type(raised).__mro__]
    assert any(kind in found and words in str(raised) for kind, words in wanted), f"{raised!r}, not one of {wanted}"
    assert not looks_complete(path), "refused, and yet there is a complete stream"


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
        claimed = min(inside.claims(), 1 << 23) * passes
        assert cost.nr_bytes <= (state.max_pages * 4096 * times + 8 * claimed) * 1.01 + 65536, cost


def judge_ending(hv: Any, case: Hostile, inside: Inside, raised: Optional[BaseException]) -> None:
    """The guest runs, or is suspended by a save that succeeded; nothing is mapped, tracked or paused."""
    assert hv.stub.leaks() == {}
    if inside.domid not in hv.stub.domains:
        assert case.lost
        return
    state = inside.guest.state()
    assert not state.logdirty and not state.devmodel_logdirty
    if raised is None:
        assert inside.guest.suspended
    else:
        assert state.running or case.lost, state
