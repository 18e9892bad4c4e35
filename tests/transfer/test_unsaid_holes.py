"""Gfns of HVM guests that never had a page: they are not named in the stream.

The obvious way beside it names each of them (``PYXCSR_WITHOUT=holes``): its stream without the entries of holes is the
other.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.hvm_guests import judge_hvm, save_hvm, wrong_pages

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import SimplePolicy
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import PageData, Record
from pyxcsr.switches import HOLES, VARIABLE

XTAB = 0xF
PFN = (1 << 52) - 1
TYPES, CLEAN = "xc_get_pfn_type_batch", "xc_logdirty_control"
ALL_PASSES = SimplePolicy(max_iterations=4, target_dirty=0)


def records(path: Path) -> list[Record]:
    with open(path, "rb") as stream:
        return [replace(x, pages=bytes(x.pages)) if isinstance(x, PageData) else x for x in StreamReader(stream)]


def without_holes(path: Path) -> list[tuple[str, bytes]]:
    """The stream's records, without entries of holes, and without records of nothing else."""
    found = []
    for record in records(path):
        body = record.encode()
        if isinstance(record, PageData):
            (count,) = struct.unpack_from("<I", body)
            kept = [x for x in struct.unpack_from(f"<{count}Q", body, 8) if x >> 60 != XTAB]
            if not kept:
                continue
            body = struct.pack(f"<II{len(kept)}Q", len(kept), 0, *kept) + body[8 + 8 * count :]
        found.append((record.name, body))
    return found


def named(path: Path) -> Counter[tuple[bool, int]]:
    """(is a hole, gfn) of each entry."""
    entries = (x for record in records(path) if isinstance(record, PageData) for x in record.entries)
    return Counter((x >> 60 == XTAB, x & PFN) for x in entries)


def with_islands(hv: StubBackend, seed: int) -> int:
    """A guest with pages and holes wherever the seed has them."""
    rng = random.Random(seed)
    kind = rng.choice(["pvh", "hvm"])
    text = f"{kind}:mem=4M,max_mem=32M,seed={seed},writes=0,holes={rng.choice([0, 0.3, 0.9])}"
    domid = hv.stub.create(StubGuest.parse(text))
    guest = hv.stub.guest(domid)
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        first = rng.choice([rng.randrange(0x2000, 0xE0000), 0xFE000, 0xFE3FF, 0xFC000, 0x100000, 0x123456, 0xA0000])
        guest.balloon_in(range(first, first + rng.choice([1, 3, 600])))
    return domid


def saved(seed: int, path: Path, without: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Saves that guest while it stands still, and judges the stream; returns how often Xen was asked for types."""
    monkeypatch.setenv(VARIABLE, without)
    with pyxcsr.open_hypervisor("stub") as hv:
        assert isinstance(hv, StubBackend)
        hv.stub.reset(seed=1)
        domid = with_islands(hv, seed)
        hv.stub.clear_calls()
        save_hvm(hv, domid, path, live=False)
        calls = hv.stub.calls()[TYPES]
        judge_hvm(hv, domid, path)
        assert wrong_pages(hv, domid, path) == []
    return calls


@pytest.mark.parametrize("seed", range(12))
def test_what_is_left_out_is_all_that_differs(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [saved(seed, tmp_path / "few", "", monkeypatch), saved(seed, tmp_path / "all", HOLES, monkeypatch)]
    assert without_holes(tmp_path / "all") == [(x.name, x.encode()) for x in records(tmp_path / "few")]
    assert not any(hole for hole, _ in named(tmp_path / "few")) and any(hole for hole, _ in named(tmp_path / "all"))
    assert asked[0] == asked[1]


def test_an_empty_range_of_nearly_4_gib_has_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libxenguest writes as many records as the other way here does."""
    nr_records = []
    for without in ("", HOLES):
        monkeypatch.setenv(VARIABLE, without)
        with pyxcsr.open_hypervisor("stub") as hv:
            assert isinstance(hv, StubBackend)
            domid = hv.stub.create(StubGuest.parse("pvh:mem=16M,writes=0"))
            asked = (hv.nr_gpfns(domid) + 1023) // 1024
            save_hvm(hv, domid, tmp_path / "s", live=not without)
            nr_records.append(sum(isinstance(x, PageData) for x in records(tmp_path / "s")))
    assert nr_records[1] == asked
    assert nr_records[0] <= 5 + 1, "16 MiB of pages, and the last eight; one more: what the guest wrote"


@pytest.fixture
def busy(hv: StubBackend) -> int:
    return hv.stub.create(StubGuest.parse("pvh:mem=4M,max_mem=8M,writes=0"))


def told(hv: StubBackend, at: tuple[str, int], act: Any) -> Any:
    seen: Counter[str] = Counter()

    def hook(name: str, _count: int) -> None:
        seen[name] += 1
        if (name, seen[name]) == at:
            act()

    return hv.stub.hook(hook)


@pytest.mark.parametrize("nth", [1, 2, 3, 400, 1018])
@pytest.mark.parametrize("one_goes", [False, True])
def test_a_page_that_comes_where_nothing_was_said_is_sent(
    hv: StubBackend, tmp_path: Path, busy: int, nth: int, one_goes: bool
) -> None:
    """Before those gfns are asked about, and after; and while another one goes."""
    guest = hv.stub.guest(busy)

    def come() -> None:
        if one_goes:
            guest.balloon_out(0x300)
        guest.balloon_in([0x800, 0x7FFF, 0x8000, 0x50000, 0x50001, 0xFEBFF])
        guest.write_page(0x50000, b"new" * 1000)

    with told(hv, (TYPES, nth), come):
        save_hvm(hv, busy, tmp_path / "s", policy=ALL_PASSES)
    assert guest.read_page(0x50000).startswith(b"new")
    assert wrong_pages(hv, busy, tmp_path / "s") == []


@pytest.mark.paths
def test_a_page_that_goes_after_it_was_sent_is_said_to_be_gone(hv: StubBackend, tmp_path: Path, busy: int) -> None:
    guest = hv.stub.guest(busy)
    with told(hv, (CLEAN, 1), lambda: guest.balloon_out([0x300, 0x301])):
        save_hvm(hv, busy, tmp_path / "s", policy=ALL_PASSES)
    holes = {gfn for hole, gfn in named(tmp_path / "s") if hole}
    assert holes == {0x300, 0x301}
    assert wrong_pages(hv, busy, tmp_path / "s") == []


@pytest.mark.paths
def test_a_save_behind_a_checkpoint_says_what_is_gone(hv: StubBackend, tmp_path: Path, busy: int) -> None:
    """Only the first pass of all may leave holes out."""
    guest = hv.stub.guest(busy)
    guest.shut_down(2)
    nr = hv.nr_gpfns(busy)
    save = hv.new_save(busy, nr, None)
    with open(tmp_path / "s", "wb") as out:
        sink = hv.open_sink(out.fileno())
        for _ in range(2):
            save.mark_all()
            save.pass_begin(True)
            while not save.batches(sink, lambda: None).done:
                pass
            guest.balloon_out([x for x in (0x300, 0x301) if x in guest.pfns_with_memory()])
        sink.close()
    save.close()
    data, at, entries = (tmp_path / "s").read_bytes(), 0, []
    while at < len(data):
        _, length, count, _ = struct.unpack_from("<IIII", data, at)
        entries.append(struct.unpack_from(f"<{count}Q", data, at + 16))
        at += 8 + length
    said = [x for each in entries for x in each]
    assert len(said) == hv.domain_info(busy).tot_pages + 2 + nr
    assert [said[x] >> 60 for x in range(-nr + 0x2FF, -nr + 0x303)] == [0, XTAB, XTAB, 0]
