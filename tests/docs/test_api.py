"""docs/api.md names what there is."""

from __future__ import annotations

from pathlib import Path

import pyxcsr

ROOT = Path(__file__).parents[2]


def test_every_exception_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()
    for name in pyxcsr.__all__:
        value = getattr(pyxcsr, name)
        if isinstance(value, type) and issubclass(value, Exception) and name != "XcsrError":
            assert f"`{name}`" in text, f"{name} is not in docs/api.md"
