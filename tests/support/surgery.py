"""Takes a stream apart, and puts it together again so that it is wrong on purpose."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HEADERS = 40
RECORD = struct.Struct("<II")
END, PAGE_DATA, PV_INFO, P2M_FRAMES, BASIC, EXTENDED, XSAVE, SHARED_INFO, TSC = 0, 1, 2, 3, 4, 5, 6, 7, 8
VCPU_MSRS, VERIFY, STATIC_DATA_END, CPUID, MSR = 12, 13, 16, 17, 18


class Piece(NamedTuple):
    """A record: its type and body."""

    code: int
    body: bytes


def take_apart(path: Path) -> tuple[bytes, list[Piece]]:
    """The headers, and the records."""
    data = path.read_bytes()
    at, pieces = HEADERS, []
    while at < len(data):
        code, length = RECORD.unpack_from(data, at)
        pieces.append(Piece(code, data[at + 8 : at + 8 + length]))
        at += 8 + length + -length % 8
    return data[:HEADERS], pieces


def put_together(head: bytes, pieces: list[Piece]) -> bytes:
    """A stream again."""
    out = [head]
    for code, body in pieces:
        out.append(RECORD.pack(code, len(body)) + body + bytes(-len(body) % 8))
    return b"".join(out)


def boundaries(head: bytes, pieces: list[Piece]) -> list[int]:
    """The offset of each record, and that of the end."""
    at, out = len(head), [len(head)]
    for _, body in pieces:
        at += 8 + len(body) + -len(body) % 8
        out.append(at)
    return out


def changed(pieces: list[Piece], code: int, change: Callable[[bytearray], None], nth: int = 0) -> list[Piece]:
    """The records, with the n-th one of a type changed."""
    out, seen = list(pieces), 0
    for i, piece in enumerate(out):
        if piece.code == code:
            if seen == nth:
                body = bytearray(piece.body)
                change(body)
                out[i] = Piece(code, bytes(body))
                return out
            seen += 1
    raise AssertionError(f"there is no record {code} number {nth}")


def without(pieces: list[Piece], *codes: int) -> list[Piece]:
    """The records, without those of some types."""
    return [x for x in pieces if x.code not in codes]


def entries_of(body: bytes) -> list[int]:
    """A PAGE_DATA record's entries."""
    (count,) = struct.unpack_from("<I", body)
    return list(struct.unpack_from(f"<{count}Q", body, 8))


def pages_of(body: bytes) -> dict[int, int]:
    """Where in a PAGE_DATA record's body the content of each pfn begins."""
    entries = entries_of(body)
    at, out = 8 + 8 * len(entries), {}
    for entry in entries:
        if entry >> 60 < 13:
            out[entry & (1 << 52) - 1] = at
            at += 4096
    return out
