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

pytestmark = pytest.mark.toolchain
TESTS = Path(__file__).resolve().parent.parent
ALL = os.environ.get("PYXCSR_ALL") == "1"


def test_calls_that_fail(tmp_path: Path) -> None:
    for tool in TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install gcc binutils")
    build(tmp_path)
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    few = (
        "live", "follow", "ahead", "pipe", "restore", "pv32, follow", "pv32, restore", "pvh, ballooning",
        "hvm", "hvm, non-live", "hvm, restore",
    )  # fmt: skip
    some = [] if ALL else ["--places", "1", *(f"--scenario={x}" for x in few)]
    command = [sys.executable, "-m", "faults.sweep", str(tmp_path), "--json", *some]
    environ, patience = {**os.environ, "PYTHONPATH": path}, 7200 if ALL else 280
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == []
    names = [f"{x}, {y}" for x in ("live", "follow", "restore", "hvm", "hvm, restore") for y in ("libxenctrl", "libc")]
    for name in (*names, "pipe, libc"):
        functions, tried, failed = found["sums"][name]
        assert functions >= 5 and tried >= 10 and failed >= 8, (name, found["sums"])
