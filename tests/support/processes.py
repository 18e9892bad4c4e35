"""A /proc made of files, on whose host other programs save guests, too."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from pyxcsr.transfer import savers

LIBXL = "/usr/lib/xen-4.17/bin/libxl-save-helper"
PRIVCMD = "/dev/xen/privcmd"


class Processes:
    """Those of a host, in the folder ``proc``."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc

    def start(self, pid: int, *words: str, comm: str = "", parent: int = 1, opens: str = "") -> None:
        """``opens``: what it has open; "": that cannot be seen."""
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        name = (comm or os.path.basename(words[0]))[:15]
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(x) + b"\0" for x in words))
        (folder / "comm").write_text(name + "\n")
        (folder / "stat").write_text(f"{pid} ({name}) S {parent} 1")
        if opens:
            (folder / "fd").mkdir(exist_ok=True)
            (folder / "fd" / "3").symlink_to(opens)

    def helper(self, pid: int, domid: int, live: bool = True, opens: str = "") -> None:
        """Xen's own, at work."""
        self.start(pid, LIBXL, "--save-domain", "12", "-1", str(domid), str(int(live)), "136", "0", opens=opens)


def only_processes(proc: Path, patch: pytest.MonkeyPatch) -> Processes:
    """From now on whoever looks for saves sees these, of which there is one."""
    found = Processes(proc)
    proc.mkdir()
    found.start(1, "/sbin/init")
    patch.setattr(savers, "Savers", partial(savers.Savers, proc=str(proc)))
    return found
