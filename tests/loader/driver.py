"""One process in which the loader works with a fake of Xen's libraries.

``python -m loader.driver FOLDER MINOR GUEST HOW OUT``: HOW is "live" or "paused". Prints what the loader has loaded, as
JSON. With FOLDER "-" the stub backend itself does the same, for comparison.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

ENDLESS_US = 10**9
"""For how long batches follow each other in C: for as long as there are any."""

TICK = 1e-5
"""Seconds by which this process's clock has gone on whenever somebody looks at it."""

TRIED = 16
"""Pages that a rehearsal of the end is to try. How many it would by itself goes by rates, and so by the clock."""


def tell_the_time_by_looks() -> None:
    """What Python measures is the same each time, however busy the machine is."""
    looks = count(1)
    time.monotonic = lambda: TICK * next(looks)


def try_pages() -> list[int]:
    """How many pages each rehearsal of the end has tried, from now on."""
    from pyxcsr.transfer.outlook import Outlook

    told: list[int] = []
    tried = Outlook.tried

    def noted(one: Outlook, pages: int, seconds: float) -> None:
        told.append(pages)
        tried(one, pages, seconds)

    Outlook.pages_to_try = lambda *_: TRIED  # type: ignore[method-assign]
    Outlook.tried = noted  # type: ignore[method-assign]
    return told


def take_module(folder: Path, library: Path) -> None:
    """Makes build.py's module the one that pyxcsr takes for its stub. It finds the stub in the fake."""
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    spec = importlib.util.spec_from_file_location("pyxcsr._stub", folder / "_stub.abi3.so")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyxcsr._stub"] = module
    spec.loader.exec_module(module)


def how_hvm_suspends(hv: Any, guest: Any, domid: int) -> dict[str, Any]:
    from support.hvm_guests import ToldDeviceModel, suspend_hvm

    return {"suspend": suspend_hvm(hv, domid), "device_model": ToldDeviceModel(guest)}


def save(folder: str, minor: str, text: str, how: str, out: str) -> dict[str, Any]:
    """Saves a guest made on the stub, by the loader or by the stub backend."""
    if folder != "-":
        library = Path(folder, minor, f"libxenctrl.so.4.{minor}")
        take_module(Path(folder), library)
        os.environ["PYXCSR_LIBXENCTRL"] = str(library)
    tell_the_time_by_looks()
    import pyxcsr
    from pyxcsr.hypervisor import loading, saving
    from pyxcsr.hypervisor.backend import Backend
    from pyxcsr.suspend.xenstore import XenstoreSuspend

    stub = pyxcsr.open_hypervisor("stub")
    domid = stub.stub.create(pyxcsr.StubGuest.parse(text))
    guest = stub.stub.guest(domid)
    # the guest runs a little at each call, so that both sides open a second handle here
    hv = Backend(sys.modules["pyxcsr._stub"], "xen") if folder == "-" else pyxcsr.open_hypervisor("xen")
    words: dict[str, Any] = {"suspend": XenstoreSuspend(hv, domid, timeout=60.0)}
    if guest.state().hvm:
        words = how_hvm_suspends(stub, guest, domid)
    # one thread, and nothing that goes by the time: the same calls each time. No lock: the domain's number is that of
    # every other driver's, which may be at work beside this one
    saving.BATCHES_US = ENDLESS_US
    tried = try_pages()
    control = pyxcsr.Control("none")
    words.update(live=how == "live", policy="libxc", map_ahead=False, control=control)
    with open(out, "wb") as stream:
        report = pyxcsr.save(hv, domid, stream, **words)
    listed = [x.domid for x in hv.domains()]
    loaded = {} if folder == "-" else loading.loaded(sys.modules["pyxcsr._loader"])
    calls = stub.stub.calls()
    hv.close()
    stub.stub.destroy(domid)
    leaks = stub.stub.leaks()
    stub.close()
    return {"loaded": loaded, "pages": report.pages, "tried": tried, "domains": listed, "leaks": leaks, "calls": calls}


if __name__ == "__main__":
    json.dump(save(*sys.argv[1:6]), sys.stdout, default=str)
