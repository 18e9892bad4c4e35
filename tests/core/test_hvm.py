"""An HVM guest's memory and state through the C core, call by call: saved, and restored into a domain by gfn."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import pyxcsr
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.switches import HOLES, VARIABLE

PAGE_DATA, EXTENT = 1, 512
XTAB, L1TAB = 0xF, 0x1
HEAD = struct.Struct("<II")


def save_pages(hv: StubBackend, domid: int, path: Path) -> list[tuple[int, int]]:
    """All pages of a guest in PAGE_DATA records in a file. Returns where each body begins, and its length."""
    nr = hv.nr_gpfns(domid)
    with ExitStack() as stack, open(path, "wb") as out:
        save = hv.new_save(domid, nr, None)
        stack.callback(save.close)
        sink = hv.open_sink(out.fileno())
        stack.callback(sink.close)
        save.mark_all()
        save.pass_begin(True)
        while not save.batches(sink, lambda: None).done:
            pass
    return bodies(path.read_bytes())


def bodies(stream: bytes) -> list[tuple[int, int]]:
    found, at = [], 0
    while at < len(stream):
        kind, length = HEAD.unpack_from(stream, at)
        assert kind == PAGE_DATA
        found.append((at + HEAD.size, length))
        at += HEAD.size + length
    return found


class Target:
    """A domain being restored into, by gfn."""

    def __init__(self, hv: StubBackend, stack: ExitStack, max_mem: str = "32M", limit: int = 1 << 21) -> None:
        self.hv, self.stack = hv, stack
        self.domid = hv.stub.create_empty(max_mem, kind="pvh")
        self.memory = hv.new_restore(self.domid, limit, width=0)
        stack.callback(self.memory.close)

    def feed(self, stream: bytes) -> Any:
        """Takes records as they stand in a stream; returns the last one's result."""
        fd = os.memfd_create("stream")
        self.stack.callback(os.close, fd)
        os.write(fd, stream)
        os.lseek(fd, 0, os.SEEK_SET)
        source = self.hv.open_source(fd)
        self.stack.callback(source.close)
        for at, length in bodies(stream):
            assert len(source.read(HEAD.size, lambda: None)) == HEAD.size
            result = self.memory.pages(source, length, lambda: None, at)
        return result


@pytest.fixture
def target(hv: StubBackend) -> Iterator[Target]:
    with ExitStack() as stack:
        yield Target(hv, stack)


def record(entries: list[tuple[int, int]], fill: int = 0x11) -> bytes:
    """A PAGE_DATA record of (type, pfn); pages with data hold the byte ``fill``."""
    body = struct.pack("<II", len(entries), 0)
    body += b"".join(struct.pack("<Q", kind << 60 | pfn) for kind, pfn in entries)
    body += bytes([fill]) * PAGE_SIZE * sum(kind < 0xD for kind, _ in entries)
    return HEAD.pack(PAGE_DATA, len(body)) + body


def test_a_guest_comes_back_page_by_page(hv: StubBackend, tmp_path: Path, target: Target) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.parse("pvh:mem=16M,holes=0.1,seed=5"))
    guest = hv.stub.guest(domid)
    guest.shut_down(2)
    save_pages(hv, domid, tmp_path / "pages")
    target.feed((tmp_path / "pages").read_bytes())
    pfns = guest.pfns_with_memory()
    made = hv.stub.guest(target.domid)
    assert made.pfns_with_memory() == pfns
    for pfn in pfns:
        assert target.memory.mfn(pfn) == pfn, "a gfn is its own name"
        assert hv.read_frames(target.domid, [pfn]) == hv.read_frames(domid, [pfn]), pfn
    assert target.memory.nr_seen == hv.nr_gpfns(domid)
    assert target.memory.has_data(pfns[0])


def test_each_gfn_is_asked_about_and_can_have_an_entry(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, HOLES)
    domid = hv.stub.create(pyxcsr.StubGuest.parse("pvh:mem=16M,seed=5"))
    hv.stub.guest(domid).shut_down(2)
    calls = (hv.nr_gpfns(domid) + 1023) // 1024
    hv.stub.clear_calls()
    found = save_pages(hv, domid, tmp_path / "pages")
    assert len(found) == calls, "every gfn has an entry, in whole batches"
    assert hv.stub.calls()["xc_get_pfn_type_batch"] == calls


def test_whole_runs_get_large_pages(hv: StubBackend, target: Target) -> None:
    run = [(0, x) for x in range(EXTENT, 2 * EXTENT)]
    hv.stub.clear_calls()
    assert target.feed(record([(0, 3), *run, (0, 2000)])).nr_populated == EXTENT + 2
    assert hv.stub.calls()["xc_domain_populate_physmap_exact"] == 2, "one for the run, one for the rest"
    assert set(hv.stub.guest(target.domid).pfns_with_memory()) == {3, 2000, *range(EXTENT, 2 * EXTENT)}


@pytest.mark.parametrize("missing", [0, 100, 511])
def test_a_run_that_is_not_whole_gets_single_pages(hv: StubBackend, target: Target, missing: int) -> None:
    run = [(XTAB if x == missing else 0, EXTENT + x) for x in range(EXTENT)]
    hv.stub.clear_calls()
    assert target.feed(record(run)).nr_populated == EXTENT - 1
    assert hv.stub.calls()["xc_domain_populate_physmap_exact"] == 1
    assert EXTENT + missing not in hv.stub.guest(target.domid).pfns_with_memory()


def test_without_large_pages_single_ones_do(hv: StubBackend, target: Target) -> None:
    hv.stub.fail("xc_domain_populate_physmap_exact", 1, errno.ENOMEM)
    run = [(0, x) for x in range(EXTENT, 2 * EXTENT)]
    assert target.feed(record(run)).nr_populated == EXTENT
    assert len(hv.stub.guest(target.domid).pfns_with_memory()) == EXTENT


def test_frame_0_is_memory(hv: StubBackend, target: Target) -> None:
    target.feed(record([(0, 0), (XTAB, 1)], 0x77))
    assert target.memory.mfn(0) == 0
    assert target.memory.mfn(1) is None
    assert hv.read_frames(target.domid, [0]) == b"\x77" * PAGE_SIZE
    target.feed(record([(0, 0)], 0x78))
    assert hv.read_frames(target.domid, [0]) == b"\x78" * PAGE_SIZE


def test_what_has_gone_is_given_back(hv: StubBackend, target: Target) -> None:
    target.feed(record([(0, 5), (0, 6)]))
    target.feed(record([(XTAB, 5)]))
    assert target.memory.mfn(5) == 5
    assert target.memory.give_back() == 1
    assert target.memory.mfn(5) is None
    assert hv.stub.guest(target.domid).pfns_with_memory() == [6]
    assert target.memory.give_back() == 0
    target.feed(record([(0, 5)], 0x22))
    assert hv.read_frames(target.domid, [5]) == b"\x22" * PAGE_SIZE


def test_memory_that_moved_finds_room(hv: StubBackend) -> None:
    """A guest at its limit that ballooned: what came has room only once what went has been given back."""
    with ExitStack() as stack:
        target = Target(hv, stack, max_mem="4M")
        room = hv.domain_info(target.domid).max_pages
        for first in range(0, room, 1024):
            target.feed(record([(0, x) for x in range(first, min(first + 1024, room))]))
        target.feed(record([(XTAB, x) for x in range(10)]))
        moved = target.feed(record([(0, room + x) for x in range(10)], 0x33))
        assert moved.nr_populated == 10
        assert hv.read_frames(target.domid, [room]) == b"\x33" * PAGE_SIZE
        with pytest.raises(pyxcsr.HypervisorError, match="its limit, or the host's"):
            target.feed(record([(0, room + 10)]))
        assert target.memory.mfn(room + 10) is None


def test_differences_are_counted(hv: StubBackend, target: Target) -> None:
    target.feed(record([(0, 0), (0, 9)], 0x44))
    target.memory.compare(True)
    assert target.feed(record([(0, 0), (0, 9)], 0x44)).differing == 0
    result = target.feed(record([(0, 0), (0, 9)], 0x45))
    assert (result.differing, result.first_differing) == (2, 0)
    with pytest.raises(pyxcsr.StreamError, match="never sent"):
        target.feed(record([(0, 10)]))


@pytest.mark.parametrize(
    "entry,words", [((0, 1 << 21), "beyond all memory"), ((L1TAB, 7), "only PV guests'"), ((9, 7), "only PV guests'")]
)
def test_entries_that_cannot_be(target: Target, entry: tuple[int, int], words: str) -> None:
    with pytest.raises(pyxcsr.StreamError, match=words):
        target.feed(record([entry]))


def test_there_is_no_p2m_to_write(target: Target) -> None:
    target.feed(record([(0, 5)]))
    with pytest.raises(pyxcsr.HypervisorError, match="no p2m of its own"):
        target.memory.write_p2m([5])
    assert target.memory.pin() == 0
    target.memory.check_tables(0)


def test_state_goes_from_one_to_another(hv: StubBackend, target: Target) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.parse("pvh:mem=16M,seed=5"))
    hv.domain_shutdown(domid, 2)
    assert hv.domain_info(domid).suspended
    context = hv.hvm_context(domid)
    assert context[:8] == struct.pack("<HHI", 1, 0, 24), "a header record comes first"
    hv.set_hvm_context(target.domid, context)
    store = hv.hvm_param(domid, 1)
    assert store
    hv.set_hvm_param(target.domid, 1, store)
    assert hv.hvm_param(target.domid, 1) == store
    assert hv.pod_target(domid).entries == 0
    target.feed(record([(0, store)]))
    hv.clear_frames(target.domid, [store])
    assert hv.read_frames(target.domid, [store]) == bytes(PAGE_SIZE)


def test_a_context_that_grows_is_asked_for_again(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyxcsr.hypervisor import core

    domid = hv.stub.create(pyxcsr.StubGuest.parse("pvh:mem=16M,vcpus=4,seed=5"))
    hv.stub.guest(domid).shut_down(2)
    whole = hv.hvm_context(domid)
    monkeypatch.setattr(core, "BLOB_ROOM", 1 << 20)
    hv.stub.fail("xc_domain_hvm_getcontext", 2, errno.ENOSPC)  # the second call: it has grown since the first
    assert hv.hvm_context(domid) == whole
    hv.stub.clear_failures()
    monkeypatch.setattr(core, "BLOB_ROOM", 1)
    assert hv.hvm_context(domid) == whole


def test_names_in_xenstore(hv: StubBackend) -> None:
    hv.stub.store_write("/test/one", "1")
    hv.stub.store_write("/test/two/deep", "2")
    assert sorted(hv.xenstore_directory("/test")) == ["one", "two"]
    assert hv.xenstore_directory("/test/one") == []
    assert hv.xenstore_directory("/nothing") == []
