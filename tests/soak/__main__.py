"""``PYTHONPATH=tests python -m soak [ROUNDS]``: saves and restores in one process; memory and descriptors stay flat.

Each round saves a guest (PV of 64 and 32 bits, PVH, and HVM with a device model at a socket; live and non-live in turn,
every fourth time of a kind with checkpoints, every third time into a pipe whose reader goes away), restores the stream
into a new domain, lets that one's kernel start, and destroys both. Every tenth of the way the process's resident
memory, open descriptors and memory maps are told, with the stub's account of what is open. Fails if any of them grows.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

from devicemodel.stub_qemu import qemu_of

import pyxcsr
from pyxcsr.devicemodel.qemu import Qemu

GUESTS = (
    "pv64:mem=4M,vcpus=2,holes=0.05,seed={},writes=6",
    "pv32:mem=4M,vcpus=2,holes=0.05,seed={},writes=6",
    "pvh:mem=4M,vcpus=2,holes=0.05,seed={},writes=6,balloon=1,balloon_every=40,compact=yes",
    "hvm:mem=4M,vcpus=2,vram=128K,seed={},writes=6,devmodel=2,compact=yes",
)
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
    text = GUESTS[number % len(GUESTS)]
    domid = hv.stub.create(pyxcsr.StubGuest.parse(text.format(number)))
    kind, turn = text.split(":", maxsplit=1)[0], number // len(GUESTS)
    checkpointed = pyxcsr.Checkpointed(0.0, count=3) if turn % 4 == 2 else None
    with device_model(hv, domid, path.with_name("qmp")) as qemu:
        if turn % 3 == 0:
            broken_save(hv, domid, qemu)
        with open(path, "wb") as out:
            pyxcsr.save(hv, domid, out, live=turn % 2 == 0, device_model=qemu, checkpointed=checkpointed)
    hv.stub.destroy(domid)
    new = hv.stub.create_empty("8M", vcpus=2, kind=kind)
    with open(path, "rb") as source:
        pyxcsr.restore(hv, new, source, checkpointed=checkpointed is not None)
    hv.stub.guest(new).adopt()
    hv.stub.destroy(new)


@contextmanager
def device_model(hv: Any, domid: int, socket: Path) -> Iterator[Optional[Qemu]]:
    """A QEMU for an HVM guest; None for others."""
    guest = hv.stub.guest(domid)
    if not guest.state().device_model:
        yield None
        return
    with qemu_of(guest, socket):
        yield Qemu(domid, str(socket))


def broken_save(hv: Any, domid: int, qemu: Optional[Qemu]) -> None:
    """Nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        pyxcsr.save(hv, domid, writer, device_model=qemu)
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
