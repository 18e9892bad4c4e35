"""Runs the real helper program on a fake core: pyxcsr.save and open_hypervisor are replaced.

FAKE_SAVE names what the fake save() does; what it was asked for, and whether it came to its cleanup, is
written to the file FAKE_RECORD as JSON. For what only the protocol is about: the real core has its own tests.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyxcsr import errors
from pyxcsr.helper.main import main

STREAM = bytes(range(256)) * 4096
ERRORS = {
    "not-supported": errors.NotSupported("domain 7 is HVM: not yet supported", domid=7),
    "eacces": errors.VersionMismatch("libxenctrl is of another release", op="domctl", errno=errno.EACCES),
    "no-log-dirty": errors.LogDirtyUnsupported("no shadow paging", op="shadow", errno=errno.EOPNOTSUPP),
    "p2m": errors.P2mChanged("p2m generation count changed", before=0, after=2),
    "output": errors.OutputError("stream: no space", errno=errno.ENOSPC, offset=4096),
    "dying": errors.DomainDying("domain 7 is dying", domid=7),
    "plain": errors.XcsrError("something"),
    "long": errors.XcsrError("é" * 70000),
    "lines": errors.XcsrError("one\ntwo\0three"),
    "memory": MemoryError(),
    "bug": KeyError("pfn"),
    "exit": SystemExit(0),
    "interrupt": KeyboardInterrupt(),
}
record: dict[str, Any] = {}


def progress_of(phase: str, iteration: int, done: int, total: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(phase=phase, iteration=iteration, pages_done=done, pages_total=total)


def cancelled_while_stalled(out: int, cancel: Any) -> None:
    """Writes until the pipe is full, then waits as the real core does."""
    os.set_blocking(out, False)
    while True:
        if cancel():
            raise errors.Cancelled("cancelled")
        _, ready, _ = select.select([], [out], [], 0.05)
        if ready:
            try:
                os.write(out, STREAM)
            except BrokenPipeError as error:
                raise errors.OutputError("stream: broken pipe", errno=errno.EPIPE, offset=0) from error


def stray_output() -> None:
    print("stray print")
    sys.stdout.flush()
    os.write(1, b"stray write\n")
    sys.__stdout__.write("stray sys.__stdout__\n")
    os.system("echo stray child")
    assert os.read(0, 1) == b""


def fake_save(_hv: Any, domid: int, out: int, *, live: bool, policy: Any, suspend: Any, progress: Any,
              cancel: Any) -> types.SimpleNamespace:
    record.update(domid=domid, live=live, iterations=policy.max_iterations, dirty=policy.target_dirty,
                  has_resume=hasattr(suspend, "resume"))
    what = os.environ.get("FAKE_SAVE", "good")
    try:
        if what in ERRORS:
            raise ERRORS[what]
        if what == "stall":
            cancelled_while_stalled(out, cancel)
        if what == "idle":
            progress(progress_of("pass", 0, 0, 100))
            while not cancel():
                time.sleep(0.01)
            raise errors.Cancelled("cancelled")
        if what == "stray":
            stray_output()
        progress(progress_of("setup", 0, 0, 0))
        if what == "chatty":
            end = time.monotonic() + 0.55
            done = 0
            while time.monotonic() < end:
                progress(progress_of("pass", 0, done, 10**9))
                done += 1
            record["reports"] = done
        for iteration in range(2):
            progress(progress_of("pass", iteration, 0, 256))
            os.write(out, STREAM[: len(STREAM) // 4])
            progress(progress_of("pass", iteration, 256, 256))
        progress(progress_of("suspend", 2, 0, 0))
        suspend()
        if cancel():
            raise errors.Cancelled("cancelled")
        progress(progress_of("final", 2, 256, 256))
        os.write(out, STREAM[len(STREAM) // 2 :])
        progress(progress_of("done", 2, 256, 256))
    finally:
        record["cleaned_up"] = True
    return types.SimpleNamespace(domid=domid, passes=[1, 2, 3], pages=768, bytes=len(STREAM), seconds=1.5,
                                 seconds_paused=0.25)


@contextlib.contextmanager
def fake_open_hypervisor(backend: str) -> Iterator[object]:
    record["backend"] = backend
    if os.environ.get("FAKE_SAVE") == "no-backend":
        raise errors.BackendUnavailable("no Xen here", backend=backend)
    yield object()
    record["hypervisor_closed"] = True


def replace(name: str, **members: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


if __name__ == "__main__":
    replace("pyxcsr.saver", save=fake_save)
    replace("pyxcsr.hypervisor.open", open_hypervisor=fake_open_hypervisor)
    status = main()
    record["core_was_loaded"] = "backend" in record
    Path(os.environ["FAKE_RECORD"]).write_text(json.dumps(record))
    sys.exit(status)
