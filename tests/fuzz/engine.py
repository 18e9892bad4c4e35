"""Coverage-guided mutation without any package: inputs that reach lines of pyxcsr never reached before are kept.

With atheris installed, atheris_engine.py does the same with libFuzzer's coverage of edges and comparisons.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Optional

import pyxcsr
from fuzz.mutate import Mutator

ROOT = str(Path(pyxcsr.__file__).parent)


class Coverage:
    """Collects the lines of pyxcsr that are executed within ``with``."""

    def __init__(self) -> None:
        self.lines: set[tuple[Any, int]] = set()
        self._before: Any = None

    def __enter__(self) -> Coverage:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)  # whoever measures the tests goes on

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Optional[Callable[..., Any]]:
        return self._line if frame.f_code.co_filename.startswith(ROOT) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        self.lines.add((frame.f_code, frame.f_lineno))
        return self._line


@dataclass
class Outcome:
    """Of a run."""

    executions: int = 0
    lines: int = 0
    corpus: list[bytes] = field(default_factory=list)
    findings: list[tuple[str, bytes]] = field(default_factory=list)


def fuzz(target: Callable[[bytes], None], seeds: list[bytes], seconds: float, seed: int, most: int = 0) -> Outcome:
    """Runs for so long, or so many executions (``most``), whichever is over first."""
    rng, coverage, out = random.Random(seed), Coverage(), Outcome()
    mutator, deadline = Mutator(rng), time.monotonic() + seconds
    for data in seeds:
        one(target, data, coverage, out)
    while time.monotonic() < deadline and not (most and out.executions >= most):
        recent = out.corpus[-8:] if rng.random() < 0.5 else out.corpus
        one(target, mutator(rng.choice(recent), out.corpus), coverage, out)
    out.lines = len(coverage.lines)
    return out


def one(target: Callable[[bytes], None], data: bytes, coverage: Coverage | None, out: Outcome) -> None:
    """Runs ``target`` once. Without ``coverage``, which takes most of the time, the input is never kept."""
    before = len(coverage.lines) if coverage is not None else 0
    try:
        if coverage is None:
            target(data)
        else:
            with coverage:
                target(data)
    except Exception as error:  # a finding, whatever it is
        out.findings.append((f"{type(error).__name__}: {error}", data))
    out.executions += 1
    if coverage is not None and len(coverage.lines) > before:
        out.corpus.append(data)
