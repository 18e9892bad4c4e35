"""Streams that are cut, tampered with, or of another shape; calls that fail; a restore that is stopped."""

from __future__ import annotations

import errno
import os
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.judge import judge_rules, save_to
from support.peak import peak_begins, status
from support.surgery import (
    BASIC,
    CPUID,
    END,
    EXTENDED,
    MSR,
    P2M_FRAMES,
    PAGE_DATA,
    PV_INFO,
    SHARED_INFO,
    STATIC_DATA_END,
    TSC,
    VCPU_MSRS,
    VERIFY,
    XSAVE,
    Piece,
    boundaries,
    changed,
    entries_of,
    pages_of,
    put_together,
    take_apart,
    without,
)

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.core import WAIT_MS
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.restore import restore

MEM = 4 << 20

Stream = tuple[bytes, list[Piece]]


@pytest.fixture
def stream(hv: StubBackend, tmp_path: Path) -> Stream:
    """A small non-live stream, taken apart."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem=MEM, vcpus=2, holes=0.05))
    save_to(hv, domid, tmp_path / "good", live=False)
    hv.stub.destroy(domid)
    return take_apart(tmp_path / "good")


def restored(
    hv: StubBackend, data: bytes, vcpus: int = 2, look: Callable[[int], None] = lambda domid: None
) -> pyxcsr.RestoreReport:
    """Restores bytes into a new domain, then looks at it; whatever comes of it, nothing leaks and nothing runs."""
    domid = hv.stub.create_empty(max_mem=2 * MEM, vcpus=vcpus)
    fd = os.memfd_create("stream")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        report = restore(hv, domid, fd)
        look(domid)
        return report
    finally:
        os.close(fd)
        state = hv.stub.guest(domid).state()
        assert state.paused and not state.running
        leaks = hv.stub.leaks()
        leaks.pop("paused_domains", None)
        assert leaks == {}
        hv.stub.destroy(domid)


def refused(hv: StubBackend, data: bytes, kind: type[pyxcsr.XcsrError], text: str) -> pyxcsr.XcsrError:
    with pytest.raises(kind, match=text) as caught:
        restored(hv, data)
    return caught.value


def test_the_good_one_is_good(hv: StubBackend, stream: Stream) -> None:
    assert restored(hv, put_together(*stream)).missing_policy == 0


# -- cut


def test_cut_at_every_boundary_and_many_places(hv: StubBackend, stream: Stream) -> None:
    data = put_together(*stream)
    rng = random.Random(4)
    places = {0, 1, 8, 23, 24, 39, *boundaries(*stream)[:-1], *(rng.randrange(len(data)) for _ in range(200))}
    for at in sorted(places):
        with pytest.raises((pyxcsr.StreamTruncated, pyxcsr.NotAStream)) as caught:
            restored(hv, data[:at])
        assert caught.value.offset <= at, at


# -- tampered


def test_a_page_data_record_is_missing(hv: StubBackend, stream: Stream) -> None:
    """libxenguest restores this with success and wrong memory."""
    head, pieces = stream
    where = [i for i, x in enumerate(pieces) if x.code == PAGE_DATA]
    for i in where:
        error = refused(hv, put_together(head, pieces[:i] + pieces[i + 1 :]), pyxcsr.StreamError, "incomplete|not")
        assert error.offset is not None


def without_page(pieces: list[Piece], pfn: int) -> list[Piece]:
    """The records, one page sent as not there (XTAB) in the place of its content."""
    out = []
    for piece in pieces:
        body = bytearray(piece.body)
        if piece.code == PAGE_DATA and pfn in (pages := pages_of(piece.body)):
            index = [x & (1 << 52) - 1 for x in entries_of(piece.body)].index(pfn)
            del body[pages[pfn] : pages[pfn] + 4096]
            body[8 + 8 * index + 7] = 0xF0
        out.append(Piece(piece.code, bytes(body)))
    return out


def test_a_page_that_a_table_refers_to_is_missing(hv: StubBackend, stream: Stream) -> None:
    """An ordinary page, one of a thousand: only the page tables tell that it should be there."""
    head, pieces = stream
    body = next(x.body for x in pieces if x.code == PAGE_DATA)
    ordinary = [x & (1 << 52) - 1 for x in entries_of(body) if x >> 60 == 0]
    for pfn in (ordinary[100], ordinary[500]):
        error = refused(hv, put_together(head, without_page(pieces, pfn)), pyxcsr.IncompleteStream, "incomplete")
        assert error.pfn == pfn and error.level == 1 and error.missing >= 1


def test_pfn_beyond_everything(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream

    def far(body: bytearray) -> None:
        struct.pack_into("<Q", body, 8, 1 << 40)

    error = refused(hv, put_together(head, changed(pieces, PAGE_DATA, far)), pyxcsr.StreamError, "beyond the end")
    assert error.pfn == 1 << 40 and error.record == "PAGE_DATA"


def table_slot(pieces: list[Piece], level: int) -> tuple[int, int]:
    """(which PAGE_DATA record, offset in its body) of a present entry of a page table of that level."""
    nth = 0
    for code, body in pieces:
        if code != PAGE_DATA:
            continue
        pages = pages_of(body)
        for entry in entries_of(body):
            if entry >> 60 in (level, level + 8):
                at = pages[entry & (1 << 52) - 1]
                for slot in range(512):
                    if struct.unpack_from("<Q", body, at + 8 * slot)[0] & 1:
                        return nth, at + 8 * slot
        nth += 1
    raise AssertionError(f"no level {level} table")


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_an_entry_beyond_the_p2m(hv: StubBackend, stream: Stream, level: int) -> None:
    """An assert in libxenguest: the restorer dies."""
    head, pieces = stream
    nth, at = table_slot(pieces, level)

    def far(body: bytearray) -> None:
        struct.pack_into("<Q", body, at, 0x67 | 0xFFFFFF << 12)

    error = refused(hv, put_together(head, changed(pieces, PAGE_DATA, far, nth)), pyxcsr.StreamError, "beyond the p2m")
    assert error.level == level and error.mfn == 0xFFFFFF


@pytest.mark.parametrize("level", [2, 3])
def test_a_superpage(hv: StubBackend, stream: Stream, level: int) -> None:
    head, pieces = stream
    nth, at = table_slot(pieces, level)

    def big(body: bytearray) -> None:
        body[at] |= 0x80

    refused(hv, put_together(head, changed(pieces, PAGE_DATA, big, nth)), pyxcsr.StreamError, "superpage")


@pytest.mark.parametrize("register", [1, 3])
@pytest.mark.parametrize("pfn", [0xFFFFFF, 1 << 40, 5])
def test_cr3_that_lies(hv: StubBackend, stream: Stream, register: int, pfn: int) -> None:
    head, pieces = stream

    def lie(body: bytearray) -> None:
        struct.pack_into("<Q", body, 8 + 4984 + 8 * register, pfn << 12 | (register == 1))

    error = refused(hv, put_together(head, changed(pieces, BASIC, lie)), pyxcsr.StreamError, rf"ctrlreg\[{register}\]")
    assert error.pfn == pfn & (1 << 52) - 1


def put(at: int, layout: str, *values: int) -> Callable[[bytearray], None]:
    return lambda body: struct.pack_into(layout, body, at, *values)


TAMPERED: dict[str, tuple[Callable[[list[Piece]], list[Piece]], str]] = {
    "no PV_INFO": (lambda p: without(p, PV_INFO), "before X86_PV_INFO"),
    "two PV_INFO": (lambda p: [p[0], *p], "second X86_PV_INFO"),
    "PV_INFO of nothing": (lambda p: changed(p, PV_INFO, put(0, "<BB", 4, 4)), "does not exist"),
    "no STATIC_DATA_END": (lambda p: without(p, STATIC_DATA_END), "before STATIC_DATA_END"),
    "two STATIC_DATA_END": (
        lambda p: [y for x in p for y in ([x, x] if x.code == STATIC_DATA_END else [x])], "must come once",
    ),
    "no P2M_FRAMES": (lambda p: without(p, P2M_FRAMES), "before X86_PV_P2M_FRAMES"),
    "p2m of 2^32 pfns in 16 bytes": (
        lambda p: changed(p, P2M_FRAMES, put(0, "<II", 0xFFFFFFFF, 0xFFFFFFFF)), "do not follow",
    ),
    "p2m with a gap": (lambda p: changed(p, P2M_FRAMES, put(0, "<II", 512 * 9, 512 * 9 + 511)), "do not follow"),
    "p2m too large for its frames": (lambda p: changed(p, P2M_FRAMES, put(4, "<I", 0x7FFFFFFF)), "must be"),
    "p2m backwards": (lambda p: changed(p, P2M_FRAMES, put(0, "<II", 512, 3)), "do not follow"),
    "p2m frame that was not sent": (lambda p: changed(p, P2M_FRAMES, put(8, "<Q", 1 << 30)), "p2m frame 0"),
    "no TSC": (lambda p: without(p, TSC), "no X86_TSC_INFO"),
    "no SHARED_INFO": (lambda p: without(p, SHARED_INFO), "no SHARED_INFO"),
    "max_pfn below the p2m": (lambda p: changed(p, SHARED_INFO, put(3088, "<Q", 5)), "SHARED_INFO"),
    "no vcpu 0": (lambda p: [x for x in p if not (x.code == BASIC and x.body[0] == 0)], "vcpu 0"),
    "vcpu 99": (lambda p: changed(p, BASIC, put(0, "<I", 99)), "vcpu 99"),
    "vcpu 2^32 - 1": (lambda p: changed(p, BASIC, put(0, "<I", (1 << 32) - 1)), "vcpu 4294967295"),
    "gdt_ents": (lambda p: changed(p, BASIC, put(8 + 4960, "<Q", 7169)), "gdt_ents"),
    "gdt frame": (lambda p: changed(p, BASIC, put(8 + 4832, "<Q", 1 << 41)), "gdt_frames"),
    "start_info": (lambda p: changed(p, BASIC, put(8 + 616, "<Q", 1 << 41)), "start_info"),
    "unknown mandatory": (lambda p: [*p[:-1], Piece(0x77, b""), p[-1]], "does not know"),
    "toolstack": (lambda p: [*p[:-1], Piece(0x0B, bytes(8)), p[-1]], "does not know"),
    "checkpoint": (lambda p: [*p[:-1], Piece(0x0E, b""), p[-1]], "has to be asked for"),
    "context too long": (lambda p: [*p[:-1], Piece(BASIC, bytes(9000)), p[-1]], "can have"),
    "HVM record": (lambda p: [*p[:-1], Piece(0x0A, bytes(8)), p[-1]], "can have"),
    "no entries": (lambda p: changed(p, PAGE_DATA, put(0, "<I", 0)), "cannot have"),
    "more entries than bytes": (lambda p: changed(p, PAGE_DATA, put(0, "<I", 0xFFFFFFFF)), "cannot have"),
    "twice in a record": (
        lambda p: changed(p, PAGE_DATA, lambda b: b.__setitem__(slice(16, 24), b[8:16])), "listed twice",
    ),
    "type 5": (lambda p: changed(p, PAGE_DATA, lambda b: b.__setitem__(15, 0x50)), "page type"),
    "reserved bits": (lambda p: changed(p, PAGE_DATA, lambda b: b.__setitem__(14, b[14] | 0x80)), "reserved"),
    "data where the type has none": (
        lambda p: changed(p, PAGE_DATA, lambda b: b.__setitem__(15, 0xF0 | b[15] & 15)), "cannot have",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered(hv: StubBackend, stream: Stream, name: str) -> None:
    head, pieces = stream
    change, text = TAMPERED[name]
    error = refused(hv, put_together(head, change(pieces)), pyxcsr.XcsrError, text)
    assert isinstance(error, (pyxcsr.StreamError, pyxcsr.NotSupported)), error


def cut(length: int) -> Callable[[bytearray], None]:
    return lambda body: body.__delitem__(slice(length, None))


def refused_where_it_stands(
    hv: StubBackend, stream: Stream, code: int, change: Callable[[bytearray], None], text: str
) -> pyxcsr.XcsrError:
    """Changes the records of a type. The error must name the place of the first. Returns it."""
    head, pieces = stream
    error = refused(hv, put_together(head, changed(pieces, code, change)), pyxcsr.StreamError, text)
    assert error.offset == boundaries(head, pieces)[next(i for i, x in enumerate(pieces) if x.code == code)]
    return error


STATES: dict[str, tuple[int, Callable[[bytearray], None], str]] = {
    "XSAVE": (XSAVE, cut(8 + 15), "X86_PV_VCPU_XSAVE: 15 bytes of content, must be at least 16"),
    "MSRs": (VCPU_MSRS, cut(-1), "X86_PV_VCPU_MSRS: .* must be a multiple of 16"),
    "EXTENDED": (EXTENDED, cut(8 + 7), "X86_PV_VCPU_EXTENDED: 7 bytes of content, must be 8 to 128"),
    "BASIC": (BASIC, cut(-8), "X86_PV_VCPU_BASIC: 5160 bytes of content, must be 5168"),
    "BASIC, empty": (BASIC, cut(8), "X86_PV_VCPU_BASIC: 0 bytes of content"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_vcpu_record_of_impossible_size(hv: StubBackend, stream: Stream, name: str) -> None:
    """It is the stream's fault, and is found where it stands: what follows has not been read."""
    head, pieces = stream
    code, change, text = STATES[name]
    error = refused_where_it_stands(hv, stream, code, change, text)
    assert error.vcpu == 0
    record = next(x for x in pieces if x.code == code)
    data = put_together(head, changed(pieces, code, change))
    refused(hv, data[: error.offset + 8 + len(record.body)], pyxcsr.StreamError, text)


def test_vcpu_records_without_content(hv: StubBackend, stream: Stream) -> None:
    """Xen 4.6 to 4.8 wrote such: they count as left out."""
    head, pieces = stream
    for code in (EXTENDED, XSAVE, VCPU_MSRS):
        pieces = changed(pieces, code, cut(8))
    restored(hv, put_together(head, pieces))


POLICIES: dict[str, tuple[int, Callable[[bytearray], None], str]] = {
    "CPUID, part of a leaf": (CPUID, cut(23), "X86_CPUID_POLICY: 23 bytes, must be"),
    "CPUID, a byte short": (CPUID, cut(-1), "X86_CPUID_POLICY: .* must be a multiple of 24"),
    "CPUID, empty": (CPUID, cut(0), "X86_CPUID_POLICY: 0 bytes, .* and not empty"),
    "MSRs, three bytes short": (MSR, cut(-3), "X86_MSR_POLICY: .* multiple of 16"),
    "MSRs, empty": (MSR, cut(0), "X86_MSR_POLICY: 0 bytes, .* and not empty"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_is_not_of_whole_entries(hv: StubBackend, stream: Stream, name: str) -> None:
    """Xen is given the number of entries: part of one would be left out in silence."""
    refused_where_it_stands(hv, stream, *POLICIES[name])


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this kernel does not tell the peak")
def test_a_record_that_claims_128_mib(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    cut = put_together(head, pieces[:6])
    before = peak_begins()
    for code in (PAGE_DATA, BASIC, P2M_FRAMES, CPUID, 0x80000001):
        with pytest.raises(pyxcsr.StreamError):
            restored(hv, cut + struct.pack("<II", code, 128 << 20) + b"\x01" + bytes(63))
    assert status("VmHWM") - before < 64 << 20


def test_hvm_stream_into_a_pv_domain(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    other = head[:24] + struct.pack("<I", 2) + head[28:]
    refused(hv, put_together(other, pieces), pyxcsr.StreamError, "is a PV domain")


def test_more_memory_than_the_domain_may_own(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="32M"))
    save_to(hv, domid, tmp_path / "s", live=False)
    new = hv.stub.create_empty(max_mem=8 << 20, vcpus=1)
    with open(tmp_path / "s", "rb") as source, pytest.raises(pyxcsr.HypervisorError, match="its limit"):
        restore(hv, new, source)


# -- other shapes that are right


def test_version_2(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    old = head[:12] + struct.pack(">I", 2) + head[16:]
    report = restored(hv, put_together(old, without(pieces, STATIC_DATA_END, CPUID, MSR)))
    assert (report.version, report.missing_policy) == (2, 3)


def test_static_data_done_is_told_once(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    told: list[int] = []
    for wanted, drop in ((0, ()), (1, (CPUID,)), (2, (MSR,)), (3, (CPUID, MSR))):
        domid = hv.stub.create_empty(max_mem=2 * MEM, vcpus=2)
        fd = os.memfd_create("stream")
        os.write(fd, put_together(head, without(pieces, *drop)))
        os.lseek(fd, 0, os.SEEK_SET)
        restore(hv, domid, fd, static_data_done=told.append)
        os.close(fd)
        assert told == [wanted]
        told.clear()


def test_unknown_optional_records_are_skipped(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    extra = Piece(0x80000042, bytes(100001))
    restored(hv, put_together(head, [*pieces[:3], extra, *pieces[3:-1], extra, pieces[-1]]))


def test_a_second_p2m_frames_record(hv: StubBackend, stream: Stream) -> None:
    """Repeated, and growing: first half of the p2m, then all of it, then what refers to the rest."""
    head, pieces = stream
    at = next(i for i, x in enumerate(pieces) if x.code == P2M_FRAMES)
    restored(hv, put_together(head, [*pieces[: at + 2], pieces[at], *pieces[at + 2 :]]))
    body = pieces[at].body
    half = Piece(P2M_FRAMES, struct.pack("<II", 0, 511) + body[8:16])
    report = restored(hv, put_together(head, [*pieces[:at], half, *pieces[at:]]))
    assert report.nr_pfns == MEM // 4096


def ballooned(pieces: list[Piece]) -> tuple[list[Piece], list[int]]:
    """The records, with all holes sent as pages first, as if the guest had ballooned them out during the save."""
    at = next(i for i, x in enumerate(pieces) if x.code == PAGE_DATA)
    entries = (x for piece in pieces if piece.code == PAGE_DATA for x in entries_of(piece.body))
    holes = [x & (1 << 52) - 1 for x in entries if x >> 60 == PageType.XTAB]
    body = struct.pack(f"<II{len(holes)}Q", len(holes), 0, *holes) + b"gone" * (1024 * len(holes))
    return [*pieces[:at], Piece(PAGE_DATA, body), *pieces[at:]], holes


def test_pages_that_were_ballooned_out_are_given_back(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    twice, holes = ballooned(pieces)
    assert len(holes) > 20

    def look(domid: int) -> None:
        with_memory = hv.stub.guest(domid).pfns_with_memory()
        assert sorted([*with_memory, *holes]) == list(range(MEM // 4096))
        assert hv.domain_info(domid).tot_pages == len(with_memory)

    report = restored(hv, put_together(head, twice), look=look)
    assert report.populated == MEM // 4096


def verify_stream(pieces: list[Piece]) -> list[Piece]:
    pages = [x for x in pieces if x.code == PAGE_DATA]
    at = next(i for i, x in enumerate(pieces) if x.code == TSC)
    return [*pieces[:at], Piece(VERIFY, b""), *pages, *pieces[at:]]


def test_verify_mode(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    report = restored(hv, put_together(head, verify_stream(pieces)))
    assert report.compared == report.pages > 900


def test_verify_mode_counts_what_differs(hv: StubBackend, stream: Stream) -> None:
    head, pieces = stream
    twice = verify_stream(pieces)
    nr_records = len([x for x in pieces if x.code == PAGE_DATA])
    data = [p for p, body in enumerate(entries_of(pieces[next(i for i, x in enumerate(pieces) if x.code == 1)].body))
            if body >> 60 == 0][:3]

    def flip(body: bytearray) -> None:
        pfns = [x & (1 << 52) - 1 for x in entries_of(bytes(body))]
        for i in data:
            body[pages_of(bytes(body))[pfns[i]] + 100] ^= 1

    wrong = changed(twice, PAGE_DATA, flip, nr_records)
    error = refused(hv, put_together(head, wrong), pyxcsr.VerifyMismatch, "differ")
    assert error.differing == 3


@pytest.mark.parametrize(
    ("version", "before", "text"),
    [
        (2, (), "before X86_PV_INFO"),
        (3, (), "before STATIC_DATA_END"),
        (3, (PV_INFO,), "before STATIC_DATA_END"),
        (3, (STATIC_DATA_END,), "before X86_PV_INFO"),
    ],
)
def test_verify_that_comes_too_early(
    hv: StubBackend, stream: Stream, version: int, before: tuple[int, ...], text: str
) -> None:
    """Whatever follows: it is the stream that is wrong, and the error says where."""
    head, pieces = stream
    head = head[:12] + struct.pack(">I", version) + head[16:]
    first = [x for x in pieces if x.code in before]
    data = put_together(head, [*first, Piece(VERIFY, b""), *pieces])
    error = refused(hv, data, pyxcsr.StreamError, f"VERIFY.* {text}")
    assert (error.offset, error.record) == (boundaries(head, first)[-1], "VERIFY")


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
def test_a_save_that_sends_all_twice(hv: StubBackend, tmp_path: Path, live: bool) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem=MEM, vcpus=2, holes=0.05))
    report = save_to(hv, domid, tmp_path / "s", live=live, verify=True)
    assert report.verify is not None and report.verify.pages == len(hv.stub.guest(domid).pfns_with_memory())
    judge_rules(tmp_path / "s")
    hv.stub.destroy(domid)
    again = restored(hv, (tmp_path / "s").read_bytes())
    assert again.compared == report.verify.pages


# -- calls that fail, and being stopped

CALLS = {
    "xc_domain_getinfolist": errno.EPERM,
    "xc_domain_get_guest_width": errno.ESRCH,
    "xc_domain_populate_physmap_exact": errno.ENOMEM,
    "xenforeignmemory_map": errno.EINVAL,
    "xc_mmuext_op": errno.EINVAL,
    "xc_vcpu_setcontext": errno.EINVAL,
    "xc_domctl": errno.EINVAL,
    "xc_domain_set_tsc_info": errno.EINVAL,
    "xc_set_domain_cpu_policy": errno.EINVAL,
    "xc_dom_gnttab_seed": errno.EFAULT,
    "xc__hypercall_buffer_alloc": errno.ENOMEM,
    "xc_domain_decrease_reservation_exact": errno.EINVAL,
}


@pytest.mark.parametrize("function", CALLS)
def test_a_call_fails(hv: StubBackend, stream: Stream, function: str) -> None:
    data = put_together(stream[0], ballooned(stream[1])[0])
    hv.stub.clear_calls()
    restored(hv, data)
    total = hv.stub.calls().get(function, 0)
    assert total, f"a restore never calls {function}"
    for nth in sorted({1, 2, 3, total // 2, total - 1, total} & set(range(1, total + 1))):
        hv.stub.fail(function, nth, CALLS[function])
        with pytest.raises(pyxcsr.HypervisorError) as caught:
            restored(hv, data)
        assert caught.value.errno == CALLS[function], f"{function} #{nth}"
        hv.stub.clear_failures()
    restored(hv, data)


def test_a_mapping_that_fails_is_no_incomplete_stream(hv: StubBackend, stream: Stream) -> None:
    """ENOENT, from whichever mapping of a restore: that is Xen's word, and not about the stream."""
    data = put_together(*stream)
    hv.stub.clear_calls()
    restored(hv, data)
    for nth in range(1, hv.stub.calls()["xenforeignmemory_map"] + 1):
        hv.stub.fail("xenforeignmemory_map", nth, errno.ENOENT)
        with pytest.raises(pyxcsr.HypervisorError):
            restored(hv, data)
        hv.stub.clear_failures()


@pytest.mark.alone
def test_cancel_while_the_input_is_stalled(hv: StubBackend, stream: Stream) -> None:
    domid = hv.stub.create_empty(max_mem=2 * MEM, vcpus=2)
    reader, writer = os.pipe()
    os.write(writer, put_together(*stream)[:30000])
    began = time.monotonic()
    with pytest.raises(pyxcsr.Cancelled):
        restore(hv, domid, reader, cancel=lambda: time.monotonic() - began > 0.2)
    assert time.monotonic() - began < 2
    os.close(reader)
    os.close(writer)


def test_cancel_is_asked_for_while_a_slow_input_never_pauses(hv: StubBackend, stream: Stream) -> None:
    """There is no end of what comes that the wish has to wait for: the batch under way would take ten seconds."""
    data = put_together(*stream)
    domid = hv.stub.create_empty(max_mem=2 * MEM, vcpus=2)
    reader, writer = os.pipe()
    given, asked, over = 0, 0, threading.Event()

    def feed() -> None:
        nonlocal given
        os.write(writer, data[:30000])
        for at in range(30000, 30000 + 500 * 1024, 1024):
            if over.wait(0.01):
                break
            os.write(writer, data[at : at + 1024])
            given += 1
        os.close(writer)

    def cancel() -> bool:
        nonlocal asked
        asked += given > 0
        return asked == 3

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    with pytest.raises(pyxcsr.Cancelled):  # unless all 500 come first: then it is cut short
        restore(hv, domid, reader, cancel=cancel)
    over.set()
    thread.join()
    os.close(reader)


def trickle(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 7001):
        yield data[at : at + 7001]


@pytest.mark.parametrize("wait_ms", [WAIT_MS, 0])
def test_from_a_slow_pipe(hv: StubBackend, stream: Stream, monkeypatch: pytest.MonkeyPatch, wait_ms: int) -> None:
    """Without patience each read is broken off many times, and goes on: all pages come twice, and are compared."""
    monkeypatch.setattr("pyxcsr.hypervisor.building.WAIT_MS", wait_ms)
    data = put_together(stream[0], verify_stream(stream[1]))
    domid = hv.stub.create_empty(max_mem=2 * MEM, vcpus=2)
    reader, writer = os.pipe()

    def feed() -> None:
        for piece in trickle(data + b"beyond"):
            os.write(writer, piece)
        os.close(writer)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    report = restore(hv, domid, reader)
    assert report.bytes == len(data) and report.compared == report.pages > 900
    assert os.read(reader, 100) == b"beyond", "read beyond END"
    thread.join()
    os.close(reader)


def test_a_domain_that_runs_is_refused(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with open("/dev/null", "rb") as nothing, pytest.raises(pyxcsr.UsageError, match="runs"):
        restore(hv, domid, nothing)


@pytest.mark.parametrize("guest", [pyxcsr.StubGuest.pv64, pyxcsr.StubGuest.pvh, pyxcsr.StubGuest.hvm])
def test_a_domain_that_has_memory_is_refused(
    hv: StubBackend, tmp_path: Path, guest: Callable[..., pyxcsr.StubGuest]
) -> None:
    """A paused guest, by a wrong number. Xen gives memory at gfns that have some already, and the guest is lost."""
    save_to(hv, hv.stub.create(guest(mem=MEM, seed=1)), tmp_path / "s", live=False)
    (tmp_path / "s").write_bytes(put_together(*_without_policy(tmp_path / "s")))
    domid = hv.stub.create(guest(mem=MEM, seed=2))
    hv.domain_pause(domid)
    inside = hv.stub.guest(domid)
    pfns = inside.pfns_with_memory()
    before = [inside.read_page(x) for x in pfns], hv.domain_info(domid)
    with open(tmp_path / "s", "rb", buffering=0) as file:
        with pytest.raises(pyxcsr.UsageError, match=f"domain {domid} has {len(pfns)} pages of memory") as caught:
            restore(hv, domid, file)
        assert file.tell() == 0
    assert caught.value.untouched and caught.value.domid == domid
    assert inside.pfns_with_memory() == pfns
    assert ([inside.read_page(x) for x in pfns], hv.domain_info(domid)) == before


def _without_policy(path: Path) -> Stream:
    head, pieces = take_apart(path)
    return head, without(pieces, CPUID, MSR)


def test_end_is_the_end(hv: StubBackend, stream: Stream) -> None:
    assert stream[1][-1].code == END


@pytest.mark.paths
@pytest.mark.parametrize("mib", [2, 9, 11])
def test_a_question_that_is_refused_and_does_not_matter_is_no_reason(
    mib: int, hv: StubBackend, tmp_path: Path
) -> None:
    """How many pages the domain may still have is asked in the midst of a row; then the stream ends."""
    with open(tmp_path / "s", "wb") as out:
        pyxcsr.save(hv, hv.stub.create(pyxcsr.StubGuest.pvh(mem="32M")), out)
    os.truncate(tmp_path / "s", mib << 20)
    calls = 0

    def counted(name: str, _count: int) -> None:
        nonlocal calls
        calls += name == "xc_domain_getinfolist"

    def restored() -> None:
        target = hv.stub.create_empty(max_mem="33M", kind="pvh")
        with open(tmp_path / "s", "rb") as cut, pytest.raises(pyxcsr.StreamTruncated):
            pyxcsr.restore(hv, target, cut)
        hv.stub.destroy(target)

    with hv.stub.hook(counted):
        restored()
    assert calls >= 2, "there is a row"
    for nth in range(2, calls + 1):  # the first is restore's own, before all else
        hv.stub.fail("xc_domain_getinfolist", nth, errno.EBUSY)
        restored()
        hv.stub.clear_failures()
