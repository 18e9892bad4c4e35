"""docs/api.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pyxcsr

ROOT = Path(__file__).parents[2]


def test_every_exception_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()
    for name in pyxcsr.__all__:
        value = getattr(pyxcsr, name)
        if isinstance(value, type) and issubclass(value, Exception) and name != "XcsrError":
            assert f"`{name}`" in text, f"{name} is not in docs/api.md"


def test_the_reference_has_each_name() -> None:
    """docs/python.md, "name by name", as what each of them is, in the order of the alphabet."""
    listed = re.findall(r"^\.\. auto(\w+):: pyxcsr\.(\w+)$", (ROOT / "docs/python.md").read_text(), re.MULTILINE)
    assert [name for _, name in listed] == sorted(set(pyxcsr.__all__) - {"__version__"})
    for kind, name in listed:
        value = getattr(pyxcsr, name)
        is_class, is_error = isinstance(value, type), isinstance(value, type) and issubclass(value, Exception)
        assert is_class == (kind in ("class", "exception")) and is_error == (kind == "exception"), name
