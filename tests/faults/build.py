"""Builds pyxcsr's stub module with the core's own calls into libc redirected to faulty.c, which can make each fail.

``python tests/faults/build.py FOLDER`` makes ``_stub.abi3.so`` there. Only the core is redirected, not the stub
hypervisor (csrc/stub/), whose failures are scripted otherwise.
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
MODULE = "_stub.abi3.so"
TOOLS = ("gcc", "objcopy")


def redirected() -> list[str]:
    """The functions that faulty.c stands in for."""
    line = next(x for x in (HERE / "faulty.c").read_text().splitlines() if x.startswith("#define NAMES"))
    return re.findall(r"X\((\w+)\)", line)


def run(command: Sequence[str]) -> None:
    """Runs a command; raises RuntimeError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def build(folder: Path, extra: Sequence[str] = ()) -> Path:
    """Builds the module. Raises RuntimeError."""
    sys.path.insert(0, str(TOP))
    try:
        import build_ffi
    finally:
        sys.path.remove(str(TOP))
    folder.mkdir(parents=True, exist_ok=True)
    glue = folder / "glue.c"
    build_ffi.emit("stub", glue)
    macros = [f"-D{name}={value}" for name, value in build_ffi.MACROS]
    headers = [] if Path("/usr/include/xenctrl.h").exists() else [f"-I{TOP / 'csrc/abi'}"]
    include = [f"-I{TOP / 'csrc'}", f"-I{sysconfig.get_path('include')}", *headers]
    # Not optimised: compiling it would take longer than using it.
    compile_ = ["gcc", "-c", "-fPIC", *build_ffi.FLAGS, "-O0", *macros, *include, *extra]
    objects = []
    core, stub = ([TOP / x for x in build_ffi.c_files(stub=which)] for which in (False, True))
    for source in (*core, *stub, HERE / "faulty.c", glue):
        made = folder / f"{source.parent.name}-{source.stem}.o"
        run([*compile_, str(source), "-o", str(made)])
        if source in core:
            run(["objcopy", *(f"--redefine-sym={x}=fault_{x}" for x in redirected()), str(made)])
        objects.append(str(made))
    module = folder / MODULE
    run(["gcc", "-shared", *extra, "-o", str(module), *objects, "-lpthread"])
    return module


if __name__ == "__main__":
    build(Path(sys.argv[1]))
