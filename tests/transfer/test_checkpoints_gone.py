"""Pages that a checkpoint calls gone although page tables name them, and that come again in a later one.

libxenguest sends so a page table that it could not express just then, as one that maps another domain's page; the
tables that name it do not come again. The frame has to stay the page's: it may be given for another pfn otherwise.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest
from support.remus import Protected
from support.surgery import PAGE_DATA, Piece, entries_of, pages_of, put_together, take_apart

import pyxcsr
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.open import StubBackend

CHECKPOINT, XTAB, L1 = 0xE, 0xF, 1
PFN = (1 << 52) - 1


class Taken:
    """A stream of three checkpoints, in which records can be put behind the pages of each."""

    def __init__(self, hv: StubBackend, path: Path, guest: str) -> None:
        domid = hv.stub.create(pyxcsr.StubGuest.parse(guest))
        self.guest = Protected(hv, domid, path / "s")
        self.guest.run(3)
        self.head, self.pieces = take_apart(path / "s")
        self._ends = [i for i, x in enumerate(self.pieces) if x.code == CHECKPOINT]
        self._first = self._content(0, self._ends[0])
        later = self._content(self._ends[0], len(self.pieces))
        self.quiet = [x for x in self._first if x not in later]  # pfns that only the first checkpoint has

    def _content(self, begin: int, end: int) -> dict[int, tuple[int, bytes]]:
        found: dict[int, tuple[int, bytes]] = {}
        for piece in self.pieces[begin:end]:
            if piece.code == PAGE_DATA:
                at, kinds = pages_of(piece.body), {x & PFN: x >> 60 for x in entries_of(piece.body)}
                found.update({pfn: (kinds[pfn], piece.body[where : where + PAGE_SIZE]) for pfn, where in at.items()})
        return found

    def some(self, kind: int, count: int) -> list[int]:
        """Pfns of a type that are all different."""
        found: dict[bytes, int] = {}
        for pfn in self.quiet:
            if self._first[pfn][0] == kind:
                found.setdefault(self._first[pfn][1], pfn)
        assert len(found) >= count
        return list(found.values())[-count:]

    def stream(self, gone_in: int, pfns: list[int], back: tuple[int, ...] = ()) -> bytes:
        """These are gone in that checkpoint, counted from 1, and (``back``) come again in the next, in that order."""
        added = {gone_in - 1: [_record([(pfn, XTAB, b"")]) for pfn in pfns]}
        if back:
            added[gone_in] = [_record([(pfn, *self._first[pfn])]) for pfn in back]
        out: list[Piece] = []
        cuts = [0, *(x + 1 for x in self._ends), len(self.pieces)]
        for number, (begin, end) in enumerate(zip(cuts, cuts[1:])):
            part = self.pieces[begin:end]
            last = max((i for i, x in enumerate(part) if x.code == PAGE_DATA), default=-1)
            out += [*part[: last + 1], *added.get(number, []), *part[last + 1 :]]
        return put_together(self.head, out)


def _record(entries: list[tuple[int, int, bytes]]) -> Piece:
    words = [kind << 60 | pfn for pfn, kind, _ in entries]
    return Piece(PAGE_DATA, struct.pack(f"<II{len(words)}Q", len(words), 0, *words) + b"".join(x[2] for x in entries))


@pytest.mark.parametrize("width", ["pv64", "pv32"])
@pytest.mark.parametrize("gone_in", [1, 2])
@pytest.mark.parametrize(("tables", "pages"), [(0, 2), (1, 2), (1, 0)])
def test_what_a_table_names_keeps_its_frame(
    hv: StubBackend, tmp_path: Path, width: str, gone_in: int, tables: int, pages: int
) -> None:
    taken = Taken(hv, tmp_path, f"{width}:mem=8M,writes=0,pt_updates=0")
    pfns = taken.some(L1, tables) * bool(tables) + taken.some(0, pages) * bool(pages)
    for back in itertools.permutations(pfns):
        new, report = taken.guest.restored(taken.stream(gone_in, pfns, back), tmp_path / "changed")
        assert report.checkpoints == 3 and report.failed_over == ""
        taken.guest.check(new, 3)
        hv.stub.destroy(new)


@pytest.mark.parametrize("gone_in", [1, 2, 3])
def test_what_a_table_names_and_is_gone_at_the_end_is_missed(hv: StubBackend, tmp_path: Path, gone_in: int) -> None:
    taken = Taken(hv, tmp_path, "pv64:mem=8M,writes=0,pt_updates=0")
    pfns = taken.some(L1, 1)
    with pytest.raises(pyxcsr.IncompleteStream, match="refers to memory that the stream does not contain") as caught:
        taken.guest.restored(taken.stream(gone_in, pfns), tmp_path / "changed")
    assert caught.value.facts["pfn"] == pfns[0], "the frame is still known to be this pfn's"
