"""Xen's libraries by the loader: those of the Xen that runs, or the one that ``PYXCSR_LIBXENCTRL`` names."""

from __future__ import annotations

import os

from pyxcsr.errors import BackendUnavailable, VersionMismatch
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Optional

NAMED = "PYXCSR_LIBXENCTRL"
"""The environment's variable with the path of a libxenctrl."""

SYSFS = "/sys/hypervisor"

E_ACCES = 13
ADVICE = {
    2: "install the tools of the Xen that runs (libxenmisc4.N on Debian and Ubuntu, xen-libs on Fedora, xen-libs or "
    f"xen-tools elsewhere), or name its libxenctrl: {NAMED}=PATH",
    38: f"this file is not what Xen's own build makes of that release; another one can be named: {NAMED}=PATH",
    E_ACCES: "the libraries of the running release are needed (see `xl info`)",
}


def named() -> Optional[str]:
    """The libxenctrl that the user has named; None: there is none."""
    return os.environ.get(NAMED) or None


def _text(*parts: str) -> str:
    try:
        with open(os.path.join(SYSFS, *parts), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def running() -> int:
    """The release of the Xen under which this runs, as Linux has it: ``major << 16 | minor``; 0 if it does not know."""
    major, minor = _text("version", "major"), _text("version", "minor")
    if _text("type") != "xen" or not (major.isdigit() and minor.isdigit()):
        return 0
    return int(major) << 16 | int(minor)


def load(module: Any) -> None:
    """Loads Xen's libraries into ``pyxcsr._loader``, once for the process.

    Raises BackendUnavailable if there are none, or if one lacks a function; VersionMismatch if they are of another
    release than the hypervisor. Each names the release, the file and, where one is missing, the function.
    """
    path = named()
    why = module.ffi.new("xcsr_error *")
    given = module.ffi.NULL if path is None else module.ffi.new("char[]", os.fsencode(path))
    if not module.lib.xcsr_load(given, running(), why):
        return
    text = module.ffi.string(why.text).decode(errors="replace")
    message = f"Xen's libraries cannot be used: {text}; {ADVICE.get(why.err, 'see `xl info`')}"
    if why.err == E_ACCES:
        raise VersionMismatch(message, op="xcsr_load", errno=E_ACCES)
    raise BackendUnavailable(message, backend="xen")


def loaded(module: Any) -> dict[str, Any]:
    """What :func:`load` has opened: the release of the libraries, and their files by name."""
    out = module.ffi.new("xcsr_loaded *")
    if module.lib.xcsr_loaded_now(out):
        return {}
    files = {x: module.ffi.string(getattr(out, x)).decode(errors="replace") for x in FILES}
    return {"release": out.release, "running": out.running, "known": bool(out.domctl), "files": files}


FILES = ("ctrl", "guest", "foreignmemory", "store")
