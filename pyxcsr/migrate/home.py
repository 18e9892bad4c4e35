"""This end: the way to it, and the save helper that belongs to the program that runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

from pyxcsr.migrate.route import LOCAL, Route

HELPER = "pyxcsr-save-helper"
HOME = Route(LOCAL, None)


def beside() -> Optional[str]:
    """The helper that was installed with this program, if it stands beside it: its folder need not be in PATH."""
    for program in (sys.argv[0], sys.executable):
        path = Path(program).parent.absolute() / HELPER
        if path.is_file():
            return str(path)
    return None
