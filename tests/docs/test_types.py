"""The examples of all documents pass mypy --strict, and what must not pass does not: in one run for all of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyxcsr

pytest.importorskip("mypy")
pytestmark = pytest.mark.toolchain

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTINUED = ("stream", "containers")
"""Pages whose examples go on from one to the next."""

# --strict complains of each `type: ignore` that is not needed: so each of these lines is an error without it.
WRONG = '''
import io
import pyxcsr

def facts(error: pyxcsr.HypervisorError, stream: pyxcsr.StreamError, save: pyxcsr.XcsrError) -> tuple[int, str, int]:
    error.spelling_mistake  # type: ignore[attr-defined]
    save.offset  # type: ignore[attr-defined]
    stream.pfn + 1  # type: ignore[operator]
    return error.errno, error.op, stream.offset

def phase(now: pyxcsr.Progress) -> bool:
    return now.phase == "finale"  # type: ignore[comparison-overlap]

def policy(stats: pyxcsr.PrecopyStats) -> bool:
    return True

def also_policy(stats: pyxcsr.PrecopyStats) -> pyxcsr.Decision:
    return pyxcsr.Decision.CONTINUE

good: pyxcsr.Policy = also_policy
bad: pyxcsr.Policy = policy  # type: ignore[assignment]
pyxcsr.open_hypervisor().stub  # type: ignore[attr-defined]
pyxcsr.open_hypervisor("xen").stub  # type: ignore[attr-defined]
pyxcsr.open_hypervisor("sutb")  # type: ignore[call-overload]
with pyxcsr.open_hypervisor("stub") as hv:
    stub: object = hv.stub
    pyxcsr.save(hv, 1, 1, p2m_changes="follows")  # type: ignore[arg-type]
    pyxcsr.save(hv, 1, "guest.stream")  # type: ignore[arg-type]
    pyxcsr.save(hv, 1, 1, policy=policy)  # type: ignore[arg-type]
    changes: pyxcsr.P2mChanges = "abort"
    pyxcsr.save(hv, 1, 1, p2m_changes=changes)
pyxcsr.StreamReader("guest.stream")  # type: ignore[arg-type]
pyxcsr.StreamReader(io.BytesIO())
'''


def examples(page: Path) -> list[str]:
    found = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    return ["\n".join(found)] if page.stem in CONTINUED and found else found


def test_types(tmp_path: Path) -> None:
    files = {f"{page.stem.lower()}_{n}": text for page in PAGES for n, text in enumerate(examples(page))}
    assert len(files) >= 15
    files["wrong"] = WRONG
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    extras = "".join(f"[mypy-{x}.*]\nignore_missing_imports = True\n" for x in ("pandas", "matplotlib"))
    (tmp_path / "mypy.ini").write_text("[mypy]\n" + extras)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *(f"{x}.py" for x in files)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "MYPYPATH": str(Path(pyxcsr.__file__).parents[1]) if in_a_tree() else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def in_a_tree() -> bool:
    """Whether this runs from a source tree: mypy finds an installed package by itself."""
    return (Path(pyxcsr.__file__).parents[1] / "build_ffi.py").exists()
