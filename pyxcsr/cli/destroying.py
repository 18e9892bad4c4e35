"""What `pyxcsr save --then destroy` does with the guest: by xl, which also removes its devices and xenstore nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial

from pyxcsr.errors import UsageError, XcsrError
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.programs import FOLDERS


def destroyer(hv: Backend, domid: int) -> Callable[[], None]:
    """What is to be called to destroy a guest. Looked for before the guest is saved.

    Raises UsageError if libxl has made the guest, and there is no xl: Xen alone would leave its devices, the locks of
    its disks and its QEMU. Raises HypervisorError.
    """
    if hv.backend != "xen":
        return partial(hv.domain_destroy, domid)
    xl = shutil.which("xl", path=f"{os.environ.get('PATH', os.defpath)}:{FOLDERS}")
    if xl is not None:
        return partial(_by_xl, xl, domid)
    if hv.xenstore_read(f"/libxl/{domid}/type") is not None:
        raise UsageError(
            f"--then destroy: domain {domid} was made by libxl, and there is no xl that could remove its devices, too. "
            "Put xl into PATH, or use --then pause"
        )
    return partial(hv.domain_destroy, domid)


def _by_xl(xl: str, domid: int) -> None:
    """In a session of its own: Ctrl-C does not end it half way. Raises XcsrError."""
    words = [xl, "destroy", str(domid)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, start_new_session=True)
    if done.returncode:
        raise XcsrError(
            f"the stream is complete, but xl could not destroy domain {domid}, which stays suspended: "
            f"{done.stderr.strip()}",
            domid=domid,
        )
