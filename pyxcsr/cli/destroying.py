"""What `pyxcsr save --then destroy` does with the guest: by xl, which also removes its devices and xenstore nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Optional

from pyxcsr.cli.outcome import is_suspended
from pyxcsr.errors import DomainNotFound, SuspendError, UsageError, XcsrError, note
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.programs import FOLDERS

PATIENCE = 60.0
"""Seconds for xl, which may wait for a script of a device, or for another xl."""

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
        if not hv.domain_info(domid).suspended:
            raise SuspendError(
                f"domain {domid} was not destroyed: somebody has let it go on since it was saved, and what it has "
                "done since then is not in the stream",
                domid=domid,
            )
        destroy()
    except XcsrError as error:
        note(error, f"the stream is complete; {_state(hv, domid, error)}")
        raise


def _state(hv: Backend, domid: int, error: XcsrError) -> str:
    if isinstance(error, DomainNotFound):
        return f"there is no domain {domid} any more"
    if is_suspended(hv, domid):
        return f"domain {domid} stays suspended: `xl destroy {domid}`, or let it go on with `pyxcsr recover {domid}`"
    return f"domain {domid} is not suspended any more"


def _by_xl(xl: str, domid: int, cancel: Callable[[], bool]) -> None:
    """In a session of its own: Ctrl-C does not end it half way, but only the wait for it. Raises XcsrError."""
    with tempfile.TemporaryFile() as said:  # no pipe: xl may go on when nobody waits for it any more
        try:
            process = subprocess.Popen(
                [xl, "destroy", str(domid)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise XcsrError(f"{xl} cannot be started: {error.strerror}", domid=domid) from error
        status = _ended(process, cancel)
        if status is None:
            raise XcsrError(
                f"`xl destroy {domid}` has not ended yet. It is left to itself (process {process.pid})", domid=domid
            )
        if status:
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
            raise XcsrError(f"xl could not destroy domain {domid} (status {status}): {text}", domid=domid)


def _ended(process: subprocess.Popen[bytes], cancel: Callable[[], bool]) -> Optional[int]:
    """Its status; None: it still runs when it is no longer to be waited for.

    A signal that came before, too late to keep the guest from being destroyed, does not end the wait.
    """
    until, heard = time.monotonic() + PATIENCE, cancel()
    while process.poll() is None and time.monotonic() < until and (heard or not cancel()):
        time.sleep(POLL)
    return process.poll()
