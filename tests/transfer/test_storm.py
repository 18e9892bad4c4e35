"""Saves of guests that do all they can to their p2m meanwhile: every page is as it was when the guest was suspended.

``PYXCSR_SEEDS=1000 pytest tests/transfer/test_storm.py`` runs a thousand; docs/p2m-changes.md has what came of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from peer.image import differences, image_of
from support.judge import judge, save_to
from support.storm import MAX_MEM, Storm

import pyxcsr
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend

FOUND = (178, 746)  # found something once: a trimmed reserve; a page that became the table of its own mapping
LONG = range(10_000, 10_010)
"""Seeds of guests whose frames are in runs of 512."""
SEEDS = sorted({*range(int(os.environ.get("PYXCSR_SEEDS", "40"))), *FOUND, *LONG})


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["pv64", "pv32"])
def test_saved_and_restored(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
) -> None:
    hv.stub.reset(extent_order=9 if seed in LONG else seed % 2 * 3)  # frames one by one, or in runs as usual
    storm = Storm(hv, seed, kind)
    monkeypatch.setattr(saving, "BATCHES_US", storm.batches_us)
    patience = 0.05 if storm.kind == "never settles" else 5.0  # a busy machine may keep an honest guest waiting
    limits = pyxcsr.P2mLimits(settle_seconds=patience)
    options = dict(
        live=storm.live,
        cancel=storm.polled,
        policy=pyxcsr.SimplePolicy(max_iterations=storm.max_iterations),
        p2m_changes="follow",
        p2m_limits=limits,
    )
    try:
        with hv.stub.hook(storm.hook):
            save_to(hv, storm.domid, tmp_path / "s", **options)
    except pyxcsr.P2mError as error:
        assert storm.kind == "never settles", f"{storm.text} {storm.done}: {error}"
        assert "odd" in str(error)
        assert storm.guest.running and hv.stub.leaks() == {}
        return
    assert hv.stub.leaks() == {}
    judge(hv, storm.domid, tmp_path / "s", xen=seed % 10 == 0)
    saved = image_of(hv, storm.domid)
    new = hv.stub.create_empty(MAX_MEM, vcpus=storm.guest_vcpus, kind=kind)
    with open(tmp_path / "s", "rb") as stream:
        pyxcsr.restore(hv, new, stream, store_evtchn=1, console_evtchn=2)
    assert differences(saved, image_of(hv, new, saved["leaves"])) == []
    hv.stub.guest(new).adopt()
