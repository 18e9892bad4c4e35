from __future__ import annotations

from pathlib import Path

import pytest

from migrate.lab import Ends


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)
