"""Fakes of Xen's libraries, made once a session, and a process that works with one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from support.shared import built_once

from loader import build

HERE = Path(__file__).resolve().parent
Driver = Callable[..., dict[str, Any]]

LONGEST = 60.0
"""Seconds that a driver may take; it needs one."""

STACKS = 10.0
"""Seconds in which one that hangs says where."""


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
        with subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "loader.driver", *map(str, words)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            out, said = waited_for(process)
        assert process.returncode == 0, said[-3000:]
        answer: dict[str, Any] = json.loads(out)
        return answer

    return call


def waited_for(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process writes. One that hangs says where all its threads are, and ends."""
    try:
        return process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        try:
            return process.communicate(timeout=STACKS)
        except subprocess.TimeoutExpired:
            process.kill()  # one that is stopped has not even seen the signal
            raise
