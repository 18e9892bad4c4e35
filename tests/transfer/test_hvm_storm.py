"""Saves of HVM and PVH guests that balloon all along: every page is as it was when the guest was suspended.

``PYXCSR_SEEDS=1000 pytest tests/transfer/test_hvm_storm.py`` runs a thousand; docs/reliability.md has what came of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.hvm_guests import suspend_hvm
from support.hvm_kinds import NOT_TOLD_OF
from support.hvm_storm import MAX_MEM, HvmStorm
from support.hvm_truth import differences, image_of, wrong
from support.judge import judge_rules

import pyxcsr
from pyxcsr.guest.hvm import pod
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import device_model_of

LONG = range(10_000, 10_005)
"""Seeds of guests whose frames are in runs of 512."""
SEEDS = sorted({*range(int(os.environ.get("PYXCSR_SEEDS", "20"))), *LONG})


@pytest.mark.parametrize("seed", SEEDS)
def test_saved_and_restored(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    hv.stub.reset(extent_order=9 if seed in LONG else seed % 2 * 3)  # frames one by one, or in runs as usual
    storm = HvmStorm(hv, seed)
    monkeypatch.setattr(saving, "BATCHES_US", storm.batches_us)
    monkeypatch.setattr(pod, "SECONDS", 0.3 if storm.kind == "pod stays" else 30.0)
    path = tmp_path / "s"
    try:
        with hv.stub.hook(storm.hook), open(path, "wb") as out:
            report = pyxcsr.save(
                hv,
                storm.domid,
                out,
                live=storm.live,
                policy=pyxcsr.SimplePolicy(max_iterations=storm.max_iterations),
                suspend=suspend_hvm(hv, storm.domid),
                device_model=device_model_of(storm.guest),
            )
    except pyxcsr.NotSupported:
        assert storm.kind == "pod stays"
        assert storm.guest.running and hv.stub.leaks() == {}
        return
    assert hv.stub.leaks() == {} and not storm.guest.state().logdirty
    if seed % 5 == 0:  # takes longest: a million holes
        judge_rules(path, xen=seed % 10 == 0)
    found = wrong(storm.guest, path)
    if storm.kind in NOT_TOLD_OF:  # nothing tells of that: docs/hvm.md
        return
    assert found == ([], []), f"{found}; {storm.kind}: {storm.text} {storm.done} {report.physmap}"
    saved = image_of(hv, storm.domid)
    new = hv.stub.create_empty(MAX_MEM, vcpus=storm.guest_vcpus, kind=storm.type)
    with open(path, "rb") as stream:
        pyxcsr.restore(hv, new, stream, store_evtchn=1, console_evtchn=2)
    assert differences(saved, image_of(hv, new)) == ([], [])
    hv.stub.guest(new).adopt()
