"""A few places of every call fail; ``python -m faults.sweep`` and PYXCSR_ALL=1 try all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faults.build import TOOLS, build
from faults.scenarios import SCENARIOS

pytestmark = pytest.mark.toolchain
TESTS = Path(__file__).resolve().parent.parent
ALL = os.environ.get("PYXCSR_ALL") == "1"


FEW = {
    "once": (
        "live", "follow", "ahead", "pipe", "restore", "pv32, follow", "pv32, restore", "pvh, ballooning",
        "hvm", "hvm, non-live", "hvm, restore",
    ),
    "checkpointed": ("remus, pv32", "remus, pvh", "remus, restore"),
}  # fmt: skip
JUDGED = {
    "once": ("live", "follow", "restore", "hvm", "hvm, restore"),
    "checkpointed": FEW["checkpointed"],
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install gcc binutils")
    return build(tmp_path_factory.mktemp("faults")).parent


@pytest.mark.parametrize("how", FEW)
def test_calls_that_fail(built: Path, how: str) -> None:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    remus = [x for x in SCENARIOS if x.startswith("remus")]
    mine = FEW[how] if not ALL else remus if how == "checkpointed" else [x for x in SCENARIOS if x not in remus]
    some = [*([] if ALL else ["--places", "1"]), *(f"--scenario={x}" for x in mine)]
    command = [sys.executable, "-m", "faults.sweep", str(built), "--json", *some]
    environ, patience = {**os.environ, "PYTHONPATH": path}, 7200 if ALL else 280
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == []
    for name in (f"{x}, {y}" for x in JUDGED[how] for y in ("libxenctrl", "libc")):
        functions, tried, failed = found["sums"][name]
        assert functions >= 5 and tried >= 10 and failed >= 8, (name, found["sums"])
    if how == "once":
        assert found["sums"]["pipe, libc"][0] >= 5
