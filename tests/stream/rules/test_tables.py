"""TableTargets against a plain walk over the table."""

from __future__ import annotations

import random

import pytest
from support.streams import pte, table

from pyxcsr.stream.records import packed
from pyxcsr.stream.rules.tables import FRAME_MASK, PRESENT, PSE, Run, TableTargets


def expand(targets: TableTargets) -> dict[int, int]:
    """slot -> pfn."""
    found = {run.slot + at: run.pfn + at for run in targets.runs() for at in range(run.length)}
    assert sum(run.length for run in targets.runs()) == len(found)
    singles = sorted(run.pfn for run in targets.runs() if run.length == 1)
    assert sorted(targets.singles()) == singles
    assert targets.longer_runs() == [run for run in targets.runs() if run.length > 1]
    assert targets.end == max(found.values(), default=-1) + 1
    return found


def test_empty() -> None:
    targets = TableTargets(bytes(4096), 1, 4, 7)
    assert expand(targets) == {}
    assert (targets.level, targets.offset, targets.superpages) == (1, 7, ())


@pytest.mark.parametrize("first", [0, 1, 5, (1 << 40) - 512])
def test_direct_map(first: int) -> None:
    page = table({slot: pte(first + slot) for slot in range(512)})
    assert list(TableTargets(page, 1, 4, 0).runs()) == [Run(0, first, 512)]


def test_direct_map_with_other_flags() -> None:
    page = table({slot: pte(9 + slot, PRESENT | slot % 8 << 5 | slot % 2 << 63) for slot in range(512)})
    assert list(TableTargets(page, 1, 4, 0).runs()) == [Run(0, 9, 512)]


@pytest.mark.parametrize("slot", [0, 1, 255, 511])
@pytest.mark.parametrize("entry", [0, pte(9999), pte(9999, 0x66)])
def test_direct_map_with_one_other(slot: int, entry: int) -> None:
    entries = {at: pte(20 + at) for at in range(512)}
    entries[slot] = entry
    wanted = {at: 20 + at for at in range(512)}
    del wanted[slot]
    if entry & PRESENT:
        wanted[slot] = 9999
    assert expand(TableTargets(table(entries), 1, 4, 0)) == wanted


@pytest.mark.parametrize("slots", [range(512), range(1), range(511, 512), range(7, 9)])
def test_direct_map_of_which_some_is_not_present(slots: range) -> None:
    entries = {at: pte(20 + at, 0x66 if at in slots else 0x67) for at in range(512)}
    wanted = {at: 20 + at for at in range(512) if at not in slots}
    assert expand(TableTargets(table(entries), 1, 4, 0)) == wanted


@pytest.mark.parametrize("seed", range(20))
def test_like_a_plain_walk(seed: int) -> None:
    rnd = random.Random(seed)
    level = rnd.choice([1, 1, 2, 3, 4])
    runs, density = rnd.random(), rnd.random()
    entries, pfn = [], 5
    for _ in range(512):
        pfn = pfn + 1 if rnd.random() < runs else rnd.randrange(1 << 40)
        pfn &= (1 << 40) - 1
        flags = rnd.choice([0x67, 0x25, 0x8000_0000_0000_0063])
        if rnd.random() > density:
            flags &= ~PRESENT
        entries.append(pfn << 12 | flags)
    slots = [slot for slot in range(512) if not (level == 4 and 256 <= slot <= 271)]
    wanted = {slot: (entries[slot] & FRAME_MASK) >> 12 for slot in slots if entries[slot] & PRESENT}
    assert expand(TableTargets(packed(entries), level, 4, 0)) == wanted


def test_superpages_above_level_1() -> None:
    page = table({3: pte(5, PRESENT | PSE), 4: pte(6), 5: pte(7, PSE)})
    assert TableTargets(page, 2, 4, 0).superpages == (3,)
    assert TableTargets(page, 1, 4, 0).superpages == ()


def test_top_level_of_a_32_bit_guest() -> None:
    page = table({0: pte(5), 3: pte(6), 4: pte(7)})
    assert expand(TableTargets(page, 3, 3, 0)) == {0: 5, 3: 6}
    assert expand(TableTargets(page, 3, 4, 0)) == {0: 5, 3: 6, 4: 7}
