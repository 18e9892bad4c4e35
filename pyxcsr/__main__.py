"""``python -m pyxcsr`` is ``pyxcsr``."""

from __future__ import annotations

import sys

from pyxcsr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
