"""The token bucket, with times that the test makes up."""

from __future__ import annotations

import random

import pytest
import pyxcsr._stub as module

ffi, lib = module.ffi, module.lib

MB = 1_000_000


def bucket(rate: int, now: int = 0) -> object:
    made = ffi.new("xcsr_bucket *")
    lib.xcsr_bucket_set(made, rate, now)
    return made


def run(rate: int, chunk: int, seconds: float, busy_us: int = 0) -> int:
    """Bytes that get through in so many seconds, if whoever writes waits as long as he is told, and takes as long."""
    made, now, done = bucket(rate), 0, 0
    while True:
        wait = lib.xcsr_bucket_wait(made, now)
        if wait:
            now += wait
        else:
            lib.xcsr_bucket_take(made, chunk)
            done += chunk
            now += busy_us
        if now > seconds * 1e6:
            return done


@pytest.mark.parametrize("rate", [4096, 100_000, 10 * MB, 1000 * MB, 40_000 * MB])
@pytest.mark.parametrize("chunk", [1, 4096, 70_000, 4 << 20])
@pytest.mark.parametrize("busy_us", [1, 700])
def test_the_rate_is_kept(rate: int, chunk: int, busy_us: int) -> None:
    seconds = min(max(2.0, 20 * max(chunk, 4096) / rate), 100_000 * chunk / rate)
    done = run(rate, chunk, seconds, busy_us)
    assert done <= rate * seconds * 1.01 + chunk + 70_000
    if chunk / rate * 1e6 > 2 * busy_us:  # else the writer is the slower one
        assert done >= rate * seconds * 0.9 - chunk


def test_no_limit() -> None:
    made = bucket(0)
    lib.xcsr_bucket_take(made, 1 << 40)
    assert lib.xcsr_bucket_wait(made, 1) == 0


def test_an_idle_time_is_not_made_up_for() -> None:
    made = bucket(100 * MB)
    lib.xcsr_bucket_wait(made, 3600 * MB)
    assert 0 < made.level <= 5 * MB, "what may go at once is 50 ms' worth"


def test_a_clock_that_stands_still() -> None:
    made = bucket(100 * MB, now=50)
    waits = [lib.xcsr_bucket_wait(made, 50) for _ in range(3)]
    assert waits[0] > 0 and len(set(waits)) == 1
    assert lib.xcsr_bucket_wait(made, 10) == waits[0], "nor does one that goes back do harm"


def test_a_limit_beyond_all_bounds() -> None:
    made = bucket(2**64 - 1)
    assert made.rate == lib.XCSR_BUCKET_MAX
    rng = random.Random(1)
    now = 0
    for _ in range(1000):
        now += rng.randrange(10**12)
        assert lib.xcsr_bucket_wait(made, now) >= 0
        lib.xcsr_bucket_take(made, rng.randrange(2**32))
