"""The stand-in, built once a session, and a way to run requests on it. Skips where libxenguest is not installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
from support.shared import built_once

from peer.build import build, find_libxenguest

TESTS = Path(__file__).resolve().parent.parent
PACKAGES = "libxenmisc4.17 libxen-dev"
SECONDS = 120


@dataclass
class Done:
    """How a driver ended: its answer, if it lived to give one, and what it said on standard error."""

    answer: Optional[dict[str, Any]]
    said: str
    signal: Optional[signal.Signals]

    @property
    def ok(self) -> dict[str, Any]:
        """The answer; fails the test if there is none."""
        assert self.answer is not None, f"the driver ended by {self.signal}: {self.said[-2000:]}"
        assert "stand-in:" not in self.said, self.said[-2000:]
        return self.answer


class Peer:
    """Runs requests, each in a process of its own: see driver.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, do: str, by: str, **request: Any) -> Done:
        request = {"do": do, "by": by, **request}
        path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-m", "peer.driver", str(self.folder)],
            input=json.dumps(request, default=str),
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode < 0:
            return Done(None, done.stderr, signal.Signals(-done.returncode))
        assert done.returncode == 0, done.stderr
        return Done(json.loads(done.stdout), done.stderr, None)


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    libxenguest = find_libxenguest()
    if libxenguest is None or not Path("/usr/include/xen/sysctl.h").exists():
        pytest.skip(f"libxenguest 4.17 is not installed: apt-get install {PACKAGES}")
    for tool in ("gcc", "nm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install gcc binutils")
    return Peer(built_once(tmp_path_factory, "standin", lambda folder: build(folder, libxenguest)))
