"""The examples of the README and of docs/api.md run as they stand; documented names exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyxcsr

ROOT = Path(__file__).parents[2]


def examples(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


CASES = [(name, n) for name in ("README.md", "docs/api.md") for n in range(len(examples(name)))]


def test_there_are_examples() -> None:
    assert len(CASES) >= 6


@pytest.mark.parametrize(("name", "n"), CASES)
def test_example(name: str, n: int, tmp_path: Path) -> None:
    text = examples(name)[n].replace("/tmp/guest.stream", "guest.stream")
    text = text.replace("running()", f"running({str(tmp_path)!r})")  # no test tunes this machine's saves
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], cwd=tmp_path, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()


def test_every_exception_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()
    for name in pyxcsr.__all__:
        value = getattr(pyxcsr, name)
        if isinstance(value, type) and issubclass(value, Exception) and name != "XcsrError":
            assert f"`{name}`" in text, f"{name} is not in docs/api.md"
