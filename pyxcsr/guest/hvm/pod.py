"""Populate on demand: a guest that was started with less memory than its maximum, and has not given the rest back yet.

To ask for the type of such a gfn, or to map it, has Xen find a page for it. When there is none left the guest is
crashed. So a guest is saved once it has no such gfns any more, which its balloon driver sees to soon after it has
booted.
"""

from __future__ import annotations

import time

from pyxcsr.errors import NotSupported
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyxcsr.hypervisor.interface import Hypervisor

SECONDS = 30.0
"""How long the balloon driver is given to finish."""
_POLL = 0.1


def wait_until_populated(hv: Hypervisor, domid: int, poll: Callable[[], None]) -> None:
    """Returns once the guest has no gfns that are populated on demand. Raises NotSupported after SECONDS.

    ``poll`` is called while this waits; it may raise.
    """
    until = time.monotonic() + SECONDS
    while True:
        pod = hv.pod_target(domid)
        if not pod.entries:
            return
        if time.monotonic() >= until:
            break
        poll()
        time.sleep(_POLL)
    mib = (1 << 20) // PAGE_SIZE
    raise NotSupported(
        f"domain {domid} has {pod.entries} pages ({pod.entries // mib} MiB) that are populated on demand, and "
        f"{pod.cache_pages} pages to do it with: to save it would use these up and crash it. Its balloon driver has "
        f"to give the difference to its maximum back first: wait until it has booted, load the driver, or set the "
        f"memory to the maximum (`xl mem-set`)",
        domid=domid,
        pod_entries=pod.entries,
        pod_cache_pages=pod.cache_pages,
        tot_pages=pod.tot_pages,
    )
