"""What a saved guest's memory is like: how much of it is zero or there twice, and how well it would compress."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections import Counter
from typing import IO, Any, NamedTuple, Optional

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.image.memory import MemoryImage
from pyxcsr.image.spool import STEP, ZERO, put
from pyxcsr.image.taking import Tick
from pyxcsr.programs import Program

SCHEMA = 1
"""Of the JSON document."""

ENTROPY_PAGES = 4096
"""Pages whose entropy is looked at, at most."""

SAMPLE = 256 << 20
"""Bytes that are compressed at most, to see what it would bring."""

COMMAND = ("zstd", "-1", "-cq", "-T0")


class Stats(NamedTuple):
    """Figures of a guest's memory.

    ``pages`` with content, of which ``zero`` are zeros and ``duplicates`` equal to another page that is not zero and
    comes before. ``entropy``: of ``entropy_pages`` pages, spread evenly, how many have 0 to 1, 1 to 2, ... 7 to 8 bits
    a byte. ``sampled`` bytes, spread evenly, become ``compressed`` with zstd -1; both None without that program.
    """

    kind: str
    pages: int
    zero: int
    duplicates: int
    entropy: list[int]
    entropy_pages: int
    types: dict[str, int]
    sampled: Optional[int] = None
    compressed: Optional[int] = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema": SCHEMA, **self._asdict()}


def stats(image: MemoryImage, tick: Optional[Tick] = None) -> Stats:
    """Reads the whole of an image's memory once. Raises InputError, OSError, OutputError (of a temporary file)."""
    nr_pages = image.map.nr_with_content()
    counts = _Counts(nr_pages)
    with tempfile.TemporaryFile(prefix="pyxcsr-") as sample:
        done = 0
        for run in image.map.runs(STEP):
            counts.take(image.at(run.place, run.nr_pages), sample)
            done += run.nr_pages
            if tick is not None:
                tick(done * PAGE_SIZE)
        compressed = _compressed(sample) if counts.sampled else 0
    types = {kind.name: count for kind, count in image.types().items()}
    figures = counts.zero, counts.duplicates, counts.entropy, sum(counts.entropy)
    known = compressed is not None
    return Stats(image.kind, nr_pages, *figures, types, counts.sampled if known else None, compressed)


class _Counts:
    def __init__(self, nr_pages: int) -> None:
        self.zero = self.duplicates = self.sampled = 0
        self.entropy = [0] * 8
        self._seen: set[int] = set()
        self._done = 0
        self._each = max(1, -(-nr_pages // ENTROPY_PAGES))
        self._share = max(1, -(-nr_pages * PAGE_SIZE // SAMPLE))

    def take(self, data: bytes, sample: IO[bytes]) -> None:
        """Some pages, of which some go into the sample."""
        if self._done // STEP % self._share == 0:
            put(sample.fileno(), data, self.sampled)
            self.sampled += len(data)
        for at in range(0, len(data), PAGE_SIZE):
            self._page(data[at : at + PAGE_SIZE])

    def _page(self, page: bytes) -> None:
        if self._done % self._each == 0:
            self.entropy[min(int(entropy(page)), 7)] += 1
        self._done += 1
        if page == ZERO:
            self.zero += 1
            return
        mark = hash(page)  # 64 bits with a secret of this process: nobody can make two pages collide on purpose
        self.duplicates += mark in self._seen
        self._seen.add(mark)


def entropy(page: bytes) -> float:
    """Shannon's entropy of the bytes, in bits a byte: 0 of equal ones, 8 of random ones."""
    size = len(page)
    return sum(count / size * math.log2(size / count) for count in Counter(page).values())


def _compressed(sample: IO[bytes]) -> Optional[int]:
    """How many bytes the sample becomes; None where the program is missing or fails."""
    if shutil.which(COMMAND[0]) is None:
        return None
    sample.seek(0)
    with Program(COMMAND, stdin=sample, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        size = 0
        while piece := process.stdout.read(1 << 20):
            size += len(piece)
    return size if process.returncode == 0 else None
