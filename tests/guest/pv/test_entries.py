"""Page table entries that are gone through in C, beside the obvious way."""

from __future__ import annotations

import random
from array import array

import pytest
from support.entries import FRAME, PRESENT, SUPERPAGE, pte_frames

from pyxcsr.hypervisor.open import StubBackend

NR_MFNS = (1 << 40) - 7
ODD = (0, 1, 2**64 - 1, SUPERPAGE, SUPERPAGE | PRESENT, FRAME, FRAME | PRESENT, ~FRAME & 2**64 - 1,
       NR_MFNS << 12 | PRESENT, NR_MFNS - 1 << 12 | PRESENT, 1 << 12 | PRESENT | SUPERPAGE, 1 << 12)  # fmt: skip


@pytest.mark.parametrize("level", [1, 2, 4])
@pytest.mark.parametrize("nr", [0, 1, 2, 511, 512, 8192])
@pytest.mark.parametrize("seed", range(4))
def test_as_one_by_one(hv: StubBackend, nr: int, seed: int, level: int) -> None:
    chance = random.Random(seed)
    usual = array("Q", [chance.randrange(1, NR_MFNS) << 12 | 0x63 | chance.getrandbits(1) << 63 for _ in range(nr)])
    assert hv.pte_frames(usual, NR_MFNS, level) == pte_frames(usual, NR_MFNS, level)
    assert hv.pte_frames(usual, NR_MFNS, level)[1] == nr
    for value in ODD:
        for at in {0, nr // 2, nr - 1} & set(range(nr)):
            some = usual[:]
            some[at] = value
            assert hv.pte_frames(some, NR_MFNS, level) == pte_frames(some, NR_MFNS, level), (hex(value), at)
    noise = array("Q", [chance.getrandbits(64) for _ in range(nr)])
    assert hv.pte_frames(noise, NR_MFNS, level) == pte_frames(noise, NR_MFNS, level)
