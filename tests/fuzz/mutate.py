"""Streams changed at random, most often as streams: records, entries, page table entries; sometimes just bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

RECORD = struct.Struct("<II")
HEADERS = 40
CODES = [*range(0x13), 0x80000000, 0x80000042, 0xFFFFFFFF]
NUMBERS = [0, 1, 2, 3, 7, 8, 255, 256, 511, 512, 513, 1023, 1024, 4095, 4096, 1 << 16, (1 << 20) - 1, 1 << 27,
           (1 << 27) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 52) - 1, 1 << 52, (1 << 63),
           (1 << 64) - 1]  # fmt: skip

Pieces = list[tuple[int, bytes]]


def apart(data: bytes) -> tuple[bytes, Pieces, bytes]:
    """Headers, records, and what is left where records end."""
    at, pieces = HEADERS, []
    while at + 8 <= len(data):
        code, length = RECORD.unpack_from(data, at)
        if at + 8 + length > len(data):
            break
        pieces.append((code, data[at + 8 : at + 8 + length]))
        at += 8 + length + -length % 8
    return data[:HEADERS], pieces, data[at:]


def together(head: bytes, pieces: Pieces, rest: bytes) -> bytes:
    """A stream again."""
    return b"".join([head, *(RECORD.pack(c, len(b)) + b + bytes(-len(b) % 8) for c, b in pieces), rest])


class Mutator:
    """Deterministic for a seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def __call__(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """A changed copy; ``others`` lend records."""
        rng = self._rng
        if rng.random() < 0.12:
            return self._bytes(data)
        head, pieces, rest = apart(data)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            if not pieces:
                return self._bytes(data)
            change = rng.choice(self._changes())
            change(pieces, others)
        if rng.random() < 0.05:
            head = self._bytes(head)
        data = together(head, pieces, rest)
        if rng.random() < 0.05:
            data = data[: rng.randrange(len(data) + 1)]
        return data

    def _changes(self) -> list[Callable[[Pieces, Sequence[bytes]], None]]:
        few = [self._drop, self._repeat, self._exchange, self._other_code, self._cut, self._grow, self._lend]
        return [*few, *(4 * [self._word]), *(4 * [self._head_word]), *(4 * [self._entry]), *(2 * [self._small])]

    def _where(self, pieces: Pieces) -> int:
        return self._rng.randrange(len(pieces))

    def _drop(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        del pieces[self._where(pieces)]

    def _repeat(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        pieces.insert(self._where(pieces), pieces[self._where(pieces)])

    def _exchange(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        i, j = self._where(pieces), self._where(pieces)
        pieces[i], pieces[j] = pieces[j], pieces[i]

    def _other_code(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        i = self._where(pieces)
        pieces[i] = (self._rng.choice(CODES), pieces[i][1])

    def _cut(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        i = self._where(pieces)
        code, body = pieces[i]
        pieces[i] = (code, body[: self._rng.randrange(len(body) + 1)])

    def _grow(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        i = self._where(pieces)
        code, body = pieces[i]
        pieces[i] = (code, body + self._rng.randbytes(self._rng.choice((1, 4, 8, 16, 24, 4096))))

    def _lend(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        theirs = apart(self._rng.choice(others))[1]
        if theirs:
            pieces.insert(self._where(pieces), self._rng.choice(theirs))

    def _word(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        i = self._where(pieces)
        code, body = pieces[i]
        pieces[i] = (code, self._patched(body, len(body)))

    def _head_word(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        i = self._where(pieces)
        code, body = pieces[i]
        pieces[i] = (code, self._patched(body, min(len(body), 64)))

    def _small(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        """Of the records but those with pages: there are more interesting words in them."""
        small = [i for i, (code, body) in enumerate(pieces) if code != 1 and body]
        if small:
            i = self._rng.choice(small)
            pieces[i] = (pieces[i][0], self._patched(pieces[i][1], len(pieces[i][1])))

    def _entry(self, pieces: Pieces, others: Sequence[bytes]) -> None:
        """In a PAGE_DATA record an entry's pfn or type, or a word of a page that may be a table's entry."""
        rng = self._rng
        pages = [i for i, (code, body) in enumerate(pieces) if code == 1 and len(body) > 16]
        if not pages:
            return
        i = rng.choice(pages)
        body = bytearray(pieces[i][1])
        count = min(struct.unpack_from("<I", body)[0], (len(body) - 8) // 8)
        if count and rng.random() < 0.5:
            at = 8 + 8 * rng.randrange(count)
            entry = struct.unpack_from("<Q", body, at)[0]
            pfn = rng.choice((entry & (1 << 52) - 1, rng.randrange(600), rng.choice(NUMBERS) & (1 << 52) - 1))
            struct.pack_into("<Q", body, at, rng.choice((entry >> 60, rng.randrange(16))) << 60 | pfn)
        else:
            at = rng.randrange(len(body) // 8) * 8
            struct.pack_into("<Q", body, at, rng.randrange(600) << 12 | rng.choice((0, 1, 0x67, 0xE7)))
        pieces[i] = (1, bytes(body))

    def _patched(self, body: bytes, room: int) -> bytes:
        rng = self._rng
        size = rng.choice((1, 2, 4, 8))
        if room < size:
            return body
        at = rng.randrange(room - size + 1) // size * size
        old = int.from_bytes(body[at : at + size], "little")
        new = rng.choice((rng.choice(NUMBERS), rng.getrandbits(64), old + 1, old - 1, old ^ 1 << rng.randrange(64)))
        return body[:at] + (new % (1 << 8 * size)).to_bytes(size, "little") + body[at + size :]

    def _bytes(self, data: bytes) -> bytes:
        rng, out = self._rng, bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            if out:
                out[rng.randrange(len(out))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if rng.random() < 0.3 and out:
            at, length = rng.randrange(len(out)), rng.choice((1, 4, 8, 64))
            del out[at : at + length]
        return bytes(out)
