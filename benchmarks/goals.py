"""Goals that guests of each kind have to meet."""

from __future__ import annotations

from benchmarks.rows import Goal

FEWER_NS = Goal(2.5)
"""A full pass to /dev/null, less the stub's part, over libxenguest's."""
SHORTER = Goal(3)
"""A pause with few dirty pages in a guest of a few GiB, over libxenguest's."""
RESTORED = Goal(1.2)
"""A restore, over libxenguest's."""
