"""A save to a file on a disk until fsync() has returned: beside writing all of it and then fsync()."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Callable

from benchmarks.cases.full import Bench
from benchmarks.context import Context
from benchmarks.guests import guest, pages_of
from benchmarks.measure import in_turn, timed
from benchmarks.rows import Goal, Row, compared
from benchmarks.savers import Ours

GOAL = Goal(1.2)


def _to_new_file(context: Context, write: Callable[[int], object]) -> float:
    """Seconds from an empty file to one that is on the disk."""
    path = context.disk / f"durable-{os.getpid()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write_and_sync() -> None:
        write(fd)
        os.fsync(fd)

    try:
        return timed(write_and_sync)
    finally:
        os.close(fd)
        path.unlink()
        os.sync()


def run(context: Context) -> Iterator[Row]:
    """Rows: beside a bare write, and libxenguest."""
    size = context.size("1G", "16M")
    pages = pages_of(size)
    with guest(size) as (hv, domid):
        bench = Bench(context, hv, domid, pages)
        with bench.mapping:
            context.say(f"durable save of {size} to {context.disk}")
            ours, theirs = Ours(hv, domid, durable=True), bench.theirs
            writers: dict[str, Callable[[int], object]] = {
                "bare": bench.bare,
                "ours": lambda fd: ours.save(fd, live=True),
            }
            if theirs:
                writers["theirs"] = lambda fd: theirs.save(fd, live=True)
            actions = [lambda write=x: _to_new_file(context, write) for x in writers.values()]
            seconds = dict(zip(writers, in_turn(context.repeats, *actions)))
    rate: dict[str, Any] = {"scale": 1e3, "unit": "ms"}
    what = "to disk, with fsync: over bare writev, then fsync"
    yield compared("durable", what, seconds["bare"], seconds["ours"], goal=GOAL, names=("bare", "ours"), **rate)
    if "theirs" in seconds:
        what, names = "to disk, with fsync: over libxenguest, then fsync", ("libxenguest", "ours")
        yield compared("durable", what, seconds["theirs"], seconds["ours"], names=names, **rate)
