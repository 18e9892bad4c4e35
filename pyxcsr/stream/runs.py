"""Pfns in a row, and where they lie in tables that are kept in chunks of as many pfns each."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, NamedTuple
from pyxcsr.stream.records import packed, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyxcsr.plain_array import array

_TURN = 1 << 16
"""How many numbers there are of the two lowest bytes."""

_turns: list[bytes] = []
_KEPT = 16
_digits: dict[int, tuple[int, int]] = {}
"""By a count of numbers: the long numbers with the digits 1, 1, 1 ... and 0, 1, 2 ..., some few of them."""


class Piece(NamedTuple):
    """A part of a row of pfns that lies in one chunk: from which pfn of the row on, and where in which chunk."""

    at: int
    chunk: int
    within: int
    nr_pfns: int


def in_a_row(pfns: Sequence[int]) -> bool:
    """Whether each is one more than the one before; ``pfns`` is not empty."""
    if isinstance(pfns, range):
        return pfns.step == 1
    first = pfns[0]
    return pfns[-1] - first == len(pfns) - 1 and list(pfns) == list(range(first, first + len(pfns)))


def row_of(entries: array[int]) -> range | None:
    """The entries, which are not empty, as a range if each is one more than the one before; else None."""
    first, count = entries[0], len(entries)
    in_line = entries[-1] == first + count - 1 and entries == row(first, 1, count)
    return range(first, first + count) if in_line else None


def masked(numbers: array[int], mask: int) -> array[int]:
    """Each of the numbers of 64 bits, which are not empty, with the bits of ``mask`` alone."""
    return words(_masked(numbers, mask).to_bytes(8 * len(numbers), "little"))


def any_has(numbers: array[int], mask: int) -> bool:
    """Whether any of the numbers of 64 bits, which are not empty, has a bit of ``mask``."""
    return _masked(numbers, mask) != 0


def _masked(numbers: array[int], mask: int) -> int:
    ones, _ = _long(len(numbers))
    return int.from_bytes(packed(numbers), "little") & ones * mask


def row(first: int, step: int, count: int) -> array[int]:
    """``count`` numbers of 64 bits, each ``step`` more than the one before. Raises OverflowError if one needs more.

    They are the digits of one long number, of which two products make all at once, in a fifth of a loop's time.
    """
    ones, ascending = _long(count)
    return words((first * ones + step * ascending).to_bytes(8 * count, "little"))


def row_in_bytes(first: int, count: int) -> bytearray | None:
    """``row`` with a step of 1, as it stands in a stream; None where more than the two lowest bytes would change in it.

    The two lowest are copied, and the others set for all numbers at once: a tenth of the time of ``row``.
    """
    high, low = divmod(first, _TURN)
    if low + count > _TURN:
        return None
    numbers = bytearray(_turn()[8 * low : 8 * (low + count)])
    for at, digit in enumerate(high.to_bytes(6, "little"), 2):
        if digit:
            numbers[at::8] = bytes((digit,)) * count
    return numbers


def _turn() -> bytes:
    """The numbers of two bytes, in 64 bits each: half a MiB, made when it is first needed."""
    if not _turns:
        numbers = bytearray(8 * _TURN)
        numbers[0::8] = bytes(range(256)) * 256
        numbers[1::8] = b"".join(bytes((digit,)) * 256 for digit in range(256))
        _turns.append(bytes(numbers))
    return _turns[0]


def _long(count: int) -> tuple[int, int]:
    if count not in _digits:
        if len(_digits) >= _KEPT:
            _digits.clear()
        ones, ascending = (int.from_bytes(packed(x), "little") for x in ([1] * count, range(count)))
        _digits[count] = ones, ascending
    return _digits[count]


def pieces(first: int, count: int, size: int) -> Iterator[Piece]:
    """The parts of ``count`` pfns from ``first`` on, in order; ``size``: pfns in a chunk."""
    at = 0
    while at < count:
        chunk, within = divmod(first + at, size)
        here = min(count - at, size - within)
        yield Piece(at, chunk, within, here)
        at += here
