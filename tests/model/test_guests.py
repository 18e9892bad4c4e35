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
from model.test_model import WITHOUT
from pyxcsr.guest.hvm import following
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend


@pytest.fixture
def _looks_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens when is told by the calls, and not by the clock."""
    monkeypatch.setattr(saving, "BATCHES_US", 0)
    monkeypatch.setattr(following, "REST", 0)
    monkeypatch.setattr(following, "UNWATCHED", 1e9)  # nor because this process had to wait for a processor


@pytest.mark.usefixtures("_looks_after_each_batch")
@pytest.mark.parametrize("rule", OF_RULE)
def test_saved_right(hv: StubBackend, tmp_path: Path, rule: str) -> None:
    assert OF_RULE[rule](hv, tmp_path / "s") == []


def wrong(tree: Path, *rules: str) -> dict[str, list[str]]:
    """What ``model.broken`` says of each, run with the package in ``tree``."""
    environment = {**os.environ, "PYTHONPATH": f"{tree}:{tree / 'tests'}"}
    command = [sys.executable, "-m", "model.broken", *rules]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.toolchain
@pytest.mark.timeout(900)
def test_wrong_without_the_rule(tmp_path: Path) -> None:
    """One test, because building takes longer than all that follows."""
    broken.build(tmp_path)
    as_it_is = ["AS_IT_IS:PV_NO_FORMER", "AS_IT_IS:HVM_NO_MARKED_ASKED"]
    found = wrong(tmp_path, *OF_RULE, *as_it_is)
    assert [rule for rule in OF_RULE if not found[rule]] == [], "these guests do not need the rules"
    assert [found[rule] for rule in as_it_is] == [[], []], "it is not the rules that these streams lack"


def test_each_variant_of_the_models_has_a_guest() -> None:
    of_model = {f"{model.upper()}_{macros.split()[0]}" for model, macros in WITHOUT}
    assert set(OF_RULE) == of_model == {*broken.IN_C, *broken.IN_PYTHON}
