"""Fifty rounds; ``python -m soak`` makes 500."""

from __future__ import annotations

import pytest

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from soak.__main__ import problems, sample, soak


@pytest.mark.timeout(600)
def test_fifty_rounds_leave_nothing() -> None:
    samples = soak(50, show=False)
    assert len(samples) == 10
    assert problems(samples) == []


def test_growth_is_seen() -> None:
    """Else the test above could not fail."""
    with pyxcsr.open_hypervisor("stub") as hv:
        assert isinstance(hv, StubBackend)
        now = sample(1, hv)
    more = [now] * 9
    grown = [now._replace(resident=now.resident + (2 << 20)), now._replace(descriptors=now.descriptors + 1),
             now._replace(maps=now.maps + 1), now._replace(usage={"mappings": 1})]  # fmt: skip
    assert [len(problems([*more, x])) for x in grown] == [1, 1, 1, 1]
    assert problems([*more, now]) == []
