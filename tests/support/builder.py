"""The project's own build, for tests that compile its sources in their own way."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

TOP = Path(__file__).resolve().parents[2]


def build_ffi() -> ModuleType:
    """The module build_ffi, which is not installed: it stands beside the tests."""
    sys.path.insert(0, str(TOP))
    try:
        import build_ffi as module
    finally:
        sys.path.remove(str(TOP))
    return module
