"""The bitmap's small steps against the obvious Python version, at every edge."""

from __future__ import annotations

import random
from array import array

import pytest
import pyxcsr._stub as module

ffi, lib = module.ffi, module.lib


def words_of(bits: set[int], nr_bits: int) -> array[int]:
    words = array("Q", bytes(8 * (nr_bits // 64 + 2)))
    for bit in bits:
        words[bit // 64] |= 1 << bit % 64
    return words


def scan_all(bits: set[int], nr_bits: int, batch: int, garbage: bool = False) -> list[int]:
    """All batches of a scan, put together; checks the cursor's contract on the way."""
    words = words_of(bits, nr_bits)
    if garbage:  # beyond the last pfn anything may stand
        for bit in range(nr_bits, (nr_bits // 64 + 2) * 64):
            words[bit // 64] |= 1 << bit % 64
    cursor, found, out = ffi.new("uint64_t *", 0), [], ffi.new("uint64_t[]", batch)
    data = ffi.from_buffer("uint64_t[]", words)
    while True:
        before = cursor[0]
        n = lib.xcsr_bitmap_scan(data, nr_bits, cursor, out, batch)
        found += list(out[0:n])
        assert cursor[0] >= before
        if n < batch:
            assert cursor[0] == nr_bits or n == 0
        if cursor[0] >= nr_bits:
            return found
        assert n > 0


EDGES = [0, 1, 62, 63, 64, 65, 127, 128, 511, 512, 513, 575, 576, 1023, 1024]


@pytest.mark.parametrize("bit", EDGES)
@pytest.mark.parametrize("nr_bits", [1025, 1088, 1089, 2048])
def test_one_bit(bit: int, nr_bits: int) -> None:
    assert scan_all({bit}, nr_bits, 4) == [bit]


@pytest.mark.parametrize("nr_bits", [1, 2, 63, 64, 65, 127, 128, 129, 511, 512, 513, 600, 1024, 1100])
@pytest.mark.parametrize("batch", [1, 3, 64, 1024])
def test_full_and_tail(nr_bits: int, batch: int) -> None:
    assert scan_all(set(range(nr_bits)), nr_bits, batch, garbage=True) == list(range(nr_bits))
    assert scan_all(set(), nr_bits, batch, garbage=True) == []


@pytest.mark.parametrize("density", [0.0005, 0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("seed", range(4))
def test_random(density: float, seed: int) -> None:
    rng = random.Random(f"{density} {seed}")
    nr_bits = rng.randrange(1, 40000)
    bits = {i for i in range(nr_bits) if rng.random() < density}
    for batch in (1, 7, 1024):
        assert scan_all(bits, nr_bits, batch) == sorted(bits)


def test_fill_and_count() -> None:
    for nr_bits in (1, 63, 64, 65, 128, 1000):
        words = array("Q", bytes(8 * (nr_bits // 64 + 1)))
        data = ffi.from_buffer("uint64_t[]", words, require_writable=True)
        lib.xcsr_bitmap_fill(data, nr_bits)
        assert sum(x.bit_count() if hasattr(x, "bit_count") else bin(x).count("1") for x in words) == nr_bits
        assert lib.xcsr_bitmap_count(data, len(words)) == nr_bits


def test_a_full_batch_in_the_middle_of_a_word_loses_nothing() -> None:
    bits = {5, 6, 63, 64, 127, 640}
    assert scan_all(bits, 1000, 2) == sorted(bits)
    assert scan_all(bits, 1000, 3) == sorted(bits)
