"""What a device model was told last, noted in xenstore: there it is found by whoever comes after a killed save.

QEMU itself does not tell whether it tells Xen of the pages that it writes. The note names the very QEMU that was told,
so that it says nothing of another one: one that was started anew, or that of a later domain with the same id. It is in
a directory of the domain's that only domain 0 writes, and goes when the domain goes.

What QEMU does when it is told what it does already (memory_global_dirty_log_start and _stop in its memory.c): until 6.1
nothing; since 7.0 nothing if it is to begin, but it ends if it is to stop; 6.2 ends over both.
"""

from __future__ import annotations

from pyxcsr.errors import DeviceModelError, HypervisorError
from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.base import DeviceModel

ASKED, BEGUN = "asked", "begun"
"""It was told something, and it is not known whether it has heard; it tells Xen of the pages that it writes."""

BEFORE = ("note", "connect", "greeting", "qmp_capabilities")
"""Of a DeviceModelError's ``op``: it failed before the command was sent."""

ENDS_OVER_BOTH = (6, 2)

NEEDS_ANOTHER = (
    "until it has another QEMU the guest cannot be saved live: `xl save` and `xl restore`, or a reboot, give it one"
)
"""What is left to do for a guest whose QEMU is :data:`ENDS_OVER_BOTH`, and of which it is not known what it does."""


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

    __slots__ = ("_model", "_path", "_store", "_warn", "domid")

    def __init__(self, store: Store, domid: int, model: DeviceModel, warn: Callable[[str], object]) -> None:
        self._store, self.domid, self._path, self._model = store, domid, path_of(domid), model
        self._warn: Optional[Callable[[str], object]] = warn

    def put(self, what: Optional[str]) -> bool:
        """:data:`ASKED` before it is told something, :data:`BEGUN` once it has begun, None once it has stopped.

        False: xenstore does not take it, and what was noted before stands.
        """
        instance = self._model.instance()
        return instance is None or self._write(b"" if what is None else f"{what} {instance}".encode())

    def found(self) -> Optional[str]:
        """What is noted of this very device model: ASKED, BEGUN; None: nothing. Raises HypervisorError."""
        instance = self._model.instance()
        if instance is None:
            return None
        what, _, whose = (self._store.xenstore_read(self._path) or b"").decode("ascii", "replace").partition(" ")
        return what if what in (ASKED, BEGUN) and whose == instance else None

    def may_say_begun(self) -> bool:
        """Whether BEGUN is noted, or may be: it cannot be read."""
        try:
            return self.found() == BEGUN
        except HypervisorError:
            return True

    def _write(self, value: bytes) -> bool:
        try:
            self._store.xenstore_write(self._path, value)
            return True
        except HypervisorError as problem:
            if self._warn is not None:
                warn, self._warn = self._warn, None
                warn(f"what the device model was told is not noted for `pyxcsr recover`: {problem}")
            return False


def may_end_over_both(model: DeviceModel) -> bool:
    """Whether it is the release that ends if it is told what it does already, or does not say which release it is.

    Raises DeviceModelError.
    """
    return model.version() in (ENDS_OVER_BOTH, None)


def tell(model: DeviceModel, noted: Noted, on: bool, was: Optional[str]) -> None:
    """Has a device model begin or stop. ASKED is noted before; once it has answered, that is the caller's to change.

    ``was``: what is noted again if the command could not be sent. Should xenstore not take that, or not what the
    caller notes, then ASKED stays, with which no release is told what it might end over. But if it is ASKED that
    xenstore does not take, and BEGUN stays, a QEMU that ends over both is not told to stop: it would be told again.

    Raises DeviceModelError.
    """
    if not noted.put(ASKED) and noted.may_say_begun() and may_end_over_both(model):
        raise DeviceModelError(
            f"domain {noted.domid}: its QEMU is not told to {'begin' if on else 'stop'} telling Xen which pages it "
            "writes, because xenstore does not take the note about that, and QEMU 6.2 would end, and the guest with "
            "it, if it were told again",
            domid=noted.domid,
            op="note",
        )
    try:
        model.track(on)
    except DeviceModelError as error:
        if error.op in BEFORE:
            noted.put(was)
        raise


def end_left(model: DeviceModel, noted: Noted) -> Optional[bool]:
    """Has a device model stop that a killed save has left telling Xen which pages it writes.

    None: nothing of that kind is noted; False: it is not known whether it tells, and this release of QEMU can neither
    be told to begin nor to stop without knowing. Nobody may save the domain meanwhile. Raises DeviceModelError,
    HypervisorError.
    """
    found = noted.found()
    if found is None:
        return None
    knows_only = may_end_over_both(model)
    if knows_only and found != BEGUN:
        return False
    if not knows_only:  # it may have stopped by now, as after a save by Xen's own helper, and must not be told twice
        tell(model, noted, True, found)
    tell(model, noted, False, BEGUN)
    noted.put(None)
    return True
