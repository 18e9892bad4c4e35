"""A QEMU that ends where QEMU does, a xenstore, and one save's Told and Noted between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from devicemodel.fake_qemu import FakeQemu
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.noted import ENDS_OVER_BOTH, Noted
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.devicemodel.told import Told
from pyxcsr.errors import HypervisorError

OLD, NEW = (6, 1), (7, 0)
RELEASES = [OLD, ENDS_OVER_BOTH, NEW, (9, 1)]


class Store:
    """Xenstore. ``broken``: nothing can be written; ``unreadable``: nothing can be read."""

    def __init__(self) -> None:
        self.nodes: dict[str, bytes] = {}
        self.broken = self.unreadable = False

    def xenstore_read(self, path: str) -> Optional[bytes]:
        if self.unreadable:
            raise HypervisorError("xenstore does not answer", op="xs_read", errno=5)
        return self.nodes.get(path)

    def xenstore_write(self, path: str, value: bytes) -> None:
        if self.broken:
            raise HypervisorError("xenstore is full", op="xs_write", errno=28)
        self.nodes[path] = value


class Strict:
    """A QEMU that ends where QEMU does, and does nothing any more then.

    ``silent``: it does what it is told, and closes the connection without an answer; ``shuts``: it lets nobody in.
    """

    def __init__(self, path: Path, version: tuple[int, int]) -> None:
        self._version, self.dead, self.silent, self.shuts = version, False, False, False
        self.told: list[bool] = []
        self.fake = FakeQemu(path, self._reply, version=version)

    def _reply(self, name: str, arguments: dict[str, Any]) -> Optional[list[bytes]]:
        if name == "qmp_capabilities" and self.shuts:
            return [b""]
        if name != "xen-set-global-dirty-log":
            return None
        on = arguments["enable"]
        self.told.append(on)
        again = on == self.fake.tracking
        if again and (self._version == ENDS_OVER_BOTH or (not on and self._version >= ENDS_OVER_BOTH)):
            self.dead = True
        if self.dead:
            return [b""]
        if self.silent:
            self.fake.tracking = on
            return [b""]
        return None


@contextmanager
def listening(path: Path, version: tuple[int, int]) -> Iterator[Strict]:
    qemu = Strict(path, version)
    try:
        yield qemu
    finally:
        qemu.fake.close()


def told(store: Store, model: DeviceModel, warnings: Optional[list[str]] = None) -> Told:
    """One save's."""
    return Told(model, lambda: False, noted(store, model, warnings))


def noted(store: Store, model: DeviceModel, warnings: Optional[list[str]] = None) -> Noted:
    return Noted(store, 7, model, ([] if warnings is None else warnings).append)


def ours(path: Path) -> Qemu:
    return Qemu(7, str(path), 5.0)
