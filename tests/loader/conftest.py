"""Fakes of Xen's libraries, made once a session, and a process that works with one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from support.shared import built_once

from loader import build

HERE = Path(__file__).resolve().parent
Driver = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fakes of build.RELEASES. Skips where there is no compiler."""
    if shutil.which(build.compiler()) is None:
        pytest.skip("there is no compiler: apt-get install gcc")

    def make(folder: Path) -> None:
        build.common(folder)
        for minor in build.RELEASES:
            build.release(folder, minor)

    return built_once(tmp_path_factory, "fakes", make)


@pytest.fixture(scope="session")
def driver() -> Driver:
    """Runs driver.py in a process of its own; its answer."""

    def call(*words: object) -> dict[str, Any]:
        path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-m", "loader.driver", *map(str, words)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return call
