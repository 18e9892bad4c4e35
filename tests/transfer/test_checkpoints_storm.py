"""Guests that do all they can to their memory while they are protected: each checkpoint is the guest of its moment.

``PYXCSR_SEEDS=200 pytest tests/transfer/test_checkpoints_storm.py`` runs more of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.hvm_guests import suspend_hvm
from support.hvm_kinds import NOT_TOLD_OF
from support.hvm_storm import HvmStorm
from support.remus import Protected, is_whole_with, places
from support.storm import MAX_PFNS, Storm

import pyxcsr
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import device_model_of
from pyxcsr.hypervisor.stub.panel import StubError

SEEDS = range(int(os.environ.get("PYXCSR_SEEDS", "12")))
COUNT = 4


def check_all(guest: Protected, tmp_path: Path, seed: int) -> None:
    """Each checkpoint, of a stream that is cut off somewhere behind it."""
    data, rng = guest.path.read_bytes(), random.Random(seed)
    ends = [x.end for x in places(data) if is_whole_with(x, False)]
    assert len(ends) == len(guest.truths)
    for end, behind in zip(ends, [*ends[1:], len(data) + 1]):
        guest.check_cut(data[: rng.randrange(end, behind)], tmp_path / "cut")


def to_and_fro(storm: Storm, seed: int) -> Callable[[object], None]:
    """Between checkpoints the p2m loses pages, and often has them again later, with holes in them."""
    rng, sizes = random.Random(seed), {storm.guest.nr_pfns + 2000}

    def change(_: object) -> None:
        if not storm.guest.running or storm.holding is not None:
            return
        sizes.add(storm.guest.nr_pfns)
        lowest = max(storm.guest.pfns_with_memory()) + 1
        with suppress(StubError):
            storm.guest.resize_p2m(rng.choice([lowest, min(max(sizes), MAX_PFNS)]))

    return change


@pytest.mark.parametrize("kind", ["pv64", "pv32"])
@pytest.mark.parametrize("seed", SEEDS)
def test_pv(hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, kind: str) -> None:
    storm = Storm(hv, seed, kind)
    monkeypatch.setattr(saving, "BATCHES_US", storm.batches_us)
    if storm.kind == "never settles":
        hv.stub.destroy(storm.domid)
        pytest.skip("such a guest cannot be saved at all")
    options = {"cancel": storm.polled, "policy": pyxcsr.SimplePolicy(max_iterations=storm.max_iterations)}
    guest = Protected(hv, storm.domid, tmp_path / "s", **options)
    with hv.stub.hook(storm.hook):
        guest.run(COUNT, interval=0.002, checkpoint=to_and_fro(storm, seed))
    check_all(guest, tmp_path, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_hvm(hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    storm = HvmStorm(hv, seed)
    monkeypatch.setattr(saving, "BATCHES_US", storm.batches_us)
    if storm.kind in (*NOT_TOLD_OF, "pod stays") or storm.asleep:
        hv.stub.destroy(storm.domid)
        pytest.skip("Xen tells of nothing; or the guest cannot be saved, or does nothing")
    policy = pyxcsr.SimplePolicy(max_iterations=storm.max_iterations)
    options = {"policy": policy, "suspend": suspend_hvm(hv, storm.domid)}
    guest = Protected(hv, storm.domid, tmp_path / "s", device_model=device_model_of(storm.guest), **options)
    with hv.stub.hook(storm.hook):
        guest.run(COUNT, interval=0.002)
    check_all(guest, tmp_path, seed)
