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
int few(const struct sent_leaf *t) { return t->few; }
int add_run(struct sent_leaf *t, uint32_t i, uint32_t nr, uint32_t first, int step)
{
    return sent_add_run(t, i, nr, first, (int8_t)step);
}
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
        assert nr > 2 or not (lib.single(ctypes.byref(leaf)) or lib.few(ctypes.byref(leaf)))
        assert [lib.mark(ctypes.byref(leaf), i) for i in range(PER_LEAF)] == marks
        if rng.random() < 0.05:
            lib.sent_clear(ctypes.byref(leaf))
            assert bytes(leaf) == bytes(16)
            marks = [NEVER] * PER_LEAF
    assert as_runs > 50
    lib.sent_clear(ctypes.byref(leaf))


@pytest.mark.toolchain
@pytest.mark.parametrize("nr", [1, 2, 3, 79, 80, 81, 300])
def test_frames_among_holes_take_memory_by_their_number(lib: Any, nr: int) -> None:
    rng, leaf, words = random.Random(nr), SentLeaf(), (ctypes.c_uint32 * PER_LEAF)()
    lib.sent_bytes.restype = ctypes.c_uint64
    for _ in range(40):
        marks = [HOLE] * PER_LEAF
        for place in [0, PER_LEAF - 1, *rng.sample(range(1, PER_LEAF - 1), PER_LEAF - 2)][:nr]:
            marks[place] = rng.choice([NEVER, LAST, rng.randrange(600, 1 << 31)])
        words[:] = marks
        assert lib.sent_set(ctypes.byref(leaf), words) == 0
        assert lib.sent_bytes(ctypes.byref(leaf)) <= (32 * nr if nr < 81 else 2064)
        assert [lib.mark(ctypes.byref(leaf), i) for i in range(PER_LEAF)] == marks
        lib.sent_marks(ctypes.byref(leaf), words)
        assert list(words) == marks
        for begin in range(0, PER_LEAF if lib.few(ctypes.byref(leaf)) else 0, 64):
            lib.sent_some(ctypes.byref(leaf), begin, 64, words)
            assert words[:64] == marks[begin : begin + 64]
        assert not lib.add_run(ctypes.byref(leaf), 8, 64, 4000, 1) or not lib.few(ctypes.byref(leaf))
    lib.sent_clear(ctypes.byref(leaf))
    assert bytes(leaf) == bytes(16)


@pytest.mark.parametrize("seed", range(40))
def test_runs_that_are_added_are_as_if_all_had_been_set(lib: Any, seed: int) -> None:
    """What is refused changes nothing; what is taken gives the very same leaf as setting all marks does."""
    rng = random.Random(seed)
    taken = refused = 0
    for _ in range(60):
        leaf, marks, at = SentLeaf(), [NEVER] * PER_LEAF, 0
        first, step = rng.randrange(600, 1 << 31), rng.choice([1, -1])
        if rng.random() < 0.3:
            marks = shape(rng)[0]
            lib.sent_set(ctypes.byref(leaf), (ctypes.c_uint32 * PER_LEAF)(*marks))
        if rng.random() < 0.3:
            at = rng.randrange(PER_LEAF - 2)
        while at < PER_LEAF - 1:
            nr = min(rng.choice([2, 3, 64, 200, 509, PER_LEAF]), PER_LEAF - at)
            run = [first + step * i for i in range(nr)]
            before = bytes(leaf)
            if lib.add_run(ctypes.byref(leaf), at, nr, first, step):
                taken += 1
                assert all(was in (NEVER, now) for was, now in zip(marks[at:], run))
                marks[at : at + nr] = run
                again = SentLeaf()
                lib.sent_set(ctypes.byref(again), (ctypes.c_uint32 * PER_LEAF)(*marks))
                assert bytes(again) == bytes(leaf)
            else:
                refused += 1
                assert bytes(leaf) == before
            assert [lib.mark(ctypes.byref(leaf), i) for i in range(PER_LEAF)] == marks
            at += nr if rng.random() < 0.9 else 0
            first = first + step * nr if rng.random() < 0.8 else rng.randrange(600, 1 << 31)
        lib.sent_clear(ctypes.byref(leaf))
    assert taken > 10 < refused


def test_a_guest_that_is_sent_in_order_is_runs_all_along(lib: Any) -> None:
    """As batches of 1022 pfns cut it: each piece is taken, and none unfolds a leaf."""
    leaves, first = [SentLeaf() for _ in range(8)], 1000
    for begin in range(0, 8 * PER_LEAF, 1022):
        pfn, end = begin, min(begin + 1022, 8 * PER_LEAF)
        while pfn < end:
            nr = min(end - pfn, PER_LEAF - pfn % PER_LEAF)
            assert lib.add_run(ctypes.byref(leaves[pfn // PER_LEAF]), pfn % PER_LEAF, nr, first + pfn, 1)
            pfn += nr
    for index, leaf in enumerate(leaves):
        marks = [lib.mark(ctypes.byref(leaf), i) for i in range(PER_LEAF)]
        assert marks == list(range(first + index * PER_LEAF, first + (index + 1) * PER_LEAF))
