"""Judges of a saved stream: the rules, Xen's own verifier, and the guest's true state."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Union

from pyxcsr.errors import StreamError
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.report import SaveReport
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import Record, SharedInfo, TscInfo, VcpuBasic
from pyxcsr.stream.rules.verify import verify
from pyxcsr.transfer.save import save
from support import oracle
from support.image import MemoryImage
from support.widths import width_of

CR3, CR1, RDX, GDT0 = 4984 + 24, 4984 + 8, 616, 4832  # of a 64-bit guest


def save_to(hv: StubBackend, domid: int, path: Union[str, Path], **options: Any) -> SaveReport:
    """Saves into a file. The guest stays suspended.

    By libxenguest's policy unless another one is given: its passes are known beforehand, it asks Xen nothing, and so
    what a test lets happen at the n-th call happens where it should.
    """
    with open(path, "wb") as out:
        return save(hv, domid, out, **{"policy": "libxc", **options})


def records(path: Union[str, Path]) -> list[Record]:
    """All records of a stream except PAGE_DATA."""
    with open(path, "rb") as stream:
        return [x for x in StreamReader(stream) if x.name != "PAGE_DATA"]


def looks_complete(path: Union[str, Path]) -> bool:
    """Whether a stream looks like one that may be restored."""
    with open(path, "rb") as stream:
        try:
            return bool(verify(StreamReader(stream)).ok)
        except StreamError:
            return False


def word(blob: Any, offset: int) -> int:
    value: int = struct.unpack_from("<Q", blob, offset)[0]
    return value


def judge(hv: StubBackend, domid: int, path: Union[str, Path], xen: bool = True) -> None:
    """Asserts that a stream is right in every way. The guest must still be suspended, as the save left it.

    ``xen``: Xen's verifier is asked, too, if it is installed.
    """
    judge_rules(path, xen)
    judge_pages(hv, domid, path)
    judge_state(hv, domid, path)


def judge_rules(path: Union[str, Path], xen: bool = True) -> None:
    with open(path, "rb") as stream:
        found = verify(StreamReader(stream))
    assert found.ok, [str(x) for x in found.complaints[:5]]
    if xen and oracle.find_verifier():
        accepted, text = oracle.accepts(path)
        assert accepted, text[-2000:]


def judge_pages(hv: StubBackend, domid: int, path: Union[str, Path], given_back: bool = False) -> None:
    """Compares every pfn's last entry with the machine's own tables, by code that nothing in pyxcsr shares.

    ``given_back``: the stream may still have pages that the guest gave back after they had been sent.
    """
    guest = hv.stub.guest(domid)
    fd = os.open(path, os.O_RDONLY)
    try:
        image = MemoryImage(fd)
        pfns = guest.pfns_with_memory()
        for pfn, kind, page in zip(pfns, guest.types(pfns), guest.expected_pages(pfns)):
            assert image.type_of(pfn) == kind, f"pfn {pfn:#x} is {image.type_of(pfn)}, not {kind}"
            assert image.page(pfn) == page, f"pfn {pfn:#x} ({kind.name}) differs"
        have, nr_pfns = set(pfns), guest.nr_pfns
        for pfn, entry in image.entries.items():
            if pfn >= nr_pfns and image.page(pfn) == bytes(4096):
                continue  # the page at a shrunk p2m's old end that the receiver may overwrite
            known = pfn in have or given_back or entry.type == PageType.XTAB
            assert known, f"pfn {pfn:#x} has no memory, but an entry {entry}"
    finally:
        os.close(fd)


def judge_state(hv: StubBackend, domid: int, path: Union[str, Path]) -> None:
    guest, found = hv.stub.guest(domid), records(path)
    by_name: dict[str, list[Record]] = {}
    for record in found:
        by_name.setdefault(record.name, []).append(record)
    (tsc,) = by_name["X86_TSC_INFO"]
    assert isinstance(tsc, TscInfo)
    truth = hv.domain_tsc(domid)
    assert (tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation) == (
        truth.mode,
        truth.khz,
        truth.nsec,
        truth.incarnation,
    )
    (shared,) = by_name["SHARED_INFO"]
    assert isinstance(shared, SharedInfo)
    assert bytes(shared.blob) == hv.read_frames(domid, [guest.state().shared_info_mfn])
    online = [v for v in range(hv.domain_info(domid).max_vcpu_id + 1) if hv.vcpu_online(domid, v)]
    basics = by_name["X86_PV_VCPU_BASIC"]
    assert [x.vcpu_id for x in basics if isinstance(x, VcpuBasic)] == online
    for basic in basics:
        assert isinstance(basic, VcpuBasic)
        judge_vcpu(hv, domid, basic)


def judge_vcpu(hv: StubBackend, domid: int, basic: VcpuBasic) -> None:
    """Asserts that each frame number in Xen's context has become its pfn, and that all else is unchanged."""
    w = width_of(hv, domid)
    raw, mine = hv.vcpu_basic(domid, basic.vcpu_id)[: w.context], bytearray(basic.blob)
    cr3, cr1 = w.cr + 3 * w.nr_bytes, w.cr + w.nr_bytes

    def pfn(mfn: int) -> int:
        owner, found, _ = hv.stub.frame(mfn)
        assert owner == domid and found is not None
        return found

    assert w.word(mine, cr3) == w.cr3(pfn(w.cr3_frame(w.word(raw, cr3))))
    if w.word(raw, cr1):
        assert w.nr_bytes == 8 and w.word(mine, cr1) == (pfn(w.word(raw, cr1) >> 12) << 12 | 1)
    rewritten = [cr3, cr1]
    for at in range(w.gdt, w.gdt + (w.word(raw, w.gdt + 16 * w.nr_bytes) + 511) // 512 * w.nr_bytes, w.nr_bytes):
        assert w.word(mine, at) == pfn(w.word(raw, at))
        rewritten.append(at)
    if basic.vcpu_id == 0:
        assert w.word(mine, w.rdx) == pfn(w.word(raw, w.rdx))
        rewritten.append(w.rdx)
    for at in rewritten:
        mine[at : at + w.nr_bytes] = raw[at : at + w.nr_bytes]
    assert bytes(mine) == raw
