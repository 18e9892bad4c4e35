"""The command as a program of its own, as a shell or a script starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, "-m", "pyxcsr"]
SAVE = [*COMMAND, "save", "--backend", "stub"]
GUEST = "pv64:mem=8M,writes=20"


def environment(unbuffered: bool = False, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, **({"PYTHONUNBUFFERED": "1"} if unbuffered else {}), **more}


def run(*words: object, command: list[str] = COMMAND, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs it to its end; its output is caught where nothing else is said."""
    for name in ("stdout", "stderr"):
        options.setdefault(name, subprocess.PIPE)
    done = subprocess.run([*command, *map(os.fspath, words)], check=False, timeout=120, **options)  # type: ignore[arg-type]
    if isinstance(done.stderr, bytes):
        assert b"Traceback" not in done.stderr, done.stderr
    return done
