"""The examples of docs/stub.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs/stub.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(hv: Any, number: int) -> None:
    exec(compile(EXAMPLES[number], f"{PAGE.name} example {number}", "exec"), {})


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3
