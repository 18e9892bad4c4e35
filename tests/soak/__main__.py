"""``PYTHONPATH=tests python -m soak [ROUNDS]``: saves and restores in one process; memory and descriptors stay flat.

Each round saves a guest (live and non-live in turn, every third time into a pipe whose reader goes away), restores the
stream into a new domain, lets that one's kernel start, and destroys both. Every tenth of the way the process's resident
memory, open descriptors and memory maps are told, with the stub's account of what is open. Fails if any of them grows.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pyxcsr

GUEST = "pv64:mem=4M,vcpus=2,holes=0.05,seed={},writes=6"
GROWTH = 1 << 20
"""Bytes of resident memory that the second half may add to the first half's end: the allocator's, not ours."""


class Sample(NamedTuple):
    """What a process has."""

    round: int
    resident: int
    descriptors: int
    maps: int
    usage: dict[str, int]


def sample(number: int, hv: Any) -> Sample:
    """Now."""
    gc.collect()
    text = Path("/proc/self/status").read_text()
    own = next(int(x.split()[1]) << 10 for x in text.splitlines() if x.startswith("RssAnon"))  # not the stub's machine
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    return Sample(number, own, len(os.listdir("/proc/self/fd")), maps, hv.stub.leaks())


def one_round(hv: Any, number: int, path: Path) -> None:
    """A save, a restore, and every third time a save that fails."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse(GUEST.format(number)))
    if number % 3 == 0:
        broken_save(hv, domid)
    with open(path, "wb") as out:
        pyxcsr.save(hv, domid, out, live=number % 2 == 0)
    hv.stub.destroy(domid)
    new = hv.stub.create_empty("8M", vcpus=2)
    with open(path, "rb") as source:
        pyxcsr.restore(hv, new, source)
    hv.stub.guest(new).adopt()
    hv.stub.destroy(new)


def broken_save(hv: Any, domid: int) -> None:
    """Nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        pyxcsr.save(hv, domid, writer)
    except pyxcsr.OutputError:
        return
    finally:
        os.close(writer)
    raise AssertionError("a save into a pipe without a reader succeeded")


def soak(rounds: int, show: bool = True) -> list[Sample]:
    """The samples: at a tenth of the way, two tenths, and so on."""
    samples = []
    with pyxcsr.open_hypervisor("stub") as hv, tempfile.TemporaryDirectory() as work:
        hv.stub.reset(frames=1 << 14, force=True)  # type: ignore[union-attr]
        for number in range(1, rounds + 1):
            one_round(hv, number, Path(work, "stream"))
            if number % max(1, rounds // 10) == 0:
                samples.append(sample(number, hv))
                if show:
                    print(*samples[-1], flush=True)
    return samples


def problems(samples: list[Sample]) -> list[str]:
    """What has grown from the middle to the end."""
    middle, last = samples[len(samples) // 2], samples[-1]
    out = [f"{x} is open after round {s.round}" for s in samples for x in s.usage]
    if last.resident > middle.resident + GROWTH:
        out.append(f"resident memory: {middle.resident} to {last.resident} bytes")
    for name in ("descriptors", "maps"):
        before, after = getattr(middle, name), getattr(last, name)
        if after > before:
            out.append(f"{name}: {before} to {after}")
    return out


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="saves and restores, again and again")
    parser.add_argument("rounds", type=int, nargs="?", default=500)
    found = problems(soak(parser.parse_args().rounds))
    print("\n".join(found) or "flat")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
