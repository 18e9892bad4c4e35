"""The model's counterexamples as guests of the stub: saved right as the code is, and wrong without the rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model import guests
from pyxcsr.guest.hvm import following
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend

ALL: list[Callable[[StubBackend, Path], list[str]]] = [
    guests.moves_before_its_batch,
    guests.goes_and_is_back_before_its_batch,
    guests.goes_and_is_back_a_bitmap_later,
]


@pytest.fixture(autouse=True)
def _looks_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens when is told by the calls, and not by the clock."""
    monkeypatch.setattr(saving, "BATCHES_US", 0)
    monkeypatch.setattr(following, "REST", 0)


@pytest.mark.parametrize("guest", ALL, ids=lambda x: x.__name__)
def test_saved_right(hv: StubBackend, tmp_path: Path, guest: Callable[[StubBackend, Path], list[str]]) -> None:
    assert guest(hv, tmp_path / "s") == []
