"""What a device model was told last, noted in xenstore: there it is found by whoever comes after a killed save.

QEMU itself does not tell whether it tells Xen of the pages that it writes. The note names the very QEMU that was told,
so that it says nothing of another one: one that was started anew, or that of a later domain with the same id. It is in
a directory of the domain's that only domain 0 writes, and goes when the domain goes.

What QEMU does when it is told what it does already (memory_global_dirty_log_start and _stop in its memory.c): until 6.1
nothing; since 7.0 nothing if it is to begin, but it ends if it is to stop; 6.2 ends over both.
"""

from __future__ import annotations

from pyxcsr.errors import HypervisorError
from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.base import DeviceModel

ASKED, BEGUN = "asked", "begun"
"""It was told something, and it is not known whether it has heard; it tells Xen of the pages that it writes."""

ENDS_OVER_BOTH = (6, 2)


class Store(Protocol):
    """The part of a Hypervisor that is needed here."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """A node's value, or None. Raises HypervisorError."""

    def xenstore_write(self, path: str, value: bytes, /) -> None:
        """Writes a node. Raises HypervisorError."""


def path_of(domid: int) -> str:
    """The note's place."""
    return f"/local/domain/{domid}/pyxcsr/device-model"


class Noted:
    """The note about one domain's device model. ``warn``: is told, once, that there can be none; nothing else is lost.

    Of a device model that cannot be told from another one nothing is noted.
    """

    __slots__ = ("_model", "_path", "_store", "_warn")

    def __init__(self, store: Store, domid: int, model: DeviceModel, warn: Callable[[str], object]) -> None:
        self._store, self._path, self._model = store, path_of(domid), model
        self._warn: Optional[Callable[[str], object]] = warn

    def put(self, what: str) -> None:
        """:data:`ASKED` before it is told something, :data:`BEGUN` once it has begun."""
        instance = self._model.instance()
        if instance is not None:
            self._write(f"{what} {instance}".encode())

    def erase(self) -> None:
        """It has stopped, or is another one."""
        if self._model.instance() is not None:
            self._write(b"")

    def found(self) -> Optional[str]:
        """What is noted of this very device model: ASKED, BEGUN; None: nothing. Raises HypervisorError."""
        instance = self._model.instance()
        if instance is None:
            return None
        what, _, whose = (self._store.xenstore_read(self._path) or b"").decode("ascii", "replace").partition(" ")
        return what if what in (ASKED, BEGUN) and whose == instance else None

    def _write(self, value: bytes) -> None:
        try:
            self._store.xenstore_write(self._path, value)
        except HypervisorError as problem:
            if self._warn is not None:
                warn, self._warn = self._warn, None
                warn(f"what the device model was told is not noted for `pyxcsr recover`: {problem}")


def end_left(model: DeviceModel, noted: Noted) -> Optional[bool]:
    """Has a device model stop that a killed save has left telling Xen which pages it writes.

    None: nothing of that kind is noted; False: it is not known whether it tells, and this release of QEMU can neither
    be told to begin nor to stop without knowing. Nobody may save the domain meanwhile. Raises DeviceModelError,
    HypervisorError.
    """
    found = noted.found()
    if found is None:
        return None
    knows_only = model.version() == ENDS_OVER_BOTH
    if knows_only and found != BEGUN:
        return False
    noted.put(ASKED)
    if not knows_only:  # it may have stopped by now, as after a save by Xen's own helper, and must not be told twice
        model.track(True)
    model.track(False)
    noted.erase()
    return True
