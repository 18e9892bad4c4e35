"""The bitmap's small steps against the obvious Python version, at every edge."""

from __future__ import annotations

import errno
import random
from array import array
from collections.abc import Iterator

import pytest
import pyxcsr._stub as module

ffi, lib = module.ffi, module.lib

GUARD = 0xDEAD


@pytest.fixture(autouse=True, params=["PLAIN", "BMI", "AVX2"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything here by each set of instructions that this processor has."""
    rc = lib.xcsr_bitmap_use(getattr(lib, f"XCSR_BITMAP_{request.param}"))
    if rc == -errno.ENOTSUP:
        pytest.skip(f"this processor has no {request.param}")
    assert rc == 0
    yield request.param
    assert lib.xcsr_bitmap_use(lib.XCSR_BITMAP_BEST) == 0


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
    cursor, found, out = ffi.new("uint64_t *", 0), [], ffi.new("uint64_t[]", batch + 1)
    out[batch] = GUARD
    data = ffi.from_buffer("uint64_t[]", words)
    while True:
        before = cursor[0]
        n = lib.xcsr_bitmap_scan(data, nr_bits, cursor, out, batch)
        assert n <= batch and out[batch] == GUARD
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


@pytest.mark.parametrize("density", [0.0001, 0.0005, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(4))
def test_random(density: float, seed: int) -> None:
    rng = random.Random(f"{density} {seed}")
    nr_bits = rng.randrange(1, 40000)
    bits = {i for i in range(nr_bits) if rng.random() < density}
    for batch in (1, 7, 65, 1024):
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


@pytest.mark.parametrize("length", [1, 8, 63, 64, 65, 200, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("seed", range(3))
def test_runs(length: int, seed: int) -> None:
    rng = random.Random(f"{length} {seed}")
    nr_bits = rng.randrange(length, 30000)
    bits = {x + i for x in rng.choices(range(nr_bits), k=5) for i in range(length) if x + i < nr_bits}
    for batch in (1, 63, 64, 127, 1024):
        assert scan_all(bits, nr_bits, batch, garbage=True) == sorted(bits)


WORDS = [1, 1 << 63, 1 << 63 | 1, 0xFF, 0x1FF, (1 << 64) - 1, (1 << 64) - 2, 0x5555555555555555]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("at", [*range(18), 31, 32, 33])
def test_one_word_anywhere(word: int, at: int) -> None:
    """Wherever it lies in the sixteen that are looked at together, and among the last ones."""
    bits = {64 * at + i for i in range(64) if word >> i & 1}
    for nr_words in (at + 1, at + 2, 16, 17, 32, 33, 34, 64):
        if nr_words > at:
            assert scan_all(bits, 64 * nr_words, 1024) == sorted(bits)


@pytest.mark.parametrize("batch", range(1, 200, 7))
def test_a_scan_ends_and_goes_on_anywhere(batch: int) -> None:
    rng = random.Random(batch)
    bits = {i for i in range(5000) if rng.random() < 0.4} | set(range(1000, 1400))
    assert scan_all(bits, 5000, batch) == sorted(bits)


@pytest.mark.parametrize("density", [0, 0.001, 0.01, 0.5, 1])
@pytest.mark.parametrize("nr_words", [1, 7, 15, 16, 17, 31, 32, 33, 100, 257])
def test_count(density: float, nr_words: int) -> None:
    rng = random.Random(f"{density} {nr_words}")
    bits = {i for i in range(64 * nr_words) if rng.random() < density}
    data = ffi.from_buffer("uint64_t[]", words_of(bits, 64 * nr_words))
    assert lib.xcsr_bitmap_count(data, nr_words) == len(bits)
