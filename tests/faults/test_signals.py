"""SIGINT and SIGTERM at a few random moments of a save; ``python -m faults.signals`` tries 200."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ALL = os.environ.get("PYXCSR_ALL") == "1"
MOMENTS = {
    ("pv64", ""): 10, ("pv32", ""): 4, ("pvh", ""): 4, ("hvm", ""): 6,
    ("pv64", "--checkpointed"): 6, ("pv32", "--checkpointed"): 3, ("pvh", "--checkpointed"): 3,
    ("hvm", "--checkpointed"): 3,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "option"), MOMENTS)
def test_signals_at_random_moments(kind: str, option: str) -> None:
    """In a process of its own: it forks, and this one has had threads."""
    moments = 200 if ALL else MOMENTS[kind, option]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = ["--moments", str(moments), "--kind", kind, *filter(None, [option])]
    command = [sys.executable, "-m", "faults.signals", *words]
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", done.stdout)}
    assert sum(counts.values()) == moments
    if (kind, option) == ("pv64", "") or ALL:  # of the few moments of the others, all may come when the save is over
        # how long a save takes is measured beforehand, and on a busy machine it may be over much sooner
        assert counts["cancelled"] > (moments // 3 if ALL else 1)
