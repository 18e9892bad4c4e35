"""Legacy (version 1) images as xc_domain_save of Xen 4.2 to 4.5 wrote them, and Xen's own converter.

An image is made from the records of a version 3 stream of the same guest: holes lose their pfns, magic pages come apart
from the other parameters, extended vcpu contexts have 128 bytes, the TSC comes ahead of the last pages.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from pyxcsr.stream import records as rec
from support import oracle

R = TypeVar("R", bound=rec.Record)
Vcpu = TypeVar("Vcpu", rec.VcpuBasic, rec.VcpuExtended, rec.VcpuXsave)

HOLE = 0xF000_0000
VCPU_INFO, TSC_INFO = -2, -7
PARAM_CHUNKS = {12: -3, 15: -4, 17: -8, 19: -10, 9: -11, 34: -14, 27: -15, 28: -16, 29: -17, 32: -19, 33: -20}
MAGIC = (5, 6, 1)  # ioreq, bufioreq, store
VM86_TSS, VM86_TSS_SIZED = 15, 37


def of_class(records: Sequence[rec.Record], kind: type[R]) -> list[R]:
    """The records of a class."""
    return [record for record in records if isinstance(record, kind)]


def pages(record: rec.PageData) -> bytes:
    """A batch of pages."""
    entries = [HOLE if kind == 0xF else kind << 28 | pfn for pfn, kind, _ in record.items()]
    return struct.pack(f"<i{len(entries)}Q", len(entries), *entries) + bytes(record.pages)


def batches(records: Sequence[rec.Record], *, live: bool) -> Iterator[bytes]:
    """All pages, and the TSC if there is one: ahead of the last batch (``live``) or of all. Xen skips batches of holes.
    """
    times = of_class(records, rec.TscInfo)
    listed = [record for record in of_class(records, rec.PageData) if record.nr_pages]
    at = len(listed) - 1 if live else 0
    for index, record in enumerate(listed):
        for tsc in times if index == at else []:
            yield struct.pack("<iIQII", TSC_INFO, tsc.mode, tsc.nsec, tsc.khz, tsc.incarnation)
        yield pages(record)


def pv(records: Sequence[rec.Record], *, live: bool = True) -> bytes:
    """The image of a PV guest."""
    frames = of_class(records, rec.P2mFrames)[0]
    basics, extended = by_id(records, rec.VcpuBasic), by_id(records, rec.VcpuExtended)
    xsaves = by_id(records, rec.VcpuXsave)
    lengths = {len(blob) for blob in xsaves.values()}
    blocks = block(b"vcpu", bytes(len(basics[0]))) + block(b"extv", b"")
    if lengths:
        blocks += block(b"xcnt", struct.pack("<I", lengths.pop() + 16))
    out = struct.pack("<QQI", frames.end_pfn + 1, (1 << 64) - 1, len(blocks)) + blocks
    out += rec.packed(frames.frames) + b"".join(batches(records, live=live))
    out += struct.pack("<iiQ", VCPU_INFO, max(basics), sum(1 << vcpu for vcpu in basics)) + struct.pack("<i", 0)
    out += struct.pack("<I", 0)  # pfns that were unmapped on the way
    for vcpu, blob in sorted(basics.items()):
        out += blob + extended[vcpu].ljust(128, b"\0")
        if xsaves:
            out += struct.pack("<QQ", 7, len(xsaves[vcpu])) + xsaves[vcpu]
    return out + bytes(of_class(records, rec.SharedInfo)[0].blob)


def by_id(records: Sequence[rec.Record], kind: type[Vcpu]) -> dict[int, bytes]:
    """vcpu id -> blob."""
    return {record.vcpu_id: bytes(record.blob) for record in of_class(records, kind)}


def block(name: bytes, data: bytes) -> bytes:
    """A block of extended information."""
    return name + struct.pack("<I", len(data)) + data


def hvm(records: Sequence[rec.Record], *, live: bool = True, model: bytes = b"QEVM...") -> bytes:
    """The image of an HVM guest with the state of its device model."""
    params = dict(of_class(records, rec.HvmParams)[0].params)
    if VM86_TSS_SIZED in params:  # there was no size then
        params[VM86_TSS] = params.pop(VM86_TSS_SIZED) & 0xFFFF_FFFF
    highest = max(max(record.pfns) for record in of_class(records, rec.PageData))
    out = struct.pack("<Q", highest + 1) + b"".join(batches(records, live=live))
    for index, value in params.items():
        if index in PARAM_CHUNKS:
            out += struct.pack("<iIQ", PARAM_CHUNKS[index], 0, value)
    out += struct.pack("<i3Q", 0, *(params.get(index, 0) for index in MAGIC))
    context = bytes(of_class(records, rec.HvmContext)[0].blob)
    out += struct.pack("<I", len(context)) + context
    return out + b"DeviceModelRecord0002" + struct.pack("<I", len(model)) + model


def xl(stream: bytes, config: bytes) -> bytes:
    """A converted libxl stream in a save file that was of xl of Xen 4.1 to 4.4: its configuration is text, or none.

    The converter makes it so with -x: it copies header and configuration, and sets xl's flag of version 2. (With
    Python 3 it can not, since it compares bytes with a string there.)
    """
    head = b"Xen saved domain, xl format\n \0 \r" + struct.pack("<4I", 0x01020304, 2, 0, 4 + len(config))
    return head + struct.pack("<I", len(config)) + config + stream


def convert(image: bytes, folder: Path, guest: str, form: str = "libxc", *options: str) -> bytes:
    """What convert-legacy-stream makes of an image. Skips the test where it is not installed.

    The state of an HVM guest's device model is left out of the form libxc unless ``options`` are given.
    """
    found = oracle.find_verifier()
    if found is None:
        pytest.skip(f"convert-legacy-stream is not installed: apt-get install {oracle.PACKAGE}")
    program, library = found[0].parent / "convert-legacy-stream", found[1]
    (folder / "legacy").write_bytes(image)
    chosen = options or (("--skip-qemu",) if form == "libxc" else ())
    done = subprocess.run(
        [sys.executable, str(program), "-i", "legacy", "-o", "converted", "-w", "64", "-g", guest, "-f", form, *chosen],
        env={"PYTHONPATH": str(library)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "converted").read_bytes()
