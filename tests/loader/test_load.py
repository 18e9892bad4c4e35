"""What the loader makes of libraries that are not there, lack something, or are of another release than Xen."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest

from loader import build, facts
from loader.test_facts import lines

pytestmark = pytest.mark.toolchain
pytest.importorskip("pyxcsr._loader", reason="the loader was not built here: PYXCSR_BACKENDS=loader,stub")

LOAD = """
import json, sys
import pyxcsr._loader as module
from pyxcsr.hypervisor import loading
path, running, folder = sys.argv[1:]
why = module.ffi.new("xcsr_error *")
given = module.ffi.new("char[]", path.encode()) if path else module.ffi.NULL
rc = module.lib.xcsr_load(given, int(running, 0), why)
text = module.ffi.string(why.text).decode()
left = [x for x in open("/proc/self/maps") if folder in x]
json.dump({"rc": rc, "text": text, "left": left, "loaded": loading.loaded(module)}, sys.stdout)
"""


def attempt(folder: Path, path: Optional[Path], running: int = 0) -> dict[str, Any]:
    """Loads in a process of its own, in which ``folder`` comes first among those with libraries."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path or ""), str(running), str(folder)],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["rc"] == 0 or (answer["left"] == [] and answer["loaded"] == {}), "a failure leaves nothing open"
    return answer


def fake(folder: Path, minor: int, lacking: str = "", soname: str = "") -> Path:
    """Four libraries of a release, each with its own functions, which do nothing, but for one that is left out."""
    folder.mkdir(exist_ok=True)
    names = {x[3] for x in lines() if x[0] <= min(minor, facts.NEWEST) <= x[1] or minor < facts.OLDEST} - {lacking}
    store = facts.STORE[min(max(minor, facts.OLDEST), facts.NEWEST)]
    for title, prefix in ((f"libxenguest.so.4.{minor}", "xc_"), ("libxenforeignmemory.so.1", "xenf"), (store, "xs_")):
        library(folder, title, [x for x in names if x.startswith(prefix) and in_guest(x) == (prefix == "xc_")])
    ctrl = [x for x in names if x.startswith("xc_") and not in_guest(x)]
    return library(folder, soname or f"libxenctrl.so.4.{minor}", ctrl)


def in_guest(name: str) -> bool:
    return "policy" in name or name in ("xc_dom_gnttab_seed", "xc_domain_resume")


def library(folder: Path, soname: str, names: list[str]) -> Path:
    source = folder / f"{soname}.c"
    source.write_text("\n".join(f"int {x}(void) {{ return -1; }}" for x in names))
    return build.shared(folder, soname, str(source))


def release(minor: int) -> int:
    return 4 << 16 | minor


def test_one_that_has_all(tmp_path: Path) -> None:
    """By its path, and by the release that runs."""
    path = fake(tmp_path, 18)
    for given, running in ((path, 0), (path, release(18)), (None, release(18))):
        answer = attempt(tmp_path, given, running)
        assert answer["rc"] == 0, answer["text"]
        assert answer["loaded"]["release"] == release(18)
        assert answer["loaded"]["files"]["store"] == str(tmp_path / "libxenstore.so.4")


@pytest.mark.parametrize(
    ("lacking", "file"),
    [
        ("xc_domctl", "libxenctrl.so.4.17"),
        ("xc_logdirty_control", "libxenctrl.so.4.17"),
        ("xc_cpu_policy_serialise", "libxenguest.so.4.17"),
        ("xenforeignmemory_map", "libxenforeignmemory.so.1"),
        ("xs_directory", "libxenstore.so.4"),
    ],
)
def test_one_that_lacks_a_function(tmp_path: Path, lacking: str, file: str) -> None:
    answer = attempt(tmp_path, fake(tmp_path, 17, lacking))
    assert answer["rc"] == -errno.ENOSYS
    title = file.partition(".")[0]
    assert answer["text"] == f"{title} of Xen 4.17 ({tmp_path / file}) lacks {lacking}"


def test_each_function_is_needed(tmp_path: Path) -> None:
    """Of a library without any of its functions, as many are named as there is room for, and the others counted."""
    path = fake(tmp_path, 17)
    library(tmp_path, "libxenctrl.so.4.17", ["nothing"])
    text = attempt(tmp_path, path)["text"]
    named = text.partition("lacks ")[2].partition(" and ")[0].split(", ")
    others = int(text.rpartition(" and ")[2].removesuffix(" more"))
    assert named[0] == "xc_interface_open"
    mine = {x[3] for x in lines() if x[0] <= 17 <= x[1] and x[3].startswith("xc_") and not in_guest(x[3])}
    assert set(named) < mine and len(named) + others == len(mine)


def test_a_function_that_has_moved(tmp_path: Path) -> None:
    """xc_domain_resume was libxenctrl's in 4.15, and is libxenguest's."""
    path = fake(tmp_path, 17, "xc_domain_resume")
    names = [x[3] for x in lines() if x[0] <= 17 <= x[1] and x[3].startswith("xc_") and not in_guest(x[3])]
    library(tmp_path, path.name, [*names, "xc_domain_resume"])
    assert attempt(tmp_path, path)["rc"] == 0


@pytest.mark.parametrize(
    ("mine", "running", "fits"), [(17, 20, False), (20, 17, False), (19, 20, True), (21, 20, True)]
)
def test_a_library_of_another_release(tmp_path: Path, mine: int, running: int, fits: bool) -> None:
    """The hypervisor would refuse its requests unless both have the same version of the domctl interface."""
    path = fake(tmp_path, mine)
    answer = attempt(tmp_path, path, release(running))
    assert (answer["rc"] == 0) == fits
    if not fits:
        assert answer["rc"] == -errno.EACCES
        for words in (str(path), f"Xen 4.{mine}", f"Xen 4.{running} runs"):
            assert words in answer["text"]


def test_a_release_that_is_not_known_yet(tmp_path: Path) -> None:
    """It is taken for the newest; one that is too old is not taken at all."""
    later = facts.NEWEST + 1
    path = fake(tmp_path, later)
    for given in (path, None):
        answer = attempt(tmp_path, given, release(later))
        assert answer["rc"] == 0, answer["text"]
        assert answer["loaded"]["release"] == release(later) and not answer["loaded"]["known"]
    older = attempt(tmp_path / "old", fake(tmp_path / "old", 13))
    assert older["rc"] == -errno.EACCES and "Xen 4.13, and pyxcsr works with 4.14 and later" in older["text"]


def test_libraries_that_are_not_there(tmp_path: Path) -> None:
    answer = attempt(tmp_path, None, release(99))
    assert answer["rc"] == -errno.ENOENT
    assert "a library of Xen 4.99: libxenctrl.so.4.99" in answer["text"]
    path = fake(tmp_path, 18)
    (tmp_path / "libxenguest.so.4.18").unlink()
    answer = attempt(tmp_path, path)
    assert answer["rc"] == -errno.ENOENT and "Xen 4.18: libxenguest.so.4.18" in answer["text"]


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    other = library(tmp_path, "libother.so.1", ["other"])
    answer = attempt(tmp_path, other)
    assert answer["rc"] == -errno.ENOSYS and answer["text"].startswith(f"{other} is no libxenctrl")
    text = tmp_path / "text"
    text.write_text("no library")
    assert str(text) in attempt(tmp_path, text)["text"]


def test_a_libxenctrl_with_another_soname(tmp_path: Path) -> None:
    """Then the release that runs is taken for its own."""
    path = fake(tmp_path, 18, soname="libmine.so")
    answer = attempt(tmp_path, path, release(18))
    assert answer["rc"] == 0 and answer["loaded"]["release"] == release(18), answer["text"]
