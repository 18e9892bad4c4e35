"""A p2m list walked again and again while it changes: what is kept of earlier walks never shows."""

from __future__ import annotations

import random
import struct
from typing import Any, cast

import pytest
from support import entries

from pyxcsr.guest.pv.geometry import WIDE
from pyxcsr.guest.pv.p2m import pagetable
from pyxcsr.guest.pv.p2m.pagetable import Walk

VADDR = 0xFFFFC90000000000
PRESENT = 0x067
NR_MFNS = 1 << 20


class Machine:
    """Frames with page tables of four levels in them that lead to a list."""

    def __init__(self) -> None:
        self.pages: dict[int, list[int]] = {1: [0] * 512}

    def nr_mfns(self) -> int:
        return NR_MFNS

    def read_frames(self, _domid: int, mfns: Any) -> bytes:
        return b"".join(struct.pack("<512Q", *self.pages.get(x, [0] * 512)) for x in mfns)

    pte_frames = staticmethod(entries.pte_frames)

    def put(self, vaddr: int, mfn: int) -> None:
        table = 1
        for shift in (39, 30, 21):
            slot = vaddr >> shift & 511
            entry = self.pages[table][slot]
            if not entry:
                new = len(self.pages) + 1
                self.pages[new] = [0] * 512
                entry = self.pages[table][slot] = new << 12 | PRESENT
            table = entry >> 12
        self.pages[table][vaddr >> 12 & 511] = mfn << 12 | PRESENT


@pytest.mark.parametrize("at_once", [1, 2, 16])
@pytest.mark.parametrize("seed", range(6))
def test_walked_again(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagetable, "AT_ONCE", at_once)
    rng, machine = random.Random(seed), Machine()
    walk = Walk(cast(Any, machine), 1, WIDE, 1 << 30)
    vaddr = VADDR + 4096 * rng.choice([0, 1, 300, 511])
    frames: list[int] = []
    before: list[tuple[list[int], Any]] = []
    for _ in range(25):
        wanted = rng.choice([len(frames), len(frames), rng.randrange(1, 3000)]) or 1
        changed = {*range(len(frames), wanted), *(rng.randrange(wanted) for _ in range(rng.choice([0, 0, 1, 5])))}
        for i in sorted(changed):
            frames[i : i + 1] = [rng.randrange(0x1000, NR_MFNS)]
            machine.put(vaddr + 4096 * i, frames[i])
        del frames[wanted:]
        if rng.random() < 0.2:  # a list that is now elsewhere
            vaddr = VADDR + 4096 * rng.choice([0, 1, 300, 511])
            for i, mfn in enumerate(frames):
                machine.put(vaddr + 4096 * i, mfn)
        found = walk.leaves(1 << 12, vaddr, len(frames) * 512)
        assert (found.nr_pfns, list(found.mfns)) == (len(frames) * 512, frames)
        assert found == Walk(cast(Any, machine), 1, WIDE, 1 << 30).leaves(1 << 12, vaddr, len(frames) * 512)
        again = walk.leaves(1 << 12, vaddr, len(frames) * 512)
        assert again.mfns is found.mfns, "what is the same is kept once"
        before.append((list(frames), found))
    assert all(list(found.mfns) == then for then, found in before), "others hold what was found before"
