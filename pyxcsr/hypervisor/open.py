"""Opening a hypervisor by name. There is no automatic choice: what is asked for is opened, or it fails."""

from __future__ import annotations

import os
import sys

from pyxcsr.errors import BackendUnavailable, UsageError, XcsrError, note
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.hypervisor.names import BACKENDS
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Literal, Optional, Union, overload

    from pyxcsr.hypervisor.names import BackendName
    from pyxcsr.hypervisor.stub.machine import Stub

HOW_TO_GET_XEN = (
    "to save guests of a Xen host, install pyxcsr's wheel there, or build it with PYXCSR_BACKENDS=loader,stub, which "
    "needs no Xen; to link it with one release of Xen, install that one's development files (libxen-dev on Debian and "
    "Ubuntu, xen-devel on Fedora and openSUSE) and build it with PYXCSR_BACKENDS=xen,stub; "
    "without Xen, try the built-in stub hypervisor: --backend stub, or open_hypervisor('stub')"
)


def package() -> str:
    """Where this package is."""
    return os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def is_source_tree(package: Union[str, os.PathLike[str]]) -> bool:
    """Whether a package's folder is a clone's: Python takes that for the package when it runs in the clone."""
    top = os.path.dirname(package)
    return os.path.isfile(os.path.join(top, "build_ffi.py")) and os.path.isdir(os.path.join(top, "csrc"))


class StubBackend(Backend):
    """The stub hypervisor: the same calls, and ``stub``, by which its machine and guests are controlled.

    The guests that were made through its ``stub`` end when it is closed.
    """

    def __init__(self, module: Any) -> None:
        from pyxcsr.hypervisor.stub.machine import Stub

        self.stub: Stub = Stub(module.ffi, module.lib)
        super().__init__(module, "stub")

    def _close_handle(self) -> None:
        try:
            super()._close_handle()
        finally:
            self.stub.end_guests()


def _built(name: str) -> Any:
    """The module of that name; None if it has not been built."""
    full = f"pyxcsr._{name}"
    try:
        __import__(full)
        return sys.modules[full]
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        return None
    except ImportError as error:  # a library is missing, or of another release
        raise BackendUnavailable(
            f"the {name} backend cannot be loaded: {error}; it was built for another release of Xen than is "
            f"installed here, so build it here: {HOW_TO_GET_XEN}",
            backend=name,
        ) from error


def _not_built(name: str) -> BackendUnavailable:
    tree = package()
    if is_source_tree(tree):
        return BackendUnavailable(
            f"the pyxcsr that was imported is the source tree in {os.path.dirname(tree)}, in which the {name} backend "
            "has not been built: install it (`pip install .` there), and run from another folder or with the installed "
            "`pyxcsr` command",
            backend=name,
        )
    advice = HOW_TO_GET_XEN if name == "xen" else "install pyxcsr again with PYXCSR_BACKENDS=stub"
    return BackendUnavailable(f"pyxcsr was built without the {name} backend; {advice}", backend=name)


def _with_one_release() -> tuple[Any, Optional[BackendUnavailable]]:
    """The module that is linked with one release of Xen, if it is to be used; and what keeps it from being loaded."""
    from pyxcsr.hypervisor import loading

    try:
        return (None if loading.named() else _built("xen")), None
    except BackendUnavailable as error:
        return None, error


def passed_over() -> str:
    """Why the loader is used although ``_xen`` is there; empty if that is not so."""
    unusable = _with_one_release()[1]
    return "" if unusable is None or _built("loader") is None else str(unusable.__cause__)


def _linked() -> Any:
    """The module for Xen: the one that is linked with its libraries, if it was built and those are here, else the one
    that loads them."""
    from pyxcsr.hypervisor import loading

    module, unusable = _with_one_release()
    if module is not None:
        return module
    module = _built("loader")
    if module is None and unusable is not None:
        raise unusable
    if module is None and loading.named():
        raise BackendUnavailable(
            f"{loading.NAMED} is for the loader, and this pyxcsr was built without it: unset the variable, or build "
            "pyxcsr with PYXCSR_BACKENDS=loader,stub",
            backend="xen",
        )
    if module is None:
        raise _not_built("xen")
    try:
        loading.load(module)
    except XcsrError as error:
        if unusable is not None:
            note(error, f"the module linked with one release of Xen cannot be used either: {unusable.__cause__}")
        raise
    return module


if TYPE_CHECKING:

    @overload
    def open_hypervisor(backend: Literal["stub"]) -> StubBackend: ...
    @overload
    def open_hypervisor(backend: BackendName = ...) -> Backend: ...


def open_hypervisor(backend: str = "xen") -> Backend:
    """Opens ``"xen"`` (the real one, through libxenctrl; needs root in dom0) or ``"stub"``.

    Raises BackendUnavailable if that backend was not built or cannot be loaded, VersionMismatch if Xen's libraries are
    not those of the Xen that runs, PrivilegeError if it cannot be opened here, UsageError for another name.
    """
    if backend not in BACKENDS:
        raise UsageError(f"{backend!r} is not a backend; there are {' and '.join(BACKENDS)}")
    if backend == "xen":
        return Backend(_linked(), "xen")
    module = _built("stub")
    if module is None:
        raise _not_built("stub")
    return StubBackend(module)
