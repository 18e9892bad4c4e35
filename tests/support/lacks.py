"""What a run of the tests may not lack: where ``TESTS_LACK_NOTHING`` is set, as .ci/run does, a test that was skipped
because a program or a package is missing is a failure of the run. A judge that is not there judges nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

VARIABLE = "TESTS_LACK_NOTHING"
MISSING = re.compile(r"not installed|could not import|was not built here|(apt-get|pip) install|libxen-dev")
ALLOWED = re.compile(r"\bvolatility3\b")
"""Its test names the Python of a venv of its own, which has it."""
HEADERS = re.compile(r"libxen-dev|Xen's public headers|\b_xen\b")
INSTALLED_HEADERS = "/usr/include/xenctrl.h"


def lacking(reasons: Iterable[str]) -> list[str]:
    """Those of the reasons for which tests were skipped that must not be, sorted, each once; empty unless asked for."""
    if not os.environ.get(VARIABLE):
        return []
    have_headers = os.path.exists(INSTALLED_HEADERS)
    return sorted({
        reason
        for reason in reasons
        if MISSING.search(reason) and not ALLOWED.search(reason) and (have_headers or not HEADERS.search(reason))
    })
