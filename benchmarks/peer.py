"""libxenguest 4.17 on the same stub: the parts of tests/peer that build and load it."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any, Optional

from benchmarks import BUILD, TOP

HOW_TO_GET_IT = "libxenguest 4.17 is not installed: apt-get install libxenmisc4.17 libxen-dev"


def _tests() -> None:
    """tests/peer is imported from the checkout: it is not installed."""
    path = str(TOP / "tests")
    if path not in sys.path:
        sys.path.append(path)


def missing() -> Optional[str]:
    """Why libxenguest cannot be run here, and what brings it; None if it can."""
    _tests()
    from peer.build import find_libxenguest

    if find_libxenguest() is None or not Path("/usr/include/xen/sysctl.h").exists():
        return HOW_TO_GET_IT
    for tool in ("gcc", "nm"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed: apt-get install gcc binutils"
    return None


def _key() -> str:
    """A digest of all that the stand-in is made from."""
    digest = hashlib.sha256(sys.version.encode())
    sources = [*(TOP / "csrc").rglob("*"), *(TOP / "tests/peer").rglob("*"), TOP / "build_ffi.py"]
    for path in sorted(x for x in sources if x.suffix in {".c", ".h", ".py", ".cdef"}):
        digest.update(f"{path.relative_to(TOP)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def standin() -> Path:
    """The folder with the stub that carries libxenguest, built unless that was done before."""
    _tests()
    from peer.build import build, find_libxenguest

    folder = BUILD / f"standin-{_key()}"
    libxenguest = find_libxenguest()
    assert libxenguest is not None
    if not (folder / "done").exists():
        build(folder, libxenguest)
        (folder / "done").touch()
    return folder


def load(folder: Path) -> None:
    """Makes the stub in ``folder`` this process's ``pyxcsr._stub``. To be called before pyxcsr is imported."""
    _tests()
    from peer.build import MODULE

    spec = importlib.util.spec_from_file_location("pyxcsr._stub", folder / MODULE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyxcsr._stub"] = module
    spec.loader.exec_module(module)


LIBXENCTRL = """
int xc_get_pfn_type_batch(void *xch, uint32_t domid, unsigned num, uint64_t *frames);
void *xenforeignmemory_open(void *logger, unsigned flags);
int xenforeignmemory_close(void *fmem);
void *xenforeignmemory_map(void *fmem, uint32_t domid, int prot, size_t pages, const uint64_t *frames, int *errors);
int xenforeignmemory_unmap(void *fmem, void *address, size_t pages);
"""


def libxenctrl(folder: Path) -> tuple[Any, Any]:
    """cffi's ffi and library of the stub's own calls."""
    _tests()
    from cffi import FFI
    from peer.build import SONAME

    ffi = FFI()
    ffi.cdef(LIBXENCTRL)
    return ffi, ffi.dlopen(str(folder / SONAME))


def libxenguest(folder: Path) -> Any:
    """libxenguest, on the stub that :func:`load` loaded."""
    _tests()
    from peer.build import SONAME, find_libxenguest
    from peer.libxenguest import Libxenguest

    return Libxenguest(folder / SONAME, find_libxenguest())
