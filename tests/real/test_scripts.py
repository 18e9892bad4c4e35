"""The scripts that only run in the lab at least parse here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import CHECKOUT, LAB, SCRIPTS

SHELL = [*sorted(SCRIPTS.glob("*.sh")), *sorted(LAB.rglob("*.sh")), *sorted((LAB / "dom0").iterdir()),
         LAB / "guest/init", LAB / "build", LAB / "pair", LAB / "wheel", LAB / "debs", CHECKOUT / ".ci/run"]
PYTHON = sorted([*SCRIPTS.glob("*.py"), LAB / "run", LAB / "tools/xlpipe", LAB / "tools/xlwrap"])


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("script", SHELL, ids=name)
def test_shell_parses(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("script", PYTHON, ids=name)
def test_python_parses(script: Path) -> None:
    compile(script.read_text(), str(script), "exec")


def test_every_script_is_run() -> None:
    """No script of dom0/ lies unused."""
    tests = "".join(path.read_text() for path in SCRIPTS.parent.glob("test_real_*.py"))
    scripts = {path.name for path in SCRIPTS.glob("*.sh")} - {"lib.sh"}
    assert scripts == {x for x in scripts if f'"{x}"' in tests}
