"""The fixture of the tests of pyxcsr/control/, for the commands that use it."""

from __future__ import annotations

from control.conftest import run_dir

__all__ = ["run_dir"]
