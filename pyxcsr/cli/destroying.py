"""What `pyxcsr save --then destroy` does with the guest: by xl, which also removes its devices and xenstore nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Optional

from pyxcsr.cli import say
from pyxcsr.cli.outcome import condition_told
from pyxcsr.errors import DomainNotFound, SuspendError, UsageError, XcsrError, note
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.programs import FOLDERS

PATIENCE, AT_MOST = 10.0, 1800.0
"""Seconds for xl: until it is said that it is waited for, and in all.

It may wait for a script of a device or for another xl, and Xen takes its time to free a large guest's memory.
"""

POLL = 0.02


def destroyer(hv: Backend, domid: int, cancel: Callable[[], bool]) -> Callable[[], None]:
    """What is to be called to destroy a guest once its stream is safe. Looked for before the guest is saved.

    ``cancel``: whether xl is no longer to be waited for. Raises UsageError if libxl has made the guest, and there is no
    xl: Xen alone would leave its devices, the locks of its disks and its QEMU. Raises HypervisorError.
    """
    return partial(_destroyed, hv, domid, _how(hv, domid, cancel))


def _how(hv: Backend, domid: int, cancel: Callable[[], bool]) -> Callable[[], None]:
    if hv.backend != "xen":
        return partial(hv.domain_destroy, domid)
    xl = shutil.which("xl", path=f"{os.environ.get('PATH', os.defpath)}:{FOLDERS}")
    if xl is not None:
        return partial(_by_xl, xl, domid, cancel)
    if hv.xenstore_read(f"/libxl/{domid}/type") is not None:
        raise UsageError(
            f"--then destroy: domain {domid} was made by libxl, and there is no xl that could remove its devices, too. "
            "Put xl into PATH, or use --then pause"
        )
    return partial(hv.domain_destroy, domid)


def _destroyed(hv: Backend, domid: int, destroy: Callable[[], None]) -> None:
    """Destroys the guest if it is still as it was saved. Raises XcsrError, which says what has become of it."""
    try:
        now = hv.domain_info(domid)
        if not now.suspended:
            raise SuspendError(
                f"domain {domid} was not destroyed: it is not as it was saved, but {now.condition}. What it has done "
                "since it was saved is not in the stream",
                domid=domid,
            )
        destroy()
    except Exception as error:
        note(error, f"the stream is complete; {_state(hv, domid, error)}")
        raise


class _StillAtIt(XcsrError):
    """xl has not ended yet."""


def _state(hv: Backend, domid: int, error: Exception) -> str:
    condition = None if isinstance(error, DomainNotFound) else condition_told(hv, domid)
    if condition is None:
        return f"it is not known what has become of domain {domid}"
    if isinstance(error, _StillAtIt):  # it may be destroyed in the very next moment
        return f"domain {domid} must not go on before xl has ended, since it would be destroyed with all that it did"
    if condition == "suspended":
        return f"domain {domid} stays suspended: `xl destroy {domid}`, or let it go on with `pyxcsr recover {domid}`"
    return f"domain {domid} is {condition}"


def _by_xl(xl: str, domid: int, cancel: Callable[[], bool]) -> None:
    """In a session of its own: Ctrl-C does not end it half way, but only the wait for it. Raises XcsrError."""
    words = [xl, "destroy", str(domid)]
    with os.fdopen(os.memfd_create("xl"), "rb") as said:  # no pipe: xl may go on when nobody waits for it any more
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        except OSError as error:
            raise XcsrError(f"{xl} cannot be started: {error.strerror}", domid=domid) from error
        status = _ended(process, domid, cancel)
        if status is None:
            raise _StillAtIt(
                f"`xl destroy {domid}` has not ended yet, and goes on (process {process.pid})", domid=domid
            )
        if status:
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
            raise XcsrError(f"xl could not destroy domain {domid} (status {status}): {text}", domid=domid)


def _ended(process: subprocess.Popen[bytes], domid: int, cancel: Callable[[], bool]) -> Optional[int]:
    """Its status; None: it still runs when it is no longer to be waited for.

    A signal that came before, too late to keep the guest from being destroyed, does not end the wait.
    """
    began, heard, told = time.monotonic(), cancel(), False
    while process.poll() is None and (heard or not cancel()):
        waited = time.monotonic() - began
        if waited >= AT_MOST:
            break
        if waited >= PATIENCE and not told:
            say.note(f"the stream is complete; `xl destroy {domid}` (process {process.pid}) is waited for")
            told = True
        time.sleep(POLL)
    return process.poll()
