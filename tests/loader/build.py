"""Builds the stub hypervisor as Xen's libraries of one release, and a module that makes guests on it.

In the folder: ``stub.o`` and ``_stub.abi3.so``, which serve for all releases, and for each release a folder with its
``libxenctrl.so.4.N``, and the names of the other libraries, which are the same file.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from support.builder import build_ffi

from loader.facts import NEWEST, STORE

TESTS = Path(__file__).resolve().parents[1]
TOP = TESTS.parent
FAKE = Path(__file__).resolve().parent / "fake"
COMPILE = ("-std=gnu11", "-O0", "-fPIC", "-D_GNU_SOURCE", f"-I{TOP / 'csrc'}", f"-I{TOP / 'csrc/abi'}")


RELEASES = (14, 17, NEWEST, NEWEST + 1)
"""Of each form in the table one, the newest, and one that is not in the table yet."""


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)[:300]}\n{done.stderr[-3000:]}"


def compiler() -> str:
    return os.environ.get("CC", "gcc")


def shared(folder: Path, soname: str, *sources: str) -> Path:
    """A library of these sources."""
    folder.mkdir(exist_ok=True)
    run(compiler(), "-shared", *COMPILE, f"-Wl,-soname,{soname}", "-o", str(folder / soname), *sources, "-lpthread")
    return folder / soname


def common(folder: Path) -> None:
    """What the fakes of all releases are made with."""
    renamed = ("-include", str(FAKE / "renamed.h"))
    stub = [str(TOP / x) for x in build_ffi().c_files(stub=True)]
    run(compiler(), "-r", "-nostdlib", *COMPILE, *renamed, "-o", str(folder / "stub.o"), *stub)
    build_ffi().emit("stub", folder / "glue.c")
    macros = [f"-D{name}={value}" for name, value in build_ffi().MACROS]
    core = [str(TOP / x) for x in build_ffi().c_files()]
    include = f"-I{sysconfig.get_path('include')}"
    run(
        *(compiler(), "-shared", *COMPILE, *renamed, "-w", "-fvisibility=hidden", *macros, include),
        *("-o", str(folder / "_stub.abi3.so"), str(folder / "glue.c"), *core, "-lpthread"),
    )


def release(folder: Path, minor: int) -> Path:
    """The libxenctrl of one release, with the others beside it."""
    forms = FAKE / ("since_16.c" if minor >= 16 else "until_15.c")
    made = shared(folder / str(minor), f"libxenctrl.so.4.{minor}", str(folder / "stub.o"), str(forms))
    for name in others(minor):
        made.with_name(name).symlink_to(made.name)
    return made


def others(minor: int) -> Sequence[str]:
    """The names of the libraries besides libxenctrl."""
    return (f"libxenguest.so.4.{minor}", "libxenforeignmemory.so.1", STORE.get(minor, STORE[NEWEST]))
