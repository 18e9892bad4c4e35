"""What a case is given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional


@dataclass
class Context:
    """``library``: libxenguest, or None where it is not installed, and ``standin`` the folder of what it runs on;
    ``disk``: a folder on a disk."""

    library: Optional[Any]
    repeats: int
    quick: bool
    disk: Path
    standin: Optional[Path] = None

    def size(self, full: str, quick: str) -> str:
        """A guest's size: ``full``, or ``quick`` with --quick."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Tells what is being measured."""
        print(f"  {text}", file=sys.stderr, flush=True)
