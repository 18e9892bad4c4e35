# pathlib takes longer to import than everything else here.
"""Finding Xen's own libxl-save-helper and becoming it, where that is asked for."""

from __future__ import annotations

import errno
import os

from pyxcsr.errors import XcsrError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn, Optional

NAME = "libxl-save-helper"
HANDED_OVER = "PYXCSR_HANDED_OVER"
"""Set in the stock helper's environment: meeting it again means that the "stock helper" leads back here."""

_UNVERSIONED = (
    "usr/libexec/xen/bin",
    "usr/lib/xen/bin",
    "usr/lib64/xen/bin",
    "usr/local/libexec/xen/bin",
    "usr/local/lib/xen/bin",
)
_VERSIONED = "usr/lib"  # Debian: /usr/lib/xen-4.17/bin, one for each release installed


class StockHelperError(XcsrError):
    """Xen's own helper cannot be found or started. Facts: errno."""

    errno: int


def running_release(root: str = "/") -> Optional[str]:
    """The running hypervisor's release, "4.17", or None where sysfs does not tell."""
    parts = []
    for name in ("major", "minor"):
        try:
            with open(os.path.join(root, "sys/hypervisor/version", name), encoding="ascii") as file:
                parts.append(file.read().strip())
        except FileNotFoundError:
            return None
    return ".".join(parts)


def find_stock_helper(environ: Mapping[str, str], program: str, root: str = "/") -> str:
    """The path of Xen's own helper. Raises StockHelperError, saying where it was looked for.

    PYXCSR_STOCK_HELPER decides if set. Else the running hypervisor's release (libxenctrl of any other
    is refused by it), else a directory without a release, else, where it is not known what runs, the
    only release installed. ``program`` is this program, which is never an answer.
    """
    chosen = environ.get("PYXCSR_STOCK_HELPER")
    if chosen:
        if not _usable(chosen, program):
            raise StockHelperError(
                f"PYXCSR_STOCK_HELPER is {chosen!r}, which is not another executable program",
                errno=errno.ENOENT,
            )
        return chosen
    release = running_release(root)
    installed = _installed_releases(root)
    directories = [os.path.join(root, _VERSIONED, f"xen-{release}", "bin")] if release else []
    directories += [os.path.join(root, directory) for directory in _UNVERSIONED]
    if release is None and len(installed) == 1:
        directories.append(os.path.join(root, _VERSIONED, f"xen-{installed[0]}", "bin"))
    for directory in directories:
        path = os.path.join(directory, NAME)
        if _usable(path, program):
            return path
    raise StockHelperError(_not_found(release, installed, directories), errno=errno.ENOENT)


def become_stock_helper(words: list[str], environ: Mapping[str, str], program: str) -> NoReturn:
    """Replaces this process by the stock helper with the same arguments; fds stay as libxl gave them.

    Raises StockHelperError if there is none, or if this is the second time round.
    """
    if environ.get(HANDED_OVER):
        raise StockHelperError(
            "the stock save helper leads back to pyxcsr-save-helper; "
            f"PYXCSR_STOCK_HELPER has to name Xen's own {NAME}",
            errno=errno.ELOOP,
        )
    path = find_stock_helper(environ, program)
    _ignore_python_s_signals(False)
    try:
        os.execve(path, [path, *words], {**environ, HANDED_OVER: "1"})
    except OSError as error:
        _ignore_python_s_signals(True)
        raise StockHelperError(f"cannot run {path}: {error.strerror}", errno=error.errno) from error


def _ignore_python_s_signals(ignore: bool) -> None:
    """SIGPIPE and SIGXFSZ, ignored since Python's start: exec would pass that on to a program that counts on
    the default."""
    import signal

    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN if ignore else signal.SIG_DFL)


def _usable(path: str, program: str) -> bool:
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        return False
    return not (os.path.exists(program) and os.path.samefile(path, program))


def _installed_releases(root: str) -> list[str]:
    try:
        names = os.listdir(os.path.join(root, _VERSIONED))
    except FileNotFoundError:
        return []
    return sorted(
        name[len("xen-"):]
        for name in names
        if name.startswith("xen-")
        and os.path.isfile(os.path.join(root, _VERSIONED, name, "bin", NAME))
    )


def _not_found(release: Optional[str], installed: list[str], directories: list[str]) -> str:
    text = f"this was to be left to Xen's own {NAME}, which was not found in {', '.join(directories)}"
    if release and installed:
        text += f" (Xen {release} runs here; installed: {', '.join(installed)})"
    elif len(installed) > 1:
        text += f" (installed for Xen {', '.join(installed)}, but the running release is not known)"
    return text + "; PYXCSR_STOCK_HELPER can name it"
