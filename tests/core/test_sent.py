"""What was sent of a leaf's pfns, kept as runs where it can be: nobody can tell it from a list."""

from __future__ import annotations

import ctypes
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[2]
PER_LEAF = 512
NEVER, HOLE, LAST = 0, 1, 0xFFFFFFFF

WRAPPER = """
#include "sets/sent.h"
uint32_t mark(const struct sent_leaf *t, uint32_t i) { return sent_mark(t, i); }
int single(const struct sent_leaf *t) { return t->single; }
"""


class SentLeaf(ctypes.Structure):
    """struct sent_leaf, as far as it must be known here: its size."""

    _fields_ = (("words", ctypes.c_uint64 * 2),)


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sent")
    source, built = folder / "wrapper.c", folder / "sent.so"
    source.write_text(WRAPPER + '_Static_assert(sizeof(struct sent_leaf) == 16, "");\n')
    command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-Icsrc", "-Icsrc/abi"]
    subprocess.run([*command, str(source), "csrc/sets/sent.c", "-o", str(built)], check=True, cwd=TOP)
    loaded = ctypes.CDLL(str(built))
    loaded.mark.restype = ctypes.c_uint32
    return loaded


def a_run(rng: random.Random, length: int) -> list[int]:
    step = rng.choice([1, 1, -1, 0])
    first = rng.choice([NEVER, HOLE]) if step == 0 else rng.randrange(600, 1 << 31)
    return [first + i * step for i in range(length)]


def runs(rng: random.Random, nr: int) -> list[int]:
    cuts = sorted(rng.sample(range(1, PER_LEAF), nr - 1))
    return [mark for a, b in zip([0, *cuts], [*cuts, PER_LEAF]) for mark in a_run(rng, b - a)]


def shape(rng: random.Random) -> tuple[list[int], int]:
    """Marks, and of how many runs they were made."""
    nr = rng.choice([1, 1, 2, 2, 2, 3, 9])
    marks = runs(rng, nr)
    if rng.random() < 0.2:
        marks[rng.randrange(PER_LEAF)] = LAST
        nr = 9
    return marks, nr


@pytest.mark.toolchain
@pytest.mark.parametrize("seed", range(4))
def test_like_a_list(lib: Any, seed: int) -> None:
    rng, leaf, marks = random.Random(seed), SentLeaf(), [NEVER] * PER_LEAF
    as_runs, words, nr = 0, (ctypes.c_uint32 * PER_LEAF)(), 1
    for _ in range(400):
        if rng.random() < 0.5:
            marks, nr = shape(rng)
        else:
            lib.sent_marks(ctypes.byref(leaf), words)
            assert list(words) == marks
            marks[rng.randrange(PER_LEAF)] = rng.choice([NEVER, HOLE, LAST, 77])
            nr = 9
        words[:] = marks
        assert lib.sent_set(ctypes.byref(leaf), words) == 0
        as_runs += not lib.single(ctypes.byref(leaf))
        assert nr > 2 or not lib.single(ctypes.byref(leaf))
        assert [lib.mark(ctypes.byref(leaf), i) for i in range(PER_LEAF)] == marks
        if rng.random() < 0.05:
            lib.sent_clear(ctypes.byref(leaf))
            assert bytes(leaf) == bytes(16)
            marks = [NEVER] * PER_LEAF
    assert as_runs > 50
    lib.sent_clear(ctypes.byref(leaf))
