"""Xen's own verify-stream-v2 as a judge of streams (Debian package xen-utils-4.17)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "xen-utils-4.17"


def find_verifier() -> tuple[Path, Path] | None:
    """The program, and the folder of the Python package xen.migration; None if they are not installed."""
    for program in sorted(Path("/usr/lib").glob("xen-*/bin/verify-stream-v2"), reverse=True):
        library = program.parent.parent / "lib" / "python"
        if (library / "xen" / "migration" / "libxc.py").exists():
            return program, library
    return None


def accepts(path: str | os.PathLike[str], *, container: str = "libxc") -> tuple[bool, str]:
    """Whether verify-stream-v2 accepts the file, and what it printed. Skips the test if it is not installed.

    ``container`` is what the file is: libxc, libxl or xl.
    """
    found = find_verifier()
    if found is None:
        pytest.skip(f"verify-stream-v2 is not installed: apt-get install {PACKAGE}")
    program, library = found
    done = subprocess.run(
        [sys.executable, str(program), "-v", "-f", container, "-i", os.fspath(path)],
        env={**os.environ, "PYTHONPATH": str(library)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode == 0, done.stdout


def accepts_bytes(data: bytes) -> bool:
    """Like ``accepts``, for a libxc stream in memory and within this process: fast enough for thousands of them."""
    found = find_verifier()
    if found is None:
        pytest.skip(f"verify-stream-v2 is not installed: apt-get install {PACKAGE}")
    if str(found[1]) not in sys.path:
        sys.path.append(str(found[1]))
    from xen.migration.libxc import VerifyLibxc  # type: ignore[import-not-found]

    source = io.BytesIO(data)

    def exactly(size: int) -> bytes:
        got = source.read(size)
        if len(got) != size:
            raise OSError("Stream truncated")
        return got

    try:
        VerifyLibxc(lambda _: None, exactly).verify()
    except Exception:  # whatever it raises, also by mistake, means that it does not accept the stream
        return False
    return True
