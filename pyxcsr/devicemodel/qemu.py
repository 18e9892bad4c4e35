"""A guest's QEMU, spoken to by ourselves."""

from __future__ import annotations

import os
import tempfile
from typing import Optional

from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.place import instance_at, socket_path
from pyxcsr.devicemodel.qmp import SECONDS, Qmp
from pyxcsr.errors import DeviceModelError

MAX_STATE = 1 << 30
"""The most bytes that a device model's state may have: its video memory is the largest part of it."""


class Qemu(DeviceModel):
    """The QEMU of one guest. Each command is a connection of its own, so that libxl can have the socket in between."""

    def __init__(self, domid: int, path: Optional[str] = None, seconds: float = SECONDS) -> None:
        self._domid, self._path, self._seconds = domid, path or socket_path(domid), seconds

    def check(self) -> None:
        """Raises DeviceModelError unless QEMU answers."""
        with self._open():
            pass

    def track(self, on: bool) -> None:
        with self._open() as qmp:
            qmp.command("xen-set-global-dirty-log", enable=on)

    def instance(self) -> Optional[str]:
        return instance_at(self._path)

    def version(self) -> Optional[tuple[int, int]]:
        with self._open() as qmp:
            return qmp.version

    def stop(self) -> None:
        """Devices hold still: the guest is suspended, and its state is to be taken. Raises DeviceModelError."""
        with self._open() as qmp:
            qmp.command("stop")

    def go_on(self) -> None:
        """Devices go on. Raises DeviceModelError."""
        with self._open() as qmp:
            qmp.command("cont")

    def save_state(self, path: str) -> None:
        """Writes the state of all devices into a new file. QEMU must have been stopped. Raises DeviceModelError."""
        with self._open() as qmp:
            qmp.command("xen-save-devices-state", filename=path, live=False)
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise DeviceModelError(
                f"domain {self._domid} has a device model that has not written its state to {path}: {error}",
                domid=self._domid,
                op="xen-save-devices-state",
                path=path,
            ) from error
        if not 0 < size <= MAX_STATE:
            raise DeviceModelError(
                f"domain {self._domid} has a device model whose state has {size} bytes",
                domid=self._domid,
                op="xen-save-devices-state",
                path=path,
            )

    def state(self) -> bytes:
        """The state of all devices. QEMU must have been stopped. Raises DeviceModelError, OSError."""
        with tempfile.TemporaryDirectory(prefix="pyxcsr-qemu-") as folder:  # 0700: a device may hold secrets
            path = os.path.join(folder, "state")
            self.save_state(path)
            with open(path, "rb") as file:
                return file.read()

    def _open(self) -> Qmp:
        return Qmp(self._domid, self._path, self._seconds)
