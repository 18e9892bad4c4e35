"""SIGINT and SIGTERM at a few random moments of a save; ``python -m faults.signals`` tries 200."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
MOMENTS = "200" if os.environ.get("PYXCSR_ALL") == "1" else "10"


def test_signals_at_random_moments() -> None:
    """In a process of its own: it forks, and this one has had threads."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "faults.signals", "--moments", MOMENTS]
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", done.stdout)}
    assert sum(counts.values()) == int(MOMENTS) and counts["cancelled"] > int(MOMENTS) // 3
