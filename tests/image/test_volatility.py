"""Volatility 3 as a judge of dumps that shares nothing with us: each page through its layers is the stub's own.

It runs in a Python of its own: PYXCSR_VOLATILITY names one that has it, else this one is tried.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from image.guests import save_guest
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.image.dump import Format, dump

READER = Path(__file__).with_name("volatility_reader.py")
PYTHON = os.environ.get("PYXCSR_VOLATILITY", sys.executable)


@pytest.fixture(scope="module", autouse=True)
def volatility() -> None:
    found = subprocess.run([PYTHON, "-c", "import volatility3"], capture_output=True, check=False, cwd="/")
    if found.returncode:
        pytest.skip("volatility3 is not installed: pip install volatility3 into a venv, and name its python")


def judged(how: str, path: Path, pfns: list[int]) -> subprocess.CompletedProcess[str]:
    words = [PYTHON, str(READER), how, str(path), *map(str, pfns)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd="/", timeout=200)


def digest(page: Optional[bytes]) -> Optional[str]:
    return None if page is None else hashlib.sha256(page).hexdigest()


@pytest.mark.parametrize(("kind", "how"), [("pvh", "elf"), ("pvh", "lime"), ("pv64", "lime"), ("pv64", "raw")])
def test_each_page(hv: StubBackend, tmp_path: Path, kind: str, how: str) -> None:
    saved = save_guest(hv, kind, tmp_path / "stream", mem="4M")
    with saved.path.open("rb") as file, (tmp_path / "out").open("w+b") as out:
        dump(file.fileno(), out.fileno(), Format(how))
    pfns = list(range(1024))
    done = judged(how, tmp_path / "out", pfns)
    assert done.returncode == 0, done.stderr
    expected = {str(pfn): digest(saved.pages.get(pfn)) for pfn in pfns}
    if how == "elf":
        expected["0"] = None  # which its layer leaves out
    if how == "raw":
        end = max(saved.pages)
        expected = {pfn: page or (digest(bytes(4096)) if int(pfn) <= end else None) for pfn, page in expected.items()}
    assert json.loads(done.stdout) == expected


def test_the_elf_of_a_pv_guest_is_beyond_it(hv: StubBackend, tmp_path: Path) -> None:
    """docs/image.md says so: should this fail, Volatility has learnt it, and the document can say better things."""
    saved = save_guest(hv, "pv64", tmp_path / "stream", mem="4M")
    with saved.path.open("rb") as file, (tmp_path / "out").open("w+b") as out:
        dump(file.fileno(), out.fileno(), Format.ELF)
    done = judged("elf", tmp_path / "out", [1])
    assert done.returncode == 1 and "Unable to find pfn for type" in done.stderr
