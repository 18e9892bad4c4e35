"""Runs the real helper program on the stub, and writes how it leaves the guest into the file FAKE_RECORD, as JSON.

WATCHED_FAIL, as in xc_hvm_param_get:3:22, has the third call of a function fail with that errno; several with commas.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pyxcsr.helper.main import main
from pyxcsr.hypervisor import open as opening

hypervisors: list[Any] = []
open_hypervisor = opening.open_hypervisor


def opened(backend: str) -> Any:
    """The stub, remembered."""
    hypervisors.append(open_hypervisor(backend))
    if "WATCHED_FAIL" in os.environ:
        for each in os.environ["WATCHED_FAIL"].split(","):
            function, nth, errno = each.split(":")
            hypervisors[0].stub.fail(function, int(nth), int(errno))
    return hypervisors[0]


def look(status: int) -> None:
    """Where the program would end its process, libxl knowing the result."""
    stub = hypervisors[0].stub
    state = stub.guest(stub.domains[-1]).state()
    names = ("running", "shutdown_reason", "logdirty", "devmodel_logdirty")
    Path(os.environ["FAKE_RECORD"]).write_text(json.dumps({name: getattr(state, name) for name in names}))


if __name__ == "__main__":
    opening.open_hypervisor = opened  # type: ignore[assignment]
    sys.exit(main(leave=look))
