"""Some of the hostile guests and tampered streams through both, as in the table of docs/reliability.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from peer.conftest import TESTS, Peer

pytestmark = pytest.mark.toolchain

NAMES = [
    "p2m_cr3 0x800, non",
    "two pfns with one mfn, non",
    "repeated 130000 times, non",
    "in a page table, non",
    "generation odd for ever, non",
    "page tables in a loop, non",
    "page 100 is missing",
    "level 2 entry beyond",
]


@pytest.fixture(scope="module")
def found(peer: Peer) -> list[dict[str, Any]]:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "peer.hostile", "--json", str(peer.folder), *NAMES],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def classes(found: list[dict[str, Any]], by: str) -> dict[str, str]:
    return {x["name"]: x["class"] for x in found if x["by"] == by}


def test_ours_refuses_by_name_or_saves_right(found: list[dict[str, Any]]) -> None:
    mine = classes(found, "pyxcsr")
    assert len(mine) == len(NAMES)
    assert set(mine.values()) == {"refused", "right"}, found


def test_where_libxenguest_does_not(found: list[dict[str, Any]]) -> None:
    """It crashes, or reports success for what is not the guest."""
    theirs = classes(found, "libxenguest")
    assert theirs["p2m_cr3 0x800, non-live"] == "crash"
    assert theirs["level 2 entry beyond the p2m"] == "crash"
    assert theirs["two pfns with one mfn, non-live"] == "silent"
    assert theirs["ordinary page 100 is missing"] == "silent"
