"""A QEMU at a socket that is the device model of a guest of the stub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from devicemodel.fake_qemu import VERSION, FakeQemu, Reply
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError


def obeying(guest: StubDomain, before: Optional[Reply] = None) -> Reply:
    """Does on the stub what QEMU is told, unless ``before`` has an answer of its own."""

    def reply(name: str, arguments: dict[str, Any]) -> Optional[list[bytes]]:
        answer = before(name, arguments) if before else None
        if answer is not None:
            return answer
        try:
            if name == "xen-set-global-dirty-log":
                guest.devmodel_logdirty(arguments["enable"])
            elif name in ("stop", "cont"):
                guest.devmodel_run(name == "cont")
        except StubError as error:  # the guest is gone
            return [json.dumps({"error": {"desc": str(error)}}).encode() + b"\n"]
        return None

    return reply


@contextmanager
def qemu_of(
    guest: StubDomain, path: Path, before: Optional[Reply] = None, version: tuple[int, int] = VERSION
) -> Iterator[FakeQemu]:
    """Listens at ``path`` within the context."""
    qemu = FakeQemu(path, obeying(guest, before), version=version)
    try:
        yield qemu
    finally:
        qemu.close()
