"""docs/research.md: its programs run as they stand there; the pictures that the documents show exist, and are small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
LARGEST = 56 << 10


def run(program: str, folder: Path) -> str:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / "research.md").read_text(), re.DOTALL)


def test_the_sweep(tmp_path: Path) -> None:
    for name in ("pandas", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'pyxcsr[research]'")
    said = run(programs()[0], tmp_path)
    rows = (tmp_path / "sweep.csv").read_text().splitlines()
    assert rows[0].startswith("policy,rate,passes") and len(rows) == 1 + 2 * 5
    assert {x.split(",")[0] for x in rows[1:]} == {"libxc", "adaptive"} and "predicted_ms" in said
    assert (tmp_path / "sweep.svg").read_bytes().startswith(b"<?xml")


def test_the_saves_side_by_side(tmp_path: Path) -> None:
    (program,) = programs()[1:]
    said = run(program, tmp_path)
    assert re.findall(r"^(\d+) pages a second: \d+ passes$", said, re.MULTILINE) == ["500", "2000", "8000", "20000"]


@pytest.mark.parametrize("page", sorted(x.name for x in DOCS.glob("*.md")))
def test_pictures(page: str) -> None:
    for name in re.findall(r"!\[[^\]]*\]\(([^):]+)\)", (DOCS / page).read_text()):
        size = (DOCS / name).stat().st_size
        assert 1000 < size < LARGEST, f"{page}: {name} has {size} bytes"


def test_each_picture_is_shown() -> None:
    text = "".join(x.read_text() for x in [*DOCS.glob("*.md"), DOCS.parent / "README.md"])
    assert [x.name for x in sorted(DOCS.glob("*.svg")) if x.name not in text] == []
