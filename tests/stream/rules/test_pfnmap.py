"""PfnMap against a plain dict."""

from __future__ import annotations

import random

import pytest

from pyxcsr.stream.rules.pfnmap import CHUNK, HAS_DATA, SENT, PfnMap


def test_nothing_sent() -> None:
    pfns = PfnMap()
    assert pfns.highest == -1
    assert pfns[5] == 0
    assert list(pfns.unsent(0)) == []
    assert list(pfns.unsent(3 * CHUNK + 1)) == [(0, 3 * CHUNK)]
    assert not pfns.all_have_data([0], [])
    assert pfns.all_have_data([], [])


@pytest.mark.parametrize("gap", [(0, 0), (CHUNK - 1, CHUNK - 1), (CHUNK, CHUNK), (CHUNK - 2, CHUNK + 2),
                                 (10, 3 * CHUNK + 5), (4 * CHUNK - 1, 4 * CHUNK - 1)])  # fmt: skip
def test_one_gap(gap: tuple[int, int]) -> None:
    pfns = PfnMap()
    first, last = gap
    end = 4 * CHUNK
    if first:
        pfns.set(range(first), bytes(first))
    if last + 1 < end:
        pfns.set(range(last + 1, end), bytes(end - last - 1))
    assert list(pfns.unsent(end)) == [gap]


@pytest.mark.parametrize("seed", range(8))
def test_like_a_dict(seed: int) -> None:
    rnd = random.Random(seed)
    end = rnd.choice([CHUNK - 1, 2 * CHUNK, 3 * CHUNK + 17])
    pfns, model = PfnMap(), dict[int, int]()
    for _ in range(60):
        start, count = rnd.randrange(end), rnd.randrange(1, 300)
        chosen = list(range(start, min(end, start + count)))
        if rnd.random() < 0.5:
            chosen = rnd.sample(chosen, rnd.randrange(1, len(chosen) + 1))
        types = bytes(rnd.choice([0, 1, 4, 9, 12, 13, 14, 15]) for _ in chosen)
        pfns.set(chosen, types)
        model.update(zip(chosen, types))
    states = [SENT | model[pfn] if pfn in model else 0 for pfn in range(end)]
    assert [pfns[pfn] for pfn in range(end)] == states
    assert list(pfns.run(3, end - 3)) == states[3:]
    assert pfns.highest == max(model)
    missing = [pfn for first, last in pfns.unsent(end) for pfn in range(first, last + 1)]
    assert missing == [pfn for pfn in range(end) if pfn not in model]
    for _ in range(200):
        some = rnd.sample(range(end), rnd.randrange(4))
        first, count = rnd.randrange(end - 3), rnd.randrange(4)
        wanted = all(states[pfn] in HAS_DATA for pfn in [*some, *range(first, first + count)])
        assert pfns.all_have_data(some, [(0, first, count)]) == wanted


def test_scattered() -> None:
    """What no guest does: one pfn in each chunk. A guest's own pfns are dense."""
    scattered, dense = PfnMap(), PfnMap()
    chunks = (64 << 20) // CHUNK + 1
    scattered.set([index * CHUNK * 7 for index in range(chunks)], bytes(chunks))
    assert not scattered.scattered
    scattered.set([(chunks + index) * CHUNK * 7 for index in range(100)], bytes(100))
    assert scattered.scattered
    dense.set(range(1 << 20), bytes(1 << 20))
    assert not dense.scattered


def test_types_with_data() -> None:
    assert sorted(HAS_DATA) == [SENT | kind for kind in (0, 1, 2, 3, 4, 9, 10, 11, 12)]
