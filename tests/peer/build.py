"""Builds the stand-in for libxenctrl that carries libxenguest, and pyxcsr's stub module on top of it.

``python tests/peer/build.py FOLDER`` makes two files there:

* ``libxenctrl.so.4.17``: the stub hypervisor under libxenctrl's soname, with what libxenguest 4.17 imports;
* ``_stub.abi3.so``: pyxcsr's C core and cffi glue, linked with that library instead of holding the stub.

A process that loads the second has both savers on one machine: see driver.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
SONAME = "libxenctrl.so.4.17"
VERSION = "VERS_4.17.0"
MODULE = "_stub.abi3.so"
WRAPPED = ("st_begin_xc", "st_xch_valid", "st_log_error")
COMPILE = ["gcc", "-std=gnu11", "-O2", "-g", "-fPIC", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
RENAMED = ("xc_interface_open", "xc_interface_close", "xc_version")
UNVERSIONED = ("xencall1", "xenforeignmemory_map_resource", "xenforeignmemory_unmap_resource")


class BuildError(Exception):
    """A compiler or linker failed; the text is what it said."""


def run(command: Sequence[str]) -> str:
    """Runs a command; returns what it printed. Raises BuildError."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def imports(library: Path) -> list[str]:
    """The functions that a library imports from libxenctrl."""
    text = run(["nm", "-D", "--undefined-only", str(library)])
    return re.findall(rf" U (\w+)@{re.escape(VERSION)}$", text, re.MULTILINE)


def version_script(names: Sequence[str]) -> str:
    """What is exported: libxenctrl's under its version, what else pyxcsr's core uses under another.

    The other version keeps the stub's CPU policy functions from being taken for libxenguest's own.
    """
    xen = "".join(f"    {name};\n" for name in sorted({*names, *RENAMED}))
    rest = "".join(f"    {name};\n" for name in (*UNVERSIONED, "xc_*", "xs_*", "xenforeignmemory_*", "stub_*"))
    return f"{VERSION} {{\n  global:\n{xen}}};\nXCSR_STUB {{\n  global:\n{rest}  local:\n    *;\n}};\n"


def build_library(folder: Path, libxenguest: Path) -> Path:
    """Builds libxenctrl.so.4.17 in ``folder``. Raises BuildError."""
    objects = []
    include = [f"-I{TOP / 'csrc'}", f"-I{HERE / 'standin'}"]
    sources = [*sorted((TOP / "csrc/stub").rglob("*.c")), *sorted((HERE / "standin").glob("*.c"))]
    for source in sources:
        made = folder / f"{source.parent.name}-{source.stem}.o"
        handle = source == TOP / "csrc/stub/machine/handle.c"
        # the stub's handle gives way to one that libxenguest can look into (standin/handle.c)
        renamed = [f"-D{name}=stub_{name}" for name in RENAMED] if handle else []
        run([*COMPILE, *include, *renamed, "-c", str(source), "-o", str(made)])
        objects.append(str(made))
    script = folder / "symbols.map"
    script.write_text(version_script(imports(libxenguest)))
    library = folder / SONAME
    run(
        [
            *("gcc", "-shared", "-Wl,-soname," + SONAME, f"-Wl,--version-script={script}", "-Wl,-Bsymbolic-functions"),
            *(f"-Wl,--wrap={name}" for name in WRAPPED),
            *("-Wl,-z,defs", "-o", str(library), *objects, "-Wl,--no-as-needed", "-l:libxentoollog.so.1", "-lpthread"),
        ]
    )
    return library


def build_module(folder: Path, library: Path) -> Path:
    """Builds pyxcsr's stub module over the library. Raises BuildError."""
    sys.path.insert(0, str(TOP))
    try:
        import build_ffi
    finally:
        sys.path.remove(str(TOP))
    glue = folder / "glue.c"
    build_ffi.emit("stub", glue)
    macros = [f"-D{name}={value}" for name, value in build_ffi.MACROS]
    include = [f"-I{TOP / 'csrc'}", f"-I{sysconfig.get_path('include')}"]
    module = folder / MODULE
    core = [str(TOP / x) for x in build_ffi.c_files(stub=False)]
    common = ["gcc", "-fPIC", "-g", *build_ffi.FLAGS, *macros, *include]
    run(
        [
            *(*common, "-shared", "-o", str(module), str(glue), *core, str(library)),
            *("-Wl,-rpath,$ORIGIN", "-Wl,-z,undefs", "-lpthread"),
        ]
    )
    return module


def build(folder: Path, libxenguest: Path) -> None:
    """Builds both. Raises BuildError."""
    folder.mkdir(parents=True, exist_ok=True)
    build_module(folder, build_library(folder, libxenguest))


def find_libxenguest() -> Path | None:
    """The installed libxenguest.so.4.17, or None."""
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"):
        found = Path(folder, "libxenguest.so.4.17")
        if found.exists():
            return found
    return None


if __name__ == "__main__":
    peer = find_libxenguest()
    if peer is None:
        sys.exit("libxenguest.so.4.17 is not installed: apt-get install libxenmisc4.17 libxen-dev")
    build(Path(sys.argv[1]), peer)
