"""A few places of every call fail; ``python -m faults.sweep`` and PYXCSR_ALL=1 try all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.shared import built_once

from faults.build import TOOLS, build
from faults.scenarios import SCENARIOS

pytestmark = pytest.mark.toolchain
TESTS = Path(__file__).resolve().parent.parent
ALL = os.environ.get("PYXCSR_ALL") == "1"
FEW = (
    "live", "follow", "ahead", "pipe", "restore", "pv32, follow", "pv32, restore", "pvh, ballooning",
    "hvm", "hvm, non-live", "hvm, restore", "remus, pv32", "remus, restore",
)  # fmt: skip
SURELY = ("live", "follow", "restore", "hvm", "hvm, restore", "remus, restore")
TOLD = {f"{x}, {y}" for x in SURELY for y in ("libxenctrl", "libc")}
"""What must have been tried, and must have failed."""


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a module whose calls can be made to fail."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install gcc binutils")
    return built_once(tmp_path_factory, "faulty", build)


def test_scenarios_are_named_right() -> None:
    assert set(FEW) <= set(SCENARIOS) and {x.rpartition(", ")[0] for x in TOLD} <= set(FEW)


@pytest.mark.parametrize("scenario", SCENARIOS if ALL else FEW)
def test_calls_that_fail(scenario: str, faulty: Path) -> None:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    places = [] if ALL else ["--places", "1"]
    command = [sys.executable, "-m", "faults.sweep", str(faulty), "--json", f"--scenario={scenario}", *places]
    environ, patience = {**os.environ, "PYTHONPATH": path}, 7200 if ALL else 280
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == []
    kinds = [f"{scenario}, libxenctrl", f"{scenario}, libc"]
    assert sorted(found["sums"]) == sorted(kinds)
    for name in {*kinds} & {*TOLD, "pipe, libc"}:
        functions, tried, failed = found["sums"][name]
        assert functions >= 5 and tried >= 10 and failed >= 8, (name, found["sums"])
