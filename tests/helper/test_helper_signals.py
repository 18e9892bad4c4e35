"""SIGINT and SIGTERM at random moments of the save helper, at work for a libxl; with PYXCSR_ALL=1 at 200."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest
from test_helper_stub import on_stub, problems_of

MOMENTS = 200 if os.environ.get("PYXCSR_ALL") == "1" else 4
WHOLE = 0.9
"""Seconds, about, from the first message to the end of this save."""


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_signal_at_a_random_moment(tmp_path: Path, moment: int) -> None:
    """Libxl is told the truth, the stream is complete only if it was told so, and the program ends well."""
    rng = random.Random(moment)
    with on_stub(tmp_path, "pv64:mem=32M,writer=thread", xcflags=rng.randrange(2)) as libxl:
        libxl.next_named("log")
        time.sleep(rng.uniform(0, WHOLE))
        libxl.process.send_signal(rng.choice((signal.SIGINT, signal.SIGTERM)))
        assert libxl.serve() == 0
        complete = problems_of(tmp_path, bytes(libxl.stream)) == []
        assert libxl.completed == ((0, 0) if complete else (-1, errno.ECANCELED))
        assert libxl.stderr == ""
