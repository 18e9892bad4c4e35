"""Every block of shell or Python in README.md and docs/ runs as it stands there, page by page in a folder of the test's
own, or says why not. GUEST is a guest of the stub: a script named ``pyxcsr`` adds ``--backend stub``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from container.test_checkpoints import remus
from support import containers as c
from support.blocks import Block, blocks, indented, stray_marks

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{x.name}" for x in (ROOT / "docs").glob("*.md"))]

RUN = ("sh", "python")
SHOWN = ("text", "json", "ini", "{toctree}", "{eval-rst}", "{commands}")
"""Kinds of blocks that are nothing to run."""

PRINTING = {
    "docs/containers.md": "tests/container/test_container.py",
    "docs/stream.md": "tests/docs/test_stream.py",
    "docs/research.md": "tests/docs/test_research.py",
}
"""Pages whose Python is run by a test of its own, which compares what it prints with what the page says."""

SECONDS = 120
"""For a block: what else this machine does may take most of it."""


def there(page: str) -> list[Block]:
    return blocks((ROOT / page).read_text())


def to_run(page: str, kind: str) -> list[Block]:
    """The blocks of a page that the tests below run."""
    if kind == "python" and page in PRINTING:
        return []
    return [x for x in there(page) if x.kind == kind and x.mark is None]


def problems(page: str, text: str) -> list[str]:
    """What is wrong with a page's blocks, whatever they do."""
    wrong = [f"a mark ahead of no block: {x}" for x in stray_marks(text)]
    wrong += [f"code by indentation, make it a block of a kind: {x}" for x in indented(text)]
    for block in blocks(text):
        what, why = block.mark or ("", "")
        if block.kind not in (*RUN, *SHOWN):
            wrong.append(f"line {block.line}: a block of kind {block.kind!r}")
        elif block.kind in SHOWN and block.text.startswith("$ ") and page not in PRINTING:
            wrong.append(f"line {block.line}: commands in a block of kind {block.kind}")
        elif what == "not run" and len(why.split()) < 2:
            wrong.append(f"line {block.line}: {why!r} is no reason")
        elif what == "run by" and not ((ROOT / why).is_file() and page in (ROOT / why).read_text()):
            wrong.append(f"line {block.line}: {why} does not name {page}")
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_known_kinds(page: str) -> None:
    assert problems(page, (ROOT / page).read_text()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```bash\nls\n```\n", "of kind 'bash'"),
        ("```\nls\n```\n", "of kind ''"),
        ("```text\n$ ls\n```\n", "commands in a block"),
        ("So:\n\n    ls\n", "by indentation"),
        ("<!-- not run: dom0 -->\n```sh\nls\n```\n", "no reason"),
        ("<!-- not run: it needs dom0 -->\nSo:\n\n```sh\nls\n```\n", "ahead of no block"),
        ("<!-- run by tests/nowhere.py -->\n```sh\nls\n```\n", "does not name"),
    ],
)
def test_what_is_wrong_is_found(text: str, words: str) -> None:
    (found,) = problems("docs/xl.md", text)
    assert words in found


def test_pages_that_have_a_test_of_their_own() -> None:
    for page, test in PRINTING.items():
        assert Path(page).name in (ROOT / test).read_text()


def test_most_blocks_run() -> None:
    number = sum(len(to_run(page, kind)) for page in PAGES for kind in RUN)
    assert number > 35


# Python: each block by itself, the blocks of a page in one process

EACH = """
import sys
for name, text in zip(sys.argv[1::2], sys.argv[2::2]):
    exec(compile(text, name, "exec"), {"__name__": "__main__"})
"""


def environment(folder: Path) -> dict[str, str]:
    """Nothing of this machine's settings or saves is read or touched."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYXCSR_")}
    return {**ours, "PYTHONPATH": os.pathsep.join(sys.path), "PYXCSR_RUN_DIR": str(folder / "run"), "HOME": str(folder)}


def prepare(page: str, folder: Path) -> None:
    """The files that a page has before its first block."""
    saved = ["save", "--backend", "stub", "--no-live", "--no-progress", "pv64:mem=8M"]
    names = {"docs/image.md": ("guest.xcs",), "docs/inspect.md": ("guest.xcs",), "docs/saving.md": ("other.stream",)}
    for name in names.get(page, ()):
        command = [sys.executable, "-m", "pyxcsr", *saved, name]
        subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, check=True)
    if page == "docs/containers.md":
        (folder / "IN.xl").write_bytes(c.xl())
        (folder / "JSON").write_bytes(c.text_of(c.config(name="other")))
        (folder / "REMUS").write_bytes(remus(4, wrapped=True))


def in_folder(text: str, folder: Path) -> str:
    """The block with the test's folder for /tmp and for the saves of this machine."""
    return text.replace("/tmp/", f"{folder}/").replace("running()", f"running({str(folder)!r})")


@pytest.mark.parametrize("page", [x for x in PAGES if to_run(x, "python")])
def test_python(page: str, tmp_path: Path) -> None:
    prepare(page, tmp_path)
    words = [x for block in to_run(page, "python") for x in (f"{page}:{block.line}", in_folder(block.text, tmp_path))]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EACH, *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr


# Shell: the blocks of a page one after another, each going on with what those before it have left

PROGRAMS = {
    "pyxcsr": 'case "$1" in save|restore|dirty-rate) do=$1; shift; set -- "$do" --backend stub "$@";; esac\n'
    'exec {python} -m pyxcsr "$@"',
    "ssh": 'test "$1" = HOST && mkdir -p away && cd away && exec sh -c "$2"',
}
FILTERS = ("zstd", "lz4", "jq")
"""Programs in a block without which it is left out."""


def sh(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs it. It ends at the first command that fails; in a pipeline any counts."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script.format(python=sys.executable)}\n")
        (programs / name).chmod(0o755)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-xc", text],
        cwd=folder,
        env={**environment(folder), "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def as_typed(text: str) -> str:
    """With a guest in GUEST's place. ``...`` are further files, of which there are none."""
    return re.sub(r"\bGUEST\b", "pv64:mem=8M", text).replace(" ...", "")


def after_saving(folder: Path) -> None:
    """The second block of docs/saving.md has its stream at the other end, and that is whole."""
    text = "pyxcsr verify guest.stream away/guest.stream; zstd -dc guest.stream.zst | pyxcsr verify -"
    assert sh(text, folder).returncode == 0


def after_inspecting(folder: Path) -> None:
    assert json.loads(sh("pyxcsr inspect --json guest.xcs", folder).stdout)["details"]["vcpus"]


AFTERWARDS: dict[str, Callable[[Path], None]] = {"docs/saving.md": after_saving, "docs/inspect.md": after_inspecting}


@pytest.mark.parametrize("page", [x for x in PAGES if to_run(x, "sh")])
def test_shell(page: str, tmp_path: Path) -> None:
    prepare(page, tmp_path)
    missing = set()
    for block in to_run(page, "sh"):
        lacks = {x for x in FILTERS if re.search(rf"\b{x}\b", block.text) and shutil.which(x) is None}
        missing |= lacks
        if not lacks:
            done = sh(as_typed(block.text), tmp_path)
            assert done.returncode == 0, f"{page}:{block.line}\n{done.stdout[-1000:]}{done.stderr[-3000:]}"
    if missing:
        pytest.skip(f"{', '.join(sorted(missing))} is not installed")
    if page in AFTERWARDS:
        AFTERWARDS[page](tmp_path)


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    assert sh("pyxcsr verify nowhere.stream\ntrue", tmp_path).returncode == 2
    assert sh("pyxcsr inspect nowhere.stream | cat", tmp_path).returncode == 2
