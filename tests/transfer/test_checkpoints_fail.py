"""Checkpointed saves and restores in which Xen's calls fail, outputs break, and streams are wrong, after the first
checkpoint: the guest goes on, and what had been whole by then can be restored, or has never been touched."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.remus import Protected, is_whole_with, places

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.errors import XcsrError
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.stream.format import RecordType

GUESTS = {"pv64": "pv64:mem=4M,writes=20,vcpus=2", "pvh": "pvh:mem=4M,writes=20,compact=yes"}
FLIPS = int(os.environ.get("PYXCSR_FLIPS", "20"))
COUNT = 3
HARMLESS = {"xenforeignmemory_unmap", "xc_interface_close", "xenforeignmemory_close", "xs_close"}
VOID = "xc__hypercall_buffer_free_pages"


def protected(hv: StubBackend, tmp_path: Path, name: str) -> Protected:
    return Protected(hv, hv.stub.create(StubGuest.parse(GUESTS[name])), tmp_path / "s")


def counted(hv: StubBackend, guest: Protected) -> dict[str, tuple[int, int]]:
    """How often each function was called up to the first checkpoint, and in all, in a save of a guest like this."""
    first: dict[str, int] = {}
    hv.stub.clear_calls()
    guest.run(COUNT, checkpoint=lambda done: first or first.update(hv.stub.calls()))
    return {name: (first.get(name, 0), calls) for name, calls in hv.stub.calls().items()}


@contextmanager
def failing(hv: StubBackend, function: str, nth: int, error: int) -> Iterator[None]:
    """That call of that function fails, counted from here."""
    hv.stub.clear_calls()
    with hv.stub.hook(lambda name, count: error if (name, count) == (function, nth) else None):
        yield


@pytest.mark.parametrize("name", GUESTS)
def test_calls_that_fail_while_saving(hv: StubBackend, tmp_path: Path, name: str) -> None:
    """One call of each function, somewhere behind the first checkpoint."""
    tried = 0
    guest = protected(hv, tmp_path, name)
    calls = counted(hv, guest)
    hv.stub.destroy(guest.domid)
    for function, (first, total) in sorted(calls.items()):
        if total <= first or function in HARMLESS or function == VOID:
            continue
        guest = protected(hv, tmp_path, name)
        nth = first + 1 + (total - first) // 2
        try:
            with failing(hv, function, nth, errno.EIO):
                guest.run(COUNT)
        except XcsrError:
            tried += 1
            state = hv.stub.guest(guest.domid).state()
            assert state.running and not state.logdirty, f"{function}, call {nth}"
        assert hv.stub.leaks() == {}, f"{function}, call {nth}"
        data = guest.path.read_bytes()
        assert guest.whole_at(data) >= 1
        guest.check_cut(data, tmp_path / "cut")
        hv.stub.destroy(guest.domid)
    assert tried >= 4, "hardly a call that failed was noticed: this test tests nothing"


def test_a_link_that_breaks(hv: StubBackend, tmp_path: Path) -> None:
    """The guest goes on; what the other end has is its last whole checkpoint."""
    guest = protected(hv, tmp_path, "pv64")
    out, into = os.pipe()
    pid = os.fork()
    if not pid:  # the other end, which dies within the second checkpoint
        os.close(into)
        left = 6_000_000
        while left > 0 and (piece := os.read(out, min(left, 1 << 16))):
            left -= len(piece)
        os._exit(0)
    os.close(out)
    try:
        with pytest.raises(pyxcsr.OutputError) as caught:
            pyxcsr.save(hv, guest.domid, into, policy="libxc", checkpointed=0.0)
    finally:
        os.close(into)
        os.waitpid(pid, 0)
    assert caught.value.facts["errno"] == errno.EPIPE
    state = hv.stub.guest(guest.domid).state()
    assert state.running and not state.logdirty


@pytest.mark.parametrize("name", GUESTS)
def test_calls_that_fail_while_restoring(hv: StubBackend, tmp_path: Path, name: str) -> None:
    """Whatever fails, it is an error or has no effect; nothing leaks, and nothing runs."""
    guest = protected(hv, tmp_path, name)
    guest.run(COUNT)
    data = guest.path.read_bytes()
    hv.stub.clear_calls()
    new, _ = guest.restored(data, tmp_path / "cut")
    calls = hv.stub.calls()
    hv.stub.destroy(new)
    refused = 0
    for function, total in sorted(calls.items()):
        if not total or function in HARMLESS or function == VOID:
            continue
        for nth in {total, 1 + total // 2}:
            try:
                with failing(hv, function, nth, errno.ENOMEM):
                    new, report = guest.restored(data, tmp_path / "cut")
                assert report.checkpoints == COUNT
                hv.stub.destroy(new)
            except XcsrError:
                refused += 1
            leaks = hv.stub.leaks()
            assert leaks == {}, f"{function}, call {nth}"
    assert refused >= 5


def epochs(data: bytes) -> list[int]:
    return [x.end for x in places(data) if is_whole_with(x, False)]


@pytest.mark.parametrize("name", GUESTS)
def test_a_checkpoint_that_is_wrong(hv: StubBackend, tmp_path: Path, name: str) -> None:
    """Headers and entries of the last checkpoint with bits changed: the guest of the one before, or an error."""
    guest = protected(hv, tmp_path, name)
    guest.run(COUNT)
    whole, rng = guest.path.read_bytes(), random.Random(name)
    ends = epochs(whole)
    own = [x for x in places(whole) if ends[-2] <= x.begin and x.code != RecordType.END]
    seen = {"failed over": 0, "refused": 0}
    for _ in range(FLIPS):
        data, place = bytearray(whole), rng.choice(own)
        at = place.begin + rng.randrange(min(24, place.end - place.begin))
        data[at] ^= 1 << rng.randrange(8)
        try:
            new, report = guest.restored(bytes(data), tmp_path / "cut")
        except XcsrError:
            seen["refused"] += 1
            continue
        if report.checkpoints == COUNT - 1:
            seen["failed over"] += 1
            guest.check(new, COUNT - 1)
        hv.stub.destroy(new)
    assert seen["failed over"], seen


def small(code: int, body: bytes = b"") -> bytes:
    return struct.pack("<II", code, len(body)) + body + bytes(-len(body) % 8)


WRONG: dict[str, tuple[bytes, str]] = {
    "a record of COLO's": (small(0x0F, bytes(8)), "has no place behind a checkpoint"),
    "a second X86_PV_INFO": (small(0x02, struct.pack("<BBHI", 8, 4, 0, 0)), "has no place behind a checkpoint"),
    "VERIFY": (small(0x0D), "has no place behind a checkpoint"),
    "an unknown record": (small(0x77), "has no place behind a checkpoint"),
    "too long": (struct.pack("<II", 1, 1 << 27) + bytes(1000), "more than the domain can change"),
    "beyond all limits": (struct.pack("<II", 1, 1 << 30), "is above"),
    "no state": (small(0x0E), "makes no whole checkpoint"),
    "END within": (small(0x08, bytes(24)) + small(0), "END came within a checkpoint"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(hv: StubBackend, tmp_path: Path, what: str) -> None:
    guest = protected(hv, tmp_path, "pv64")
    guest.run(COUNT)
    data, text = guest.path.read_bytes(), WRONG[what][1]
    broken = data[: epochs(data)[1]] + WRONG[what][0]
    new, report = guest.restored(broken, tmp_path / "cut")
    assert report.checkpoints == 2 and text in report.failed_over
    guest.check(new, 2)
    hv.stub.destroy(new)


def pages(*entries: int, count: int = 0, nr_pages: int = 0) -> bytes:
    """A PAGE_DATA record; ``count``: what it says, if that is not so."""
    words = struct.pack(f"<II{len(entries)}Q", count or len(entries), 0, *entries)
    return small(0x01, words + bytes(4096 * nr_pages))


XTAB, L1TAB = 0xF << 60, 1 << 60
STATE: dict[str, tuple[str, bytes, str]] = {
    "more entries than there is room for": ("both", pages(XTAB | 1023, count=2), "of 16 bytes cannot have"),
    "no entries": ("both", pages(), "cannot have"),
    "a page table": ("pvh", pages(L1TAB | 5, nr_pages=1), "called a page table"),
    "beyond the p2m": ("pv64", pages(4096, nr_pages=1), "names pfn 0x1000, which is beyond the end of the p2m"),
    "beyond all": ("pvh", pages(1 << 40, nr_pages=1), "beyond all memory that the domain can have"),
    "a vcpu too many": ("pv64", small(0x04, struct.pack("<II", 77, 0) + bytes(5168)), "vcpu 77, but the domain's"),
    "a context of another size": ("pv64", small(0x04, bytes(8 + 100)), "bytes of content, must be"),
    "an XSAVE area of 8 bytes": ("pv64", small(0x06, bytes(8 + 8)), "X86_PV_VCPU_XSAVE: 8 bytes of content"),
    "a part of an MSR": ("pv64", small(0x0C, bytes(8 + 31)), "X86_PV_VCPU_MSRS: 31 bytes of content"),
    "an extended state of 4 bytes": ("pv64", small(0x05, bytes(8 + 4)), "X86_PV_VCPU_EXTENDED: 4 bytes of content"),
    "a TSC mode": ("both", small(0x08, struct.pack("<IIQII", 9, 0, 0, 0, 0)), "mode 9 is not one of"),
    "a TSC of another length": ("both", small(0x08, bytes(16)), "X86_TSC_INFO"),
    "a p2m with a gap": ("pv64", small(0x03, struct.pack("<IIQ", 512 * 99, 512 * 100 - 1, 1)), "do not follow"),
    "a p2m of too few frames": ("pv64", small(0x03, struct.pack("<IIQ", 0, 2047, 1)), "1 frames for pfns"),
    "a p2m beyond all": ("pv64", small(0x03, struct.pack("<II", 0, (1 << 23) - 1) + bytes(8 << 14)), "can have"),
    "a PV guest's record": ("pvh", small(0x07), "SHARED_INFO"),
    "an HVM guest's record": ("pv64", small(0x09), "has no place in a PV guest's stream"),
    "a parameter": ("pvh", small(0x0A, struct.pack("<IIQQ", 1, 0, 13, 1)), "Xen refuses it"),
    "a context that is none": ("pvh", small(0x09, b"\x55" * 64), "HVM_CONTEXT"),
}


@pytest.mark.parametrize(
    ("name", "what"), [(name, what) for what in STATE for name in GUESTS if STATE[what][0] in ("both", name)]
)
def test_what_would_be_refused_is_found_before_anything_is_put_in(
    hv: StubBackend, tmp_path: Path, name: str, what: str
) -> None:
    """The rest of the last checkpoint is as it should be: put in, it would be a mixture of two, and the guest lost."""
    guest = protected(hv, tmp_path, name)
    guest.run(COUNT)
    data = guest.path.read_bytes()
    _, wrong, text = STATE[what]
    at = epochs(data)[1]
    new, report = guest.restored(data[:at] + wrong + data[at:], tmp_path / "cut")
    assert report.checkpoints == 2 and text in report.failed_over
    guest.check(new, 2)
    hv.stub.destroy(new)


def test_a_p2m_that_grows_within_a_checkpoint_is_counted(hv: StubBackend, tmp_path: Path) -> None:
    """What is beyond the p2m that the domain has may be within that of the checkpoint."""
    guest = protected(hv, tmp_path, "pv64")
    guest.run(COUNT)
    data = guest.path.read_bytes()
    first = next(x for x in places(data) if x.code == RecordType.X86_PV_P2M_FRAMES)
    start, end = struct.unpack_from("<II", data, first.begin + 8)
    frames = data[first.begin + 16 : first.end]
    grown = small(0x03, struct.pack("<II", start, end + 512) + frames + frames[-8:])
    beyond = pages(XTAB | (end + 100))
    at = epochs(data)[1]
    new, report = guest.restored(data[:at] + beyond + data[at:], tmp_path / "cut")
    assert report.checkpoints == 2 and "beyond the end of the p2m" in report.failed_over
    hv.stub.destroy(new)
    new, report = guest.restored(data[:at] + grown + beyond + data[at:], tmp_path / "cut")
    assert report.checkpoints == 3 and report.failed_over == ""
    hv.stub.destroy(new)


def test_cancel_is_heard_while_a_checkpoint_is_put_in(hv: StubBackend, tmp_path: Path) -> None:
    guest = protected(hv, tmp_path, "pv64")
    guest.run(COUNT)
    told: list[int] = []
    new = hv.stub.create_empty(guest.max_mem, vcpus=guest.vcpus)

    def cancel() -> bool:
        """True from when the second checkpoint is about to be put in."""
        return len(told) >= 2

    def checkpoint() -> bool:
        told.append(1)
        return True

    with guest.path.open("rb") as stream, pytest.raises(pyxcsr.Cancelled) as caught:
        pyxcsr.restore(hv, new, stream, checkpointed=True, checkpoint=checkpoint, cancel=cancel)
    assert "partly of one checkpoint and partly of the next: destroy it" in "".join(caught.value.__notes__)
    assert len(told) == 2


def test_a_silent_stream(hv: StubBackend, tmp_path: Path) -> None:
    guest = protected(hv, tmp_path, "pv64")
    guest.run(COUNT)
    data = guest.path.read_bytes()
    out, into = os.pipe()
    pid = os.fork()
    if not pid:  # sends two checkpoints and a part, and then nothing, for as long as it is not killed
        view = memoryview(data)[: epochs(data)[1] + 1000]
        while view:
            view = view[os.write(into, view) :]
        import signal

        signal.pause()
    try:
        new = hv.stub.create_empty(guest.max_mem, vcpus=guest.vcpus)
        more: dict[str, Any] = {"store_evtchn": 1, "console_evtchn": 2}
        report = pyxcsr.restore(hv, new, out, checkpointed=True, silence="300ms", **more)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(out)
        os.close(into)
    assert report.checkpoints == 2 and report.failed_over == "nothing has come for 300 ms"
    guest.check(new, 2)


def test_cancel_is_no_failover(hv: StubBackend, tmp_path: Path) -> None:
    guest = protected(hv, tmp_path, "pv64")
    guest.run(COUNT)
    asked: list[int] = []

    def checkpoint() -> bool:
        asked.append(1)
        return True

    new = hv.stub.create_empty(guest.max_mem, vcpus=guest.vcpus)
    with guest.path.open("rb") as stream, pytest.raises(pyxcsr.Cancelled):
        pyxcsr.restore(
            hv, new, stream, checkpointed=True, checkpoint=checkpoint, cancel=lambda: len(asked) >= 2
        )
    assert not hv.stub.guest(new).running


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_no_memory_to_hold_a_checkpoint_back(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The sender's guest runs: this end must not take over, and says what it lacks."""
    guest = protected(hv, tmp_path, "pv64")
    guest.run(COUNT)

    def fails(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    new = hv.stub.create_empty(guest.max_mem, vcpus=guest.vcpus)
    with guest.path.open("rb") as stream, monkeypatch.context() as patched:
        patched.setattr(f"pyxcsr.transfer.spool.os.{call}", fails)
        with pytest.raises(pyxcsr.HypervisorError, match=r"held back.*No space left") as caught:
            pyxcsr.restore(hv, new, stream, checkpointed=True)
    assert caught.value.errno == errno.ENOSPC and caught.value.op == call
