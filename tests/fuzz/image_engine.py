"""Saved guests as data, fuzzed alone: small inputs, one in so many traced, so that a machine tries hundreds a second.

Each input goes through five targets: the index beside a file, also a forged one; a dump out of a file and out of a
pipe, which must be the same; a comparison with the input that it was made from; containers; checkpoints. One run of a
target counts as an execution.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType

from support.pace import too_long

import pyxcsr
from fuzz import image_targets
from fuzz.corpus import HERE, seed
from fuzz.engine import Coverage, Outcome, one
from fuzz.image_targets import CONTEXT, ROOM, ROOM_PER_BYTE, Misled, check_dump, look_into
from fuzz.mutate import NUMBERS, Mutator
from pyxcsr.container.copy import convert
from pyxcsr.container.verify import verify_input
from pyxcsr.image import beside
from pyxcsr.image.compare import compare
from pyxcsr.image.dump import Format, dump
from pyxcsr.image.memory import MemoryImage

SMALL = 160 << 10
"""Bytes of the seeds that are taken."""

PIPE, F_SETPIPE_SZ = 1 << 20, 1031
QUICK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where temporary files go."""

TRACED = 200
"""One input in so many is traced, and kept if it reaches lines that none has reached."""

SECONDS = 3.0
"""Of processor time for one input, at most."""

MEMORY = 160 << 20
"""Bytes that the process may grow by; an image of few bytes may have 64 MiB of words (``pagemap.SLACK``)."""

EACH_ENTRY = 600
"""Bytes of a dump for each byte of a forged index: a pfn takes eight of it, and can be given any page of the file."""


def small_seeds() -> list[bytes]:
    """The made-up ones that are short."""
    found = (seed(x.stem) for x in sorted(HERE.glob("made-up-*.xz")))
    return [x for x in found if len(x) < SMALL]


class Images:
    """The targets, on a file in memory. ``executions``: how often one of them ran."""

    def __init__(self, seed_of_chance: int) -> None:
        self._folder = tempfile.TemporaryDirectory(dir=QUICK)
        self._path = os.path.join(self._folder.name, "stream")
        self._rng = random.Random(seed_of_chance)
        self.executions = self.forged = 0
        self.before = b""

    def __enter__(self) -> Images:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._folder.cleanup()

    def __call__(self, data: bytes) -> None:
        """Raises Misled, and whatever an input makes the product raise that it does not document."""
        Path(self._path).write_bytes(data)
        began = time.process_time()
        for target in (self._index, self._dumps, self._compare, self._containers, self._checkpoints):
            with open(self._path, "rb") as file, suppress(pyxcsr.XcsrError):
                target(file.fileno(), data)
            self.executions += 1
        if too_long(seconds := time.process_time() - began, SECONDS):
            raise Misled(f"{seconds:.1f} s for {len(data)} bytes")

    # Targets

    def _index(self, fd: int, data: bytes) -> None:
        """An index says what the stream says; a forged one shows nothing that is not in the file."""
        with MemoryImage(fd) as found:
            look_into(found)
            whole = beside.encode(fd, found.began, found.map, found.contents)
            try:
                Path(beside.beside(self._path)).write_bytes(whole)
                known = beside.load(fd, self._path)
                if known is not None and known[0].chunks != found.map.chunks:
                    raise Misled("the index is not what was found")
                Path(beside.beside(self._path)).write_bytes(forge(whole, self._rng))
                self._forged(fd, len(data) + len(whole) * EACH_ENTRY)
            finally:
                os.unlink(beside.beside(self._path))

    def _forged(self, fd: int, room: int) -> None:
        if beside.load(fd, self._path) is None:
            return
        self.forged += 1
        with MemoryImage(self._path) as found:
            look_into(found)
            check_dump(found, Format.RAW, room)
            check_dump(found, Format.ELF, room)

    def _dumps(self, fd: int, data: bytes) -> None:
        """In one of the formats: out of a pipe as out of a file, in no more room than the stream takes."""
        how = self._rng.choice(list(Format))
        files = [os.memfd_create("dump") for _ in range(2)]
        try:
            from_file = outcome(lambda to: dump(fd, to, how), files[0])
            from_pipe = outcome(lambda to: piped(data, to, how), files[1])
            if from_file != from_pipe:
                raise Misled(f"{how.value} out of a file and a pipe: {from_file}, {from_pipe}")
            if from_file[0] == "done" and not same(*files):
                raise Misled(f"{how.value} out of a file and out of a pipe differ")
            taken = max(os.fstat(x).st_blocks * 512 for x in files)
            if taken > ROOM + (ROOM_PER_BYTE + CONTEXT / 16) * len(data):
                raise Misled(f"{how.value}: {taken >> 10} KiB for {len(data)} bytes")
        finally:
            for file in files:
                os.close(file)

    def _compare(self, fd: int, data: bytes) -> None:
        """With itself, and both ways with the input that it was made from."""
        other = os.memfd_create("before")
        try:
            os.write(other, self.before)
            os.lseek(other, 0, os.SEEK_SET)
            with MemoryImage(fd) as found:
                if not compare(found, found).same:
                    raise Misled("an image differs from itself")
                with MemoryImage(other) as before:
                    there, back = compare(found, before), compare(before, found)
                    if (there.same, there.content.ranges) != (back.same, back.content.ranges):
                        raise Misled("what differs depends on which is named first")
        finally:
            os.close(other)

    def _containers(self, fd: int, data: bytes) -> None:
        for function in (image_targets.details, lambda fd: convert(fd, len), verify_input):
            os.lseek(fd, 0, os.SEEK_SET)
            with suppress(pyxcsr.XcsrError):
                function(fd)

    def _checkpoints(self, fd: int, data: bytes) -> None:
        image_targets.checkpoints(fd)


def forge(whole: bytes, rng: random.Random) -> bytes:
    """An index with some words changed, and its length and digest right again."""
    body = bytearray(whole[beside._HEAD.size :])
    telling = [at for at in range(beside._FACTS.size, len(body) - 8) if body[at]]
    for _ in range(rng.choice((1, 1, 2, 5))):
        size = rng.choice((1, 2, 4, 8))
        at = rng.choice(telling) if telling and rng.random() < 0.8 else rng.randrange(len(body) - size + 1)
        old = int.from_bytes(body[at : at + size], "little")
        new = rng.choice((rng.choice(NUMBERS), old + 1, old - 1, old ^ 1 << rng.randrange(8 * size)))
        body[at : at + size] = (new % (1 << 8 * size)).to_bytes(size, "little")
    if rng.random() < 0.1:
        del body[rng.randrange(len(body)) :]
    return beside._HEAD.pack(beside.MAGIC, len(body), hashlib.sha256(body).digest()) + body


def outcome(function: Callable[[int], object], out: int) -> tuple[str, str]:
    """Whether it succeeded, and what its error was, without the words that tell where the bytes came from."""
    try:
        function(out)
    except pyxcsr.XcsrError as error:
        return type(error).__name__, ""
    return "done", str(os.fstat(out).st_size)


def piped(data: bytes, out: int, how: Format) -> None:
    """A dump out of a pipe, which has room for all of the input."""
    reads, writes = os.pipe()
    try:
        with open(writes, "wb", buffering=0) as file:
            fcntl.fcntl(writes, F_SETPIPE_SZ, PIPE)
            if file.write(data) != len(data):
                raise Misled("the pipe has not taken the input")
        dump(reads, out, how, folder=QUICK)
    finally:
        os.close(reads)


def same(a: int, b: int) -> bool:
    """Whether two sparse files have the same data at the same places; holes and zeros are alike."""
    return list(islice(pieces(a), 1 << 16)) == list(islice(pieces(b), 1 << 16))


def pieces(fd: int) -> Iterator[tuple[int, bytes]]:
    """Each page that is not all zeros."""
    at = 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, at, os.SEEK_HOLE)
        while at < end:
            page = os.pread(fd, min(4096, end - at), at)
            if page.strip(b"\0"):
                yield at, page
            at += len(page)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(seconds: float, seed: int, most: int = 0) -> tuple[Outcome, int, int]:
    """Runs for so long, or ``most`` inputs.

    What came of it, how often a target ran, and how many forged indexes were believed.
    """
    rng, coverage, out = random.Random(seed), Coverage(), Outcome()
    mutator, deadline = Mutator(rng), time.monotonic() + seconds
    out.corpus = small_seeds()
    with Images(seed) as images:
        start = resident()
        while time.monotonic() < deadline and not (most and out.executions >= most):
            images.before = rng.choice(out.corpus)
            data = mutator(images.before, out.corpus)[:SMALL]
            one(images, data, coverage if out.executions % TRACED == 0 else None, out)
            if resident() > start + MEMORY:
                out.findings.append((f"{resident() - start >> 20} MiB more memory", data))
                break
        out.lines = len(coverage.lines)
        return out, images.executions, images.forged
