"""What the documents say of the code's files: each path exists, and docs/design.md has each file's job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pyxcsr

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{x.name}" for x in (ROOT / "docs").glob("*.md"))]
PATH = re.compile(r"`((?:pyxcsr|csrc|tests|benchmarks|docs)/[\w./-]+)`")
NAMED = re.compile(r"`([\w./]+)`")
PLACEHOLDERS = ("KIND", "SUBJECT")
PACKAGE = Path(pyxcsr.__file__).parent  # it may be installed elsewhere


def exists(name: str) -> bool:
    room, _, rest = name.partition("/")
    return (PACKAGE / rest if room == "pyxcsr" else ROOT / name).exists()


@pytest.mark.parametrize("page", PAGES)
def test_each_path_exists(page: str) -> None:
    named = {x for x in PATH.findall((ROOT / page).read_text()) if not any(p in x for p in PLACEHOLDERS)}
    missing = [x for x in sorted(named) if not exists(x)]
    assert missing == [], f"{page} names files that do not exist"


def sources() -> list[Path]:
    """Every source file of the package and of the C code, without the headers that stand for Xen's."""
    python = [x for x in PACKAGE.rglob("*.py") if x.name != "__init__.py"]
    c = [x for x in (ROOT / "csrc").rglob("*.[ch]") if "abi" not in x.relative_to(ROOT).parts]
    return sorted(python + c)


def test_each_file_has_its_job_in_the_design() -> None:
    """By name, or a C file by its name without suffix, which stands for source and header."""
    names = {x.rpartition("/")[2] for x in NAMED.findall((ROOT / "docs/design.md").read_text())}
    found = sources()
    assert len(found) > 150
    untold = [str(x) for x in found if not {x.name, x.name if x.suffix == ".py" else x.stem} & names]
    assert untold == [], "docs/design.md does not say what these are for"
