"""This host: the hypervisor, its libraries, its devices. Everything is only read."""

from __future__ import annotations

import importlib.util
import os
import platform
from typing import Optional

import pyxcsr
from pyxcsr.doctor.found import Finding
from pyxcsr.errors import XcsrError
from pyxcsr.hypervisor import loading
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.hypervisor.names import BackendName
from pyxcsr.hypervisor.open import open_hypervisor, passed_over
from pyxcsr.hypervisor.scheduling import WITH_CAPS

MODULES = ("xen", "loader", "stub")
DEVICES = ("/dev/xen/privcmd", "/dev/xen/hypercall")
MAPS = "/proc/self/maps"


class Host:
    """What was found, and what the judgement needs of it."""

    __slots__ = ("caps", "findings", "opened", "release")

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.opened = False
        """It was opened, and answers."""
        self.caps: Optional[bool] = None
        self.release: Optional[tuple[int, int]] = None

    def add(self, name: str, text: str, bad: str = "", note: bool = False) -> None:
        """``bad``: what to do about it."""
        self.findings.append(Finding(name, text, "bad" if bad else "note" if note else "ok", bad))


def look(backend: BackendName) -> Host:
    """Looks at this host. What cannot be opened is a finding, and no error."""
    host = Host()
    built = [x for x in MODULES if importlib.util.find_spec(f"pyxcsr._{x}") is not None]
    host.add("pyxcsr", f"{pyxcsr.__version__}, Python {platform.python_version()}; built with {', '.join(built)}")
    if backend == "xen":
        _modules(host)
        _running(host)
        _devices(host)
    try:
        with open_hypervisor(backend) as hv:
            host.opened = True
            _opened(host, hv)
    except XcsrError as error:
        if host.opened:
            host.add("hypervisor", str(error), "see the message")
            host.opened = False  # what needs it will not work
        else:
            host.add("libraries", "the hypervisor cannot be opened", str(error))
    return host


def _modules(host: Host) -> None:
    why = passed_over()
    if why:
        host.add("pyxcsr", f"_xen cannot be loaded here, so the loader is used: {why}", note=True)


def _running(host: Host) -> None:
    release = loading.running()
    if release:
        host.release = (release >> 16, release & 0xFFFF)
        host.add("Xen", f"{dotted(host.release)}, as Linux says in {loading.SYSFS}")
    elif os.path.exists("/proc/xen") or os.path.exists(DEVICES[0]):
        host.add("Xen", "its release is not in /sys/hypervisor (is sysfs mounted?)", note=True)
    else:
        host.add("Xen", "no Xen runs here", "boot this host by Xen; without it there is the stub: --backend stub")


def _devices(host: Host) -> None:
    for path in DEVICES:
        if not os.path.exists(path):
            host.add("devices", f"{path} is not there", "boot by Xen, and load the module xen-privcmd (modprobe)")
        elif not os.access(path, os.R_OK | os.W_OK):
            host.add("devices", f"{path} is there, but not for this user", "run as root")
        else:
            host.add("devices", f"{path} is there")


def libraries() -> list[str]:
    """The files of Xen's libraries that this process has loaded."""
    with open(MAPS, encoding="utf-8", errors="replace") as file:
        paths = {line.split(None, 5)[5].strip() for line in file if line.count(" ") >= 5 and "/" in line}
    return sorted(x for x in paths if os.path.basename(x).startswith("libxen"))


def _opened(host: Host, hv: Backend) -> None:
    files = [x for x in libraries() if "libxenctrl" in x or "libxenguest" in x]
    host.add("libraries", ", ".join(files) if files else "none: this is the stub hypervisor")
    host.release = hv.xen_version()
    domains = hv.domains()  # the first call that a hypervisor of another release refuses
    host.add("hypervisor", f"Xen {dotted(host.release)} answers; {len(domains)} domains")
    _scheduler(host, hv)
    name = hv.xenstore_read("/local/domain/0/name")
    host.add("xenstore", "answers" if name is None else f"answers; this is {name.decode(errors='replace')}")


def _scheduler(host: Host, hv: Backend) -> None:
    scheduler = hv.scheduler()
    host.caps = scheduler in WITH_CAPS
    if host.caps:
        host.add("scheduler", f"{scheduler}, which has caps: guests can be throttled")
    else:
        host.add("scheduler", f"{scheduler}, which has no caps: guests cannot be throttled", note=True)


def dotted(release: tuple[int, int]) -> str:
    """As people write it."""
    return f"{release[0]}.{release[1]}"
