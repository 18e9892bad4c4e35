"""Benchmarks: what pyxcsr costs, beside libxenguest and beside the plainest way to do the same. See README.md.

Run from a checkout with the package installed: ``python -m benchmarks``.
"""

from __future__ import annotations

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build" / "benchmarks"
"""What is compiled for benchmarks, and the files they write."""


def _use_the_installed_package() -> None:
    """Takes the checkout off the path unless the package was built in it: its sources alone cannot be imported."""
    if not list((TOP / "pyxcsr").glob("_stub*.so")):
        sys.path[:] = [x for x in sys.path if x and Path(x).resolve() != TOP]


_use_the_installed_package()
