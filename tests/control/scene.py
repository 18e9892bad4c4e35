"""A save on the stub that takes its time, and what others do meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pyxcsr
from pyxcsr.control.client import RunningSave, running
from pyxcsr.hypervisor.open import StubBackend

GUEST = pyxcsr.StubGuest.pv64(mem="8M", writes=60, seed=5)
SLOW = {"bandwidth": "6M", "policy": "libxc", "map_ahead": False}
"""It lasts two seconds then."""


def wait_for(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What it returns, once that is something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        got = true()
        if got:
            return got
        time.sleep(0.01)
    raise AssertionError("it does not come about")


def the_save(run_dir: Path) -> RunningSave:
    """The one that runs, once it does."""
    found: list[RunningSave] = wait_for(lambda: running(str(run_dir)))
    return found[0]


def sock(run_dir: Path, domid: int = 1) -> socket.socket:
    """A connection to a save's socket, once it is there."""
    path = run_dir / f"{domid}.sock"
    wait_for(path.exists)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


class Beside:
    """Runs ``act`` in a thread while the body, which saves, runs; its error is raised at the end."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act, self._error = act, None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as error:
            self._error: Optional[BaseException] = error

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


def save(hv: StubBackend, domid: int, path: Path, run_dir: Optional[Path], **options: Any) -> pyxcsr.SaveReport:
    """Slowly, into a file."""
    events = options.pop("events", None)
    control = pyxcsr.Control(None if run_dir is None else str(run_dir), events)
    with open(path, "wb") as out:
        return pyxcsr.save(hv, domid, out, **{**SLOW, "control": control, **options})
