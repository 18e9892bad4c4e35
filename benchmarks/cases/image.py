"""A saved guest as data: the index of a large stream, and a raw dump beside cp of the same stream.

The large stream is a sparse file: of its pages nothing is read. The one that is dumped is a whole guest's. Both dumps
and copies are processes of their own, which are timed by the wall clock until the file is on the disk, and in memory by
their processor time. Each finds the disk idle: what the one before has left to be written, and the blocks of its file
to be given back, are waited for outside of its time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyxcsr
from benchmarks.context import Context
from benchmarks.guests import PAGE, machine, pages_of
from benchmarks.measure import Action, in_turn, timed
from benchmarks.rows import Goal, Row, compared, of_values
from benchmarks.starts import spent
from pyxcsr.hypervisor.stub.text import StubGuest
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.runs import row

GOAL, SECONDS = Goal(0.8), Goal(2.0, least=False)
BATCH = 1024
"""Pages in a record, as savers send them."""

DUMP = "import sys; from pyxcsr.cli.main import main; sys.exit(main(['dump', '--quiet', *sys.argv[1:]]))"
MEMORY = Path("/dev/shm")


def saved(size: str, path: Path) -> None:
    """A PVH guest of the stub, saved into a file."""
    with machine(size) as hv, path.open("wb") as out:
        domid = hv.stub.create(StubGuest.pvh(mem=size, writer="none"))
        pyxcsr.save(hv, domid, out, live=False)
        hv.stub.destroy(domid)


def enlarge(small: Path, size: str, path: Path) -> None:
    """A stream with the records of a small one, and ``size`` of pages, which are holes."""
    with small.open("rb") as file, path.open("wb") as out:
        reader, sent = StreamReader(file), False
        out.write(reader.image_header.encode() + reader.domain_header.encode())
        for record in reader:
            if not isinstance(record, rec.PageData):
                out.write(rec.frame(record))
            elif not sent:
                sent = True
                for first in range(0, pages_of(size), BATCH):
                    head = rec.packed([BATCH]) + rec.packed(row(first, 1, BATCH))
                    out.write(rec.packed([RecordType.PAGE_DATA | (len(head) + BATCH * PAGE) << 32]) + head)
                    out.seek(BATCH * PAGE, os.SEEK_CUR)


def _indexed(path: Path) -> float:
    """Seconds that it takes to learn where each page of a stream stands."""
    return timed(lambda: pyxcsr.MemoryImage(path, index=False).close())


def _into(path: Path, command: list[str], on_disk: bool) -> Action:
    """Runs a program that writes ``path``: seconds until it is on the disk, or of processor time."""

    def run() -> float:
        seconds = spent(command)
        if on_disk:
            subprocess.run(["sync", path], check=True)
        return seconds

    def action() -> float:
        os.sync()  # the stream itself was not on the disk yet, nor is the file gone that a run before has removed
        try:
            return timed(run) if on_disk else run()
        finally:
            path.unlink(missing_ok=True)

    return action


def _dumps(context: Context, stream: Path, size: str, on_disk: bool) -> Row:
    out = stream.with_name("out")
    ours = [sys.executable, "-c", DUMP, "--format", "raw", os.fspath(stream), os.fspath(out)]
    copy = ["cp", os.fspath(stream), os.fspath(out)]
    where = f"raw dump of {size}, {'to disk' if on_disk else 'in memory, processor time'}"
    context.say(where)
    seconds = in_turn(context.repeats, _into(out, copy, on_disk), _into(out, ours, on_disk))
    return compared("image", f"{where}: over cp", *seconds, goal=GOAL, names=("cp", "ours"), scale=1e3, unit="ms")


def run(context: Context) -> Iterator[Row]:
    """The rows."""
    large, size = context.size("16G", "64M"), context.size("2G", "8M")
    for folder in (context.disk, MEMORY):
        if not os.access(folder, os.W_OK):
            continue
        with tempfile.TemporaryDirectory(dir=folder, prefix="image-") as name:
            stream = Path(name, "stream")
            saved(size, stream)
            if folder == context.disk:
                enlarge(stream, large, Path(name, "large"))
                context.say(f"the index of {large}")
                (seconds,) = in_turn(context.repeats, lambda: _indexed(Path(name, "large")))
                yield of_values("image", f"index of {large}, warm", seconds, unit="s", goal=SECONDS)
            yield _dumps(context, stream, size, folder == context.disk)
