"""Checkpointed streams, fuzzed: what comes of the last whole checkpoint must be the same, whatever stands behind it.

An input is restored with ``checkpointed=True``. Then the same input, cut off behind the last checkpoint that the first
restore found whole, is restored into another domain. Both must end the same: in a guest of which every page, type, vcpu
and parameter is the same, or with an error of the same kind. So nothing of a checkpoint that never became whole reaches
the guest, or decides whether there is one. Time and memory are bounded; an error is one that is documented, and says
something; the domain stays paused, with nothing left mapped.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any, NamedTuple, Optional

from peer.image import image_of, kept_of_shared_info
from support import hvm_truth
from support.pace import too_long
from support.peak import peak_begins, status
from support.remus import is_whole_with, places
from support.widths import WIDTHS

import pyxcsr
from fuzz.corpus import REMUS, seed
from fuzz.engine import Coverage, Outcome, one
from fuzz.mutate import HEADERS, Mutator
from fuzz.targets import DOMAIN, VCPUS, Finding, is_hvm

TRACED = 10
"""One input in so many is traced, and kept if it reaches lines that none has reached."""

BEHIND = 0.85
"""The share of inputs that are changed only behind the first checkpoint: others hardly come that far."""

SECONDS = 3.0
MEMORY, MEMORY_PER_BYTE = 32 << 20, 16
"""Of a restore: processor time, and resident memory besides the domain."""


class Result(NamedTuple):
    """Of a restore: how many checkpoints were whole, the kind of error, or the guest."""

    whole: int
    error: str
    image: Optional[dict[str, Any]]


class Epochs:
    """The target, on a machine of its own. ``failed_over``, ``refused``: how many inputs ended so."""

    def __init__(self) -> None:
        self._hv: Any = pyxcsr.open_hypervisor("stub")
        self._hv.stub.reset(frames=1 << 13, force=True)
        self.executions = self.failed_over = self.refused = 0

    def close(self) -> None:
        """The machine goes."""
        self._hv.stub.reset(force=True)
        self._hv.close()

    def __call__(self, data: bytes) -> None:
        """Raises Finding."""
        self.executions += 1
        found = self._restored(data)
        self.refused += bool(found.error)
        if not found.whole:
            if not found.error:
                self._as_a_plain_one(data, found)
            return
        ends = [x.end for x in places(data) if is_whole_with(x, False)]
        if len(ends) < found.whole:
            raise Finding(f"{found.whole} checkpoints of {len(ends)}")
        self.failed_over += not found.error
        alone = self._restored(data[: ends[found.whole - 1]])
        if found[:2] != alone[:2]:
            raise Finding(f"{found[:2]}, and without what stands behind: {alone[:2]}")
        differing = differences(found.image, alone.image)
        if differing:
            raise Finding(f"what stands behind checkpoint {found.whole} changes {differing[:4]}")

    def _as_a_plain_one(self, data: bytes, found: Result) -> None:
        """END has come where the first CHECKPOINT was to be: it is a plain stream, and a plain restore takes it."""
        plain = self._restored(data, checkpointed=False)
        if plain.error or differences(found.image, plain.image):
            raise Finding(f"restored without a whole checkpoint; a plain restore: {plain.error or 'another guest'}")

    def _restored(self, data: bytes, checkpointed: bool = True) -> Result:
        fd, whole = os.memfd_create("stream"), 0

        def checkpoint() -> bool:
            nonlocal whole
            whole += 1
            return True

        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        kind = "pvh" if is_hvm(data[:HEADERS]) else "pv64"
        domid = self._hv.stub.create_empty(DOMAIN, vcpus=VCPUS, kind=kind)
        began, before = time.process_time(), peak_begins()
        try:
            more = {"checkpointed": True, "checkpoint": checkpoint} if checkpointed else {}
            report = pyxcsr.restore(self._hv, domid, fd, **more)
            self._bounded(len(data), began, before)
            if report.checkpoints != whole:
                raise Finding(f"{report.checkpoints} checkpoints are told of, {whole} were whole")
            image = hvm_truth.image_of if kind == "pvh" else pv_image
            return Result(whole, "", image(self._hv, domid))
        except pyxcsr.XcsrError as error:
            self._bounded(len(data), began, before)
            if not str(error):
                raise Finding(f"{error!r} says nothing") from error
            return Result(whole, type(error).__name__, None)
        finally:
            os.close(fd)
            state = self._hv.stub.guest(domid).state()
            self._hv.stub.destroy(domid)
            leaks = self._hv.stub.leaks()
            if state.running or not state.paused or leaks:
                raise Finding(f"leaves {leaks}, {state}")

    @staticmethod
    def _bounded(length: int, began: float, before: int) -> None:
        seconds, more = time.process_time() - began, status("VmHWM") - before
        if too_long(seconds, SECONDS):
            raise Finding(f"{seconds:.1f} s for {length} bytes")
        if more > MEMORY + DOMAIN + MEMORY_PER_BYTE * length:
            raise Finding(f"{more >> 20} MiB for {length} bytes")


def pv_image(hv: Any, domid: int) -> dict[str, Any]:
    """A restored PV guest, but for what names frames: its p2m is told by pfns, start_info by its place."""
    found = image_of(hv, domid, leaves=[])
    guest, width = hv.stub.guest(domid), WIDTHS[found["width"]]
    for pfn, known in found["pages"].items():
        if known[0] == "NOTAB":
            known[1] = by_pfn(hv, domid, width, guest.read_page(int(pfn)))
    found["pages"].pop(str(found["start_info_pfn"]), None)
    found["shared_info"] = kept_of_shared_info(width, bytes.fromhex(found["shared_info"])).hex()
    return found


def by_pfn(hv: Any, domid: int, width: Any, page: bytes) -> str:
    """A page in which words that name frames of the domain's own are pfns. Most have none, and few words."""
    if not any(page):
        return ""
    words = list(width.words(page))
    for i, word in enumerate(words):
        if 0 < word < hv.stub.max_page:
            owner, pfn, _ = hv.stub.frame(word)
            words[i] = pfn if owner == domid else word
    return bytes(width.page(words)).hex()


def differences(one: Optional[dict[str, Any]], other: Optional[dict[str, Any]]) -> list[str]:
    """Names of what differs; of pages each."""
    if one is None or other is None:
        return [] if one is other else ["whether there is a guest"]
    names = ("nr_pfns", "start_info_pfn", "vcpus", "shared_info", "params", "context")
    found = [x for x in names if one.get(x) != other.get(x)]
    pages = (one["pages"], other["pages"])
    return found + [f"page {x}" for x in {*pages[0], *pages[1]} if pages[0].get(x) != pages[1].get(x)]


def changed(mutator: Mutator, rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """The input with changes; mostly behind its first checkpoint."""
    first = next((x.end for x in places(data) if is_whole_with(x, False)), 0)
    if not first or rng.random() >= BEHIND:
        return mutator(data, corpus)
    return data[:first] + mutator(data[:HEADERS] + data[first:], corpus)[HEADERS:]


def run(seconds: float, seed_of_chance: int, most: int = 0) -> tuple[Outcome, Epochs]:
    """Runs for so long, or ``most`` inputs."""
    rng, coverage, out = random.Random(seed_of_chance), Coverage(), Outcome()
    mutator, deadline, target = Mutator(rng), time.monotonic() + seconds, Epochs()
    try:
        out.corpus = [seed(x) for x in REMUS]
        for data in out.corpus[:]:
            one(target, data, None, out)
        while time.monotonic() < deadline and not (most and out.executions >= most):
            data = changed(mutator, rng, rng.choice(out.corpus), out.corpus)
            one(target, data, coverage if out.executions % TRACED == 0 else None, out)
    finally:
        target.close()
    out.lines = len(coverage.lines)
    return out, target
