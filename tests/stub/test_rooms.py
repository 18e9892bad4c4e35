"""The stub's rooms as the linker sees them: no object of a lower room needs a function of a higher one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT, real_headers

ROOMS = ("machine", "kernel", "panel")


def symbols(source: Path, folder: Path) -> tuple[set[str], set[str]]:
    """What the object of a C file defines, and what it wants."""
    made = folder / f"{source.parent.name}-{source.stem}.o"
    include = [f"-I{ROOT / 'csrc'}", *([] if real_headers() else [f"-I{ROOT / 'csrc/abi'}"])]
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", *include, "-c", source, "-o", made], check=True)
    text = subprocess.run(["nm", made], capture_output=True, text=True, check=True).stdout
    kinds = [line.split()[-2:] for line in text.splitlines()]
    return {name for kind, name in kinds if kind in "TDBR"}, {name for kind, name in kinds if kind == "U"}


@pytest.mark.toolchain
def test_nothing_is_called_upwards(tmp_path: Path) -> None:
    defined: dict[str, set[str]] = {}
    wanted: dict[str, set[str]] = {}
    for room in ROOMS:
        found = [symbols(source, tmp_path) for source in sorted((ROOT / "csrc/stub" / room).rglob("*.c"))]
        defined[room] = set().union(*(x for x, _ in found))
        wanted[room] = set().union(*(x for _, x in found))
    assert all(len(names) > 20 for names in defined.values())
    for i, room in enumerate(ROOMS):
        for higher in ROOMS[i + 1 :]:
            assert not wanted[room] & defined[higher], f"{room} needs functions of {higher}"
