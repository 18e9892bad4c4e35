"""The model's counterexamples as guests of the stub: saved right as the code is, and wrong if it lacks the rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model import broken
from model.guests import OF_RULE
from pyxcsr.guest.hvm import following
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend


@pytest.fixture
def _looks_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens when is told by the calls, and not by the clock."""
    monkeypatch.setattr(saving, "BATCHES_US", 0)
    monkeypatch.setattr(following, "REST", 0)


@pytest.mark.usefixtures("_looks_after_each_batch")
@pytest.mark.parametrize("rule", OF_RULE)
def test_saved_right(hv: StubBackend, tmp_path: Path, rule: str) -> None:
    assert OF_RULE[rule](hv, tmp_path / "s") == []


def wrong(tree: Path, rule: str) -> list[str]:
    """What ``model.broken`` says of it, run with the package in ``tree``."""
    environment = {**os.environ, "PYTHONPATH": f"{tree}:{tree / 'tests'}"}
    command = [sys.executable, "-m", "model.broken", rule]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{rule}: {done.stderr[-3000:]}"
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.toolchain
@pytest.mark.timeout(900)
def test_wrong_without_the_rule(tmp_path: Path) -> None:
    """One test, because building takes longer than all that follows."""
    broken.build(tmp_path)
    assert wrong(tmp_path, "AS_IT_IS:PV_NO_FORMER") == wrong(tmp_path, "AS_IT_IS:HVM_NO_MARKED_ASKED") == []
    assert [rule for rule in OF_RULE if not wrong(tmp_path, rule)] == [], "these guests do not need the rules"
