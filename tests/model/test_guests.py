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


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with switches."""
    folder = tmp_path_factory.mktemp("broken")
    broken.build(folder)
    return folder


@pytest.mark.toolchain
@pytest.mark.parametrize("rule", ["AS_IT_IS:PV_NO_FORMER", *OF_RULE])
def test_wrong_without_the_rule(tree: Path, rule: str) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{tree}:{tree / 'tests'}"}
    command = [sys.executable, "-m", "model.broken", rule]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert bool(json.loads(done.stdout)) is not rule.startswith("AS_IT_IS")
