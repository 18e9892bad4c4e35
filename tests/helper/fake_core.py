"""Runs the real helper program on a fake core: save, restore and open_hypervisor are replaced.

FAKE_SAVE names what the fake save() or restore() does, FAKE_HVM makes the domain an HVM one of that type,
FAKE_SUSPENDED a suspended one; what the core was asked for, and whether it came to its cleanup, is written to the file
FAKE_RECORD as JSON. For what only the protocol is about: the real core has its own tests.
"""

from __future__ import annotations

import errno
import json
import os
import select
import sys
import time
import types
from pathlib import Path
from typing import Any

from pyxcsr import errors
from pyxcsr.helper.main import main
from pyxcsr.suspend.base import Suspend

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


def fake_save(_hv: Any, domid: int, out: int, *, live: bool, verify: bool, policy: Any, limits: Any, suspend: Any,
              progress: Any, cancel: Any, complete: Any, p2m_changes: str, device_model: Any,
              control: Any, checkpointed: Any) -> types.SimpleNamespace:
    record.update(domid=domid, live=live, verify=verify, policy=policy, limits=repr(limits),
                  has_resume=type(suspend).resume is not Suspend.resume, p2m_changes=p2m_changes)
    what = os.environ.get("FAKE_SAVE", "good")
    try:
        if what in ERRORS:
            raise ERRORS[what]
        if device_model is not None and "FAKE_HVM" in os.environ:
            device_model.track(True)
            device_model.track(False)
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
        report = types.SimpleNamespace(domid=domid, passes=[1, 2, 3], target_reached=None, downtime_kept=None,
                                       stopped="", pages=768, bytes=len(STREAM), seconds=1.5,
                                       seconds_paused=0.25, warnings=os.environ.get("FAKE_WARNINGS", "").split(),
                                       p2m=types.SimpleNamespace(follows=0, resent=0))
        complete(report)
        progress(progress_of("done", 2, 256, 256))
    finally:
        record["cleaned_up"] = True
    return report


STORE_GFN, CONSOLE_GFN = 0x123456789, 0xFFFFFFFFFFFF


def take(fd: int, size: int, cancel: Any) -> bytes:
    """Reads as the real core does: never waiting long, asking cancel in between."""
    data = b""
    while len(data) < size:
        if cancel():
            raise errors.Cancelled("cancelled")
        if not select.select([fd], [], [], 0.05)[0]:
            continue
        piece = os.read(fd, size - len(data))
        if not piece:
            raise errors.StreamTruncated("the stream ends", offset=len(data), record=None)
        data += piece
    return data


def fake_restore(
    _hv: Any, domid: int, in_: int, *, store_evtchn: int, store_domid: int, console_evtchn: int,
    console_domid: int, static_data_done: Any, progress: Any, cancel: Any, checkpointed: bool, checkpoint: Any,
) -> types.SimpleNamespace:
    record.update(domid=domid, rings=[store_evtchn, store_domid, console_evtchn, console_domid])
    what = os.environ.get("FAKE_SAVE", "good")
    try:
        if what in ERRORS:
            raise ERRORS[what]
        if what == "stray":
            stray_output()
        progress(progress_of("pass", 0, 0, 0))
        static_data_done(int(os.environ.get("FAKE_MISSING", "0")))
        if what == "chatty":
            end = time.monotonic() + 0.55
            done = 0
            while time.monotonic() < end:
                done += 1
                progress(progress_of("pass", 0, done, 0))
        data = take(in_, len(STREAM), cancel)
        if data != STREAM:
            raise errors.StreamError("not what was fed", offset=0, record=None)
        progress(progress_of("tail", 0, 256, 0))
        progress(progress_of("done", 0, 256, 0))
    finally:
        record["cleaned_up"] = True
    return types.SimpleNamespace(domid=domid, version=3, pages=256, nr_vcpus=4, bytes=len(STREAM), seconds=1.5,
                                 store_gfn=STORE_GFN, console_gfn=CONSOLE_GFN, checkpoints=0, failed_over="",
                                 warnings=os.environ.get("FAKE_WARNINGS", "").split())


class FakeHypervisor:
    """Open until closed."""

    def __init__(self, backend: str) -> None:
        record["backend"] = self.backend = backend
        if os.environ.get("FAKE_SAVE") == "no-backend":
            raise errors.BackendUnavailable("no Xen here", backend=backend)

    def __enter__(self) -> FakeHypervisor:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self.close()

    def close(self) -> None:
        record["hypervisor_closed"] = True

    def xenstore_read(self, path: str) -> bytes:
        assert path == "/libxl/7/type"
        return os.environ["FAKE_HVM"].encode()

    def domain_info(self, domid: int) -> types.SimpleNamespace:
        if os.environ.get("FAKE_SAVE") == "no-domain":
            raise errors.DomainNotFound("no such domain", op="xc_domain_getinfolist", errno=errno.ESRCH)
        suspended = "FAKE_SUSPENDED" in os.environ
        return types.SimpleNamespace(domid=domid, hvm="FAKE_HVM" in os.environ, max_pages=1000, suspended=suspended)


def replace(name: str, **members: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def leave(status: int) -> None:
    """Where the program would end its process, libxl knowing the result."""
    record["left"] = [status, "cleaned up" if "cleaned_up" in record else "mapped still"]


if __name__ == "__main__":
    replace("pyxcsr.transfer.save", save=fake_save)
    replace("pyxcsr.transfer.restore", restore=fake_restore)
    replace("pyxcsr.hypervisor.open", open_hypervisor=FakeHypervisor)
    status = main(leave=leave)
    record["core_was_loaded"] = "backend" in record
    Path(os.environ["FAKE_RECORD"]).write_text(json.dumps(record))
    sys.exit(status)
