"""Faster ways that can be switched off: each has an obvious one beside it, which tests compare it with.

``PYXCSR_WITHOUT`` in the environment names those that are not to be taken, with commas between them. So it can be told
whether a fault lies in one of them; what a save or a restore does is the same without them.
"""

from __future__ import annotations

import os

VARIABLE = "PYXCSR_WITHOUT"

ENDING = "ending"
"""The end of a live save in one call of C's (csrc/save/ending.c); else step by step."""

ORDINARY = "ordinary"
"""A batch in which all is as usual is gone through as a whole (csrc/save/ordinary.c); else pfn by pfn."""

ROWS = "rows"
"""Pfns in a row with frames in a row are remembered as such (csrc/save/follow.c), and what page tables say of them is
re-expressed at once (csrc/save/normalise.c); else pfn by pfn."""

HOLES = "holes"
"""Of an HVM guest's gfns that never had a page nothing is said (csrc/save/holes.c); else each has an entry, as in
libxenguest's streams."""

EXTENTS = "extents"
"""An HVM guest's memory is given in extents of 2 MiB, ahead of a row of pages (csrc/restore/row.c); else by records."""


def is_on(way: str) -> bool:
    """Whether that way may be taken. Read each time: a test changes it."""
    return way not in os.environ.get(VARIABLE, "").split(",")
