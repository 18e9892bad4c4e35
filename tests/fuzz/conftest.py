"""What the tests of fuzzing share."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest

import pyxcsr
from fuzz.targets import Targets
from pyxcsr.hypervisor.open import StubBackend


@pytest.fixture
def targets() -> Any:
    """All that reads a stream, on a machine that is gone after the test."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel does not tell the peak of resident memory")
    gc.collect()  # what earlier tests left is not to go while memory is measured
    made = Targets()
    yield made
    made._hv.close()
    with pyxcsr.open_hypervisor("stub") as hv:
        assert isinstance(hv, StubBackend)
        hv.stub.reset(force=True)
