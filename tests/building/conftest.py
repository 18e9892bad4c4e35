"""What the tests that build the package share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("build_ffi.py", "build_manual.py", "pyproject.toml", "README.md", "CHANGELOG.md", "MANIFEST.in", "LICENSE")
LEFTOVERS = shutil.ignore_patterns("*.so", "*.pyc", "__pycache__", ".*_cache")


def copy_project(to: Path, *folders: str) -> None:
    """Copies the project's sources, with ``folders`` of the checkout, so that nothing is built in place."""
    import pyxcsr

    for name in FILES:
        shutil.copy(ROOT / name, to / name)
    for name in folders:
        shutil.copytree(ROOT / name, to / name, ignore=LEFTOVERS, dirs_exist_ok=True)
    shutil.copytree(Path(pyxcsr.__file__).parent, to / "pyxcsr", ignore=LEFTOVERS, dirs_exist_ok=True)


@pytest.fixture(scope="module", autouse=True)
def quick_compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is built here is looked at, and hardly run: so it is compiled in half the time, without optimising."""
    script = tmp_path_factory.mktemp("cc") / "cc"
    script.write_text('#!/bin/sh\nexec gcc "$@" -O0\n')
    script.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", str(script))
        yield
