"""The models, checked exhaustively by spin: as the code is they have no counterexample, without any rule they have one.

``PYXCSR_MODEL=large pytest tests/model/test_model.py`` checks larger bounds, which takes some minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import pyxcsr

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LARGE = os.environ.get("PYXCSR_MODEL") == "large"

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(not shutil.which("spin"), reason="spin is not installed (apt-get install spin)"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed"),
]


class Found(NamedTuple):
    """What spin said: errors, different states, the longest run's steps."""

    errors: int
    states: int
    depth: int
    seconds: float


def check(folder: Path, model: str, macros: str, quick: bool = False, ends: bool = False) -> Found:
    """``quick``: a counterexample is expected, and compiling would take longer than finding it. ``ends``: what is
    looked for is a save that never ends."""
    for name in ("shared.pml", f"{model}.pml"):
        shutil.copy(HERE / name, folder)
    flags = [f"-D{x}" for x in macros.split()]
    command = ["spin", "-a", *flags, f"{model}.pml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (folder / "pan.c").exists() and "rror" not in done.stdout, done.stdout
    options = ["-w", "-DNP" if ends else "-DSAFETY", "-DCOLLAPSE", "-DNOFAIR", "-DMEMLIM=1900"]
    options.append("-O0" if quick else "-O2")
    subprocess.run(["gcc", *options, "-o", "pan", "pan.c"], cwd=folder, check=True)
    command = ["./pan", "-m100000", "-w22", *(["-l"] if ends else [])]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert not quick or "assertion violated" in told, told  # not that the model has come to stand, which proves nothing
    numbers = re.search(r"depth reached (\d+), errors: (\d+)\s+(\d+) states, stored", told)
    assert numbers, told
    depth, errors, states = map(int, numbers.groups())
    whole = "max search depth too small" not in told and "Search not completed" not in told
    assert whole or errors, told
    elapsed = re.search(r"elapsed time ([\d.e+-]+) seconds", told)
    found = Found(errors, states, depth, float(elapsed.group(1)) if elapsed else 0.0)
    print(model, macros, found)
    return found


WHOLE = "STRUCTURE RESIZES"

AS_IT_IS = [
    ("pv", "BUDGET=2 AHEAD"),
    ("pv", f"BUDGET=2 {WHOLE}"),
    ("pv", f"BUDGET=2 {WHOLE} LIAR"),
    ("pv", "BUDGET=2 STRUCTURE TREE"),
    ("pv", "BUDGET=2 HIDES AHEAD"),
    ("hvm", "BUDGET=3 AHEAD"),
    ("hvm", "BUDGET=3 MARKS_NEW AHEAD"),
    ("hvm", "BUDGET=3 DEVICE_MODEL"),
    ("hvm", "BUDGET=3 PASSES=3"),
]

AT_LARGE = [
    ("pv", "BUDGET=3"),
    ("pv", "BUDGET=3 AHEAD"),
    ("pv", "BUDGET=3 HIDES"),
    ("pv", f"BUDGET=3 {WHOLE}"),
    ("hvm", "BUDGET=4 PASSES=3"),
    ("hvm", "BUDGET=4 AHEAD"),
    ("hvm", "BUDGET=4 DEVICE_MODEL AHEAD"),
]


@pytest.mark.timeout(3600 if LARGE else 240)
@pytest.mark.parametrize(("model", "macros"), AS_IT_IS + (AT_LARGE if LARGE else []))
def test_every_run_ends_right(tmp_path: Path, model: str, macros: str) -> None:
    found = check(tmp_path, model, macros)
    assert found.errors == 0 and found.states > 1000


ENDING = [("pv", f"BUDGET=1 {WHOLE}"), ("hvm", "BUDGET=2 AHEAD")]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("model", "macros"), ENDING)
def test_a_save_of_a_guest_that_does_nothing_more_ends(tmp_path: Path, model: str, macros: str) -> None:
    found = check(tmp_path, model, f"{macros} ENDS", ends=True)
    assert found.errors == 0 and found.states > 1000


WITHOUT = [
    ("pv", "NO_SWEEP BUDGET=2"),
    ("pv", "NO_VANISHED BUDGET=2"),
    ("pv", "NO_RETURNED BUDGET=3"),
    ("pv", "NO_ALL_TABLES BUDGET=2"),
    ("pv", "NO_RECENT_TABLES BUDGET=2"),
    ("pv", "NO_FORMER BUDGET=3"),
    ("pv", "NO_KEPT BUDGET=2 HIDES"),
    ("pv", "NO_UNCLAIMED BUDGET=2 HIDES"),
    ("pv", f"NO_RECORD BUDGET=2 {WHOLE}"),
    ("pv", f"NO_LAST_LOOK BUDGET=2 {WHOLE}"),
    ("pv", f"NO_HEAD BUDGET=2 {WHOLE}"),
    ("pv", f"NO_WAIT BUDGET=2 {WHOLE}"),
    ("pv", f"NO_WATCH BUDGET=2 {WHOLE} LIAR"),
    ("pv", "NO_FRESH_PAGES BUDGET=2 STRUCTURE"),
    ("pv", "NO_FRESH_GROWTH BUDGET=2 FULL RESIZES LIAR"),
    ("pv", "NO_SHRUNK BUDGET=2 FULL RESIZES LIAR"),
    ("pv", "NO_TREE_WALKS BUDGET=2 STRUCTURE TREE"),
    ("hvm", "NO_LOOKS"),
    ("hvm", "NO_VANISHED"),
    ("hvm", "NO_UNTRACKED_LOOKS"),
    ("hvm", "NO_HOLES_BY_LOOKS BUDGET=4 PASSES=3"),
    ("hvm", "NO_MARKED_ASKED BUDGET=4"),
    ("hvm", "NO_NEW_IN_BATCH"),
    ("hvm", "NO_FIRST"),
    ("hvm", "NO_UNSETTLED"),
    ("hvm", "NO_HIDDEN_UP"),
    ("hvm", "NO_OWED BUDGET=4 AHEAD"),
    ("hvm", "NO_SETTLED AHEAD"),
    ("hvm", "NO_SECOND_TIME BUDGET=4 PASSES=3"),
    ("hvm", "NO_COUNT_AT_BITMAP"),
    ("hvm", "NO_MODEL_TOLD DEVICE_MODEL"),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("model", "macros"), WITHOUT)
def test_without_a_rule_some_run_ends_wrong(tmp_path: Path, model: str, macros: str) -> None:
    assert check(tmp_path, model, macros, quick=True).errors == 1


CODE = re.compile(r"/\* code: (\S+) ([^*]+?) \*/")


def test_each_step_is_of_the_code() -> None:
    named = [x for path in HERE.glob("*.pml") for x in CODE.findall(path.read_text())]
    assert len(named) > 40
    missing = []
    for path, functions in named:
        file = (Path(pyxcsr.__file__).parents[1] if path.startswith("pyxcsr/") else ROOT) / path
        text = file.read_text() if file.exists() else ""
        pattern = r"(?:def|class) {}\b" if path.endswith(".py") else r"^\S.*\b{}\("
        missing += [f"{path} {x}" for x in functions.split() if not re.search(pattern.format(x), text, re.MULTILINE)]
    assert missing == []
