"""Streams made to cost much: time and memory grow with their length, and no faster."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import hvm
from support.containers import HVM
from support.pace import too_long
from support.peak import peak_begins, status

from fuzz import image_targets
from fuzz.corpus import seed
from fuzz.mutate import Pieces, apart, together

PAGE_DATA, P2M_FRAMES, BASIC, CONTEXT, PARAMS, OPTIONAL = 1, 3, 4, 9, 10, 0x80000042
VCPU_MSRS, CPUID_POLICY, MSR_POLICY = 12, 17, 18
XTAB = 0xF << 60
SMALL, LARGE = 1 << 13, 1 << 15
SECONDS = 2.0 * (5 + len(image_targets.TARGETS))
"""Of an ordinary machine's processor time for the longer stream: two for each target."""

MOST = 7.0
"""A stream four times as long may take so many times as long: four, and noise."""

Family = Callable[[Pieces, int], Pieces]


def page_data(entries: list[int], pages: bytes = b"") -> tuple[int, bytes]:
    return (PAGE_DATA, struct.pack(f"<II{len(entries)}Q", len(entries), 0, *entries) + pages)


def before_tail(pieces: Pieces, extra: Pieces) -> Pieces:
    at = max(i for i, (code, _) in enumerate(pieces) if code == PAGE_DATA) + 1
    return [*pieces[:at], *extra, *pieces[at:]]


def tables(pieces: Pieces, nr_bytes: int) -> Pieces:
    """Page tables again and again, each full of entries to scattered pfns."""
    rng = random.Random(1)
    words = [struct.pack("<512Q", *(rng.randrange(256) << 12 | 0x67 for _ in range(512))) for _ in range(4)]
    return before_tail(pieces, [page_data([1 << 60 | i % 256], words[i % 4]) for i in range(nr_bytes // 4128)])


FAMILIES: dict[str, Family] = {
    "empty optional records": lambda p, n: before_tail(p, [(OPTIONAL, b"")] * (n // 8)),
    "records with one entry": lambda p, n: before_tail(p, [page_data([XTAB | i % 256]) for i in range(n // 24)]),
    "records with all pfns": lambda p, n: before_tail(
        p, [page_data([XTAB | i for i in range(256)]) for _ in range(n // 2064)]
    ),
    "one record with many entries": lambda p, n: before_tail(p, [page_data([XTAB | i for i in range(n // 8)])]),
    "entries with reserved bits": lambda p, n: before_tail(p, [page_data([1 << 55 | i for i in range(n // 8)])]),
    "entries far apart": lambda p, n: before_tail(
        p, [page_data([XTAB | i * 0x10001 & (1 << 52) - 1]) for i in range(n // 24)]
    ),
    "frame lists again": lambda p, n: before_tail(p, [x for x in p if x[0] == P2M_FRAMES] * (n // 24)),
    "frame lists that grow": lambda p, n: before_tail(
        p, [(P2M_FRAMES, struct.pack("<IIQ", 0, 511, 3)),
            *((P2M_FRAMES, struct.pack("<IIQ", 512 * i, 512 * i + 511, 3)) for i in range(1, n // 24))],
    ),
    "a long frame list": lambda p, n: before_tail(
        p, [(P2M_FRAMES, struct.pack(f"<II{n // 8}Q", 0, 512 * (n // 8) - 1, *([3] * (n // 8))))]
    ),
    "page tables": tables,
    "contexts": lambda p, n: before_tail(
        p, [(BASIC, struct.pack("<II", i % 64, 0) + bytes(5168)) for i in range(n // 5184)]
    ),
    "contexts of many vcpus": lambda p, n: before_tail(p, [(BASIC, struct.pack("<II", i, 0)) for i in range(n // 16)]),
}  # fmt: skip


def params(numbers: list[tuple[int, int]]) -> tuple[int, bytes]:
    """An HVM_PARAMS record."""
    return (PARAMS, struct.pack("<II", len(numbers), 0) + b"".join(struct.pack("<QQ", *pair) for pair in numbers))


def context(entry: bytes, nr_bytes: int) -> tuple[int, bytes]:
    """An HVM_CONTEXT record full of one save record."""
    return (CONTEXT, hvm.header() + entry * (nr_bytes // len(entry)) + hvm.END)


VIRIDIAN_VCPU = hvm.record(17, 0, (0x5001).to_bytes(8, "little"))
HVM_FAMILIES: dict[str, Family] = {
    "parameters that are unknown": lambda p, n: before_tail(p, [params([(i, i) for i in range(n // 16)])]),
    "one parameter again": lambda p, n: before_tail(p, [params([(1, i) for i in range(n // 16)])]),
    "records of parameters": lambda p, n: before_tail(p, [params([(1, 0x999)]) for _ in range(n // 32)]),
    "empty save records": lambda p, n: before_tail(p, [context(hvm.record(21, 0, b""), n)]),
    "save records with pages": lambda p, n: before_tail(p, [context(VIRIDIAN_VCPU, n)]),
    "contexts again": lambda p, n: before_tail(p, [context(VIRIDIAN_VCPU, 64)] * (n // 104)),
}


def instead(pieces: Pieces, code: int, body: bytes) -> Pieces:
    """Another body for each record of a type, where the stream has it."""
    return [(code, body) if piece[0] == code else piece for piece in pieces]


def msrs(nr_bytes: int, reserved: int = 0) -> bytes:
    """As many MSRs, all of another index and value."""
    return b"".join(struct.pack("<IIQ", 1000 + i, reserved, 1 << 40 | i) for i in range(nr_bytes // 16))


def leaves(nr_bytes: int) -> bytes:
    """As many CPUID leaves, none of which is the first."""
    return b"".join(struct.pack("<6I", 1000 + i, i, *[1 << 20 | i] * 4) for i in range(nr_bytes // 24))


ENTRY_FAMILIES: dict[str, tuple[str, Family]] = {
    "an MSR policy": ("hvm", lambda p, n: instead(p, MSR_POLICY, msrs(n))),
    "an MSR policy with reserved bits": ("pv", lambda p, n: instead(p, MSR_POLICY, msrs(n, 1))),
    "MSRs of a vcpu": ("pv", lambda p, n: instead(p, VCPU_MSRS, bytes(8) + msrs(n))),
    "a CPUID policy": ("hvm", lambda p, n: instead(p, CPUID_POLICY, leaves(n))),
}
ENTRY_BYTES, ENTRY_FACTOR = 3, 128
"""Memory for each byte of one long record of such entries, and how much longer it is than other streams: 4 MiB."""


def cost(targets: Any, data: bytes) -> tuple[float, int]:
    """Seconds (the lesser of two), and bytes of memory at most, of all that reads a stream."""
    fd = os.memfd_create("stream")
    os.write(fd, data)
    times, before = [], peak_begins()
    for _ in range(2):
        began = time.process_time()
        mine = (targets._read, targets._verify, targets._inspect, targets._image, targets._restore)
        for target in (*mine, *image_targets.TARGETS):
            os.lseek(fd, 0, os.SEEK_SET)
            target(fd)
        times.append(time.process_time() - began)
    os.close(fd)
    return min(times), max(0, status("VmHWM") - before)


@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="measures memory")
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this kernel does not tell the peak")
@pytest.mark.parametrize("name", FAMILIES)
def test_cost_grows_with_length(targets: Any, name: str) -> None:
    check_cost(targets, seed("stub-live"), FAMILIES[name])


@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="measures memory")
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this kernel does not tell the peak")
@pytest.mark.parametrize("name", HVM_FAMILIES)
def test_cost_grows_with_length_in_hvm_streams(targets: Any, name: str) -> None:
    check_cost(targets, HVM, HVM_FAMILIES[name], factor=32)


@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="measures memory")
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this kernel does not tell the peak")
@pytest.mark.parametrize("name", ENTRY_FAMILIES)
def test_a_long_record_of_entries_is_never_a_list(targets: Any, name: str) -> None:
    kind, family = ENTRY_FAMILIES[name]
    stream = HVM if kind == "hvm" else seed("stub-live")
    check_cost(targets, stream, family, factor=ENTRY_FACTOR, bytes_per_byte=ENTRY_BYTES)


def check_cost(targets: Any, stream: bytes, family: Family, factor: int = 1, bytes_per_byte: int = 16) -> None:
    """``stream`` made longer by ``family``: time and memory are bounded; ``factor``: how much longer than others."""
    head, pieces, _ = apart(stream)
    assert any(code == PAGE_DATA for code, _ in pieces)
    streams = [together(head, family(pieces, n * factor), b"") for n in (SMALL, LARGE)]
    base = cost(targets, together(head, pieces, b""))[0]
    (short, _), (long, nr_bytes) = (cost(targets, x) for x in streams)
    assert len(streams[1]) > LARGE * factor * 3 // 4, "the family makes it longer"
    most = (16 << 20) + bytes_per_byte * len(streams[1])
    assert nr_bytes < most, f"{nr_bytes >> 20} MiB for {len(streams[1]) >> 10} KiB"
    assert long - base < MOST * max(short - base, 0.02), f"{long:.2f} s after {short:.2f} s"
    assert not too_long(long, SECONDS + base), f"{long:.2f} s"
