"""Page table entries that are gone through as one long number, beside the obvious way."""

from __future__ import annotations

import random
from array import array

import pytest

from pyxcsr.guest.pv.p2m.pagetable import FRAME, PRESENT, SUPERPAGE, frames_and_flags


def obvious(entries: array[int]) -> tuple[array[int], int]:
    """One by one."""
    present = PRESENT if len(entries) and all(x & PRESENT for x in entries) else 0
    superpage = SUPERPAGE if any(x & SUPERPAGE for x in entries) else 0
    return array("Q", [(x & FRAME) >> 12 for x in entries]), present | superpage


@pytest.mark.parametrize("nr", [0, 1, 2, 511, 512, 8192])
@pytest.mark.parametrize("seed", range(4))
def test_as_one_by_one(nr: int, seed: int) -> None:
    chance = random.Random(seed)
    usual = array("Q", [chance.getrandbits(40) << 12 | PRESENT | 0x62 | chance.getrandbits(1) << 63 for _ in range(nr)])
    assert frames_and_flags(usual) == obvious(usual)
    for value in (0, 1, 2**64 - 1, SUPERPAGE, SUPERPAGE | PRESENT, FRAME, FRAME | PRESENT, ~FRAME & 2**64 - 1):
        for at in {0, nr // 2, nr - 1} & set(range(nr)):
            some = usual[:]
            some[at] = value
            assert frames_and_flags(some) == obvious(some), (hex(value), at)
    noise = array("Q", [chance.getrandbits(64) for _ in range(nr)])
    assert frames_and_flags(noise) == obvious(noise)
