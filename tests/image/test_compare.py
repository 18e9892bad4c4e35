"""compare and stats: counts that are known, because the stub guest's writes are."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from cli.programs import run
from support import hvm, streams

from image.guests import options_of
from pyxcsr import MemoryImage, PageType, StubGuest, restore, save
from pyxcsr.cli import compare as command
from pyxcsr.cli import main
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.image.compare import Comparison, compare
from pyxcsr.image.pagemap import PageMap
from pyxcsr.image.stats import entropy, stats
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType


def saved(hv: StubBackend, domid: int, path: Path, kind: str = "pv64") -> Path:
    with path.open("wb") as out:
        save(hv, domid, out, live=False, **options_of(hv, domid, kind))
    return path


def compared(a: Path, b: Path):  # type: ignore[no-untyped-def]
    with MemoryImage(a) as x, MemoryImage(b) as y:
        return compare(x, y)


@pytest.mark.parametrize("kind", ["pv64", "pvh"])
def test_with_itself(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    domid = hv.stub.create(getattr(StubGuest, kind)(mem="4M", holes=0.05))
    path = saved(hv, domid, tmp_path / "a", kind)
    found = compared(path, path)
    assert found.same and found.equal == len(hv.stub.guest(domid).pfns_with_memory()) and not found.frames
    done = run("compare", path, path)
    assert done.returncode == 0 and b"are the same" in done.stdout


def test_with_a_later_save(hv: StubBackend, tmp_path: Path) -> None:
    """Pages written, given back and taken between two saves of one guest, and nothing else, are found."""
    domid = hv.stub.create(StubGuest.pv64(mem="8M", holes=0.02, writes=0))
    guest = hv.stub.guest(domid)
    plain = [x for x in guest.pfns_of_type(PageType.NOTAB) if x not in guest.leaf_pfns()][700:]
    a = saved(hv, domid, tmp_path / "a")
    before = {pfn: guest.read_page(pfn) for pfn in guest.pfns_with_memory()}
    hv.domain_resume(domid)
    for pfn in (plain[0], *plain[5:9]):
        guest.write_page(pfn, os.urandom(64), 8)
    guest.balloon_out([plain[20], plain[21]])
    b = saved(hv, domid, tmp_path / "b")
    after = {pfn: guest.read_page(pfn) for pfn in guest.pfns_with_memory()}
    changed = {x for x in before if x in after and before[x] != after[x]}
    found = compared(a, b)
    assert not found.same and changed >= {plain[0], *plain[5:9]}
    assert set(found.content.pfns()) == changed and list(found.only_a.pfns()) == [plain[20], plain[21]]
    assert not found.only_b.count
    back = compared(b, a)
    assert back.content.ranges == found.content.ranges and back.only_b.ranges == found.only_a.ranges

    done = run("compare", a, b)
    assert done.returncode == 1 and f"2 pfns have content in the first alone: 0x{plain[20]:x}".encode() in done.stdout
    listed = run("compare", "--list", a, b).stdout.decode().splitlines()
    assert f"0x{plain[5]:x} content" in listed and f"0x{plain[20]:x} only-first" in listed
    document = json.loads(run("compare", "--json", a, b).stdout)
    assert document["content"] == found.content.to_dict() and document["schema"] == 1 and not document["same"]


def test_a_restored_guest(hv: StubBackend, tmp_path: Path) -> None:
    """On other frames: page tables compare as equal, and so do the p2m's frames, which hold those frames' numbers."""
    domid = hv.stub.create(StubGuest.pv64(mem="4M"))
    a = saved(hv, domid, tmp_path / "a")
    old = {hv.stub.guest(domid).mfn(x) for x in hv.stub.guest(domid).pfns_with_memory()}
    other = hv.stub.create_empty(max_mem=16 << 20)
    with a.open("rb") as file:
        restore(hv, other, file)
    guest = hv.stub.guest(other)
    assert not old & {guest.mfn(x) for x in guest.pfns_with_memory()}
    guest.adopt()
    guest.set_writes(0)
    b = saved(hv, other, tmp_path / "b")
    found = compared(a, b)
    assert found.frames == len(guest.leaf_pfns()) > 0 and not found.types.count
    assert found.content.count <= 2  # start_info, and what the guest has noted of its new machine


def made(path: Path, *pages: rec.Record, cpuid: bytes = bytes(24)) -> Path:
    """An HVM guest with these records for its pages."""
    records = [x for x in streams.hvm() if not isinstance(x, rec.PageData)]
    records = [rec.CpuidPolicy(cpuid) if isinstance(x, rec.CpuidPolicy) else x for x in records]
    at = next(i for i, x in enumerate(records) if isinstance(x, rec.StaticDataEnd)) + 1
    path.write_bytes(streams.assemble([*records[:at], *pages, *records[at:]], DomainType.HVM))
    return path


def page_data(pages: dict[int, bytes], kind: PageType = PageType.NOTAB) -> rec.PageData:
    return rec.PageData.build((pfn, kind, page) for pfn, page in pages.items())


def test_each_kind_of_difference(tmp_path: Path) -> None:
    plain = {pfn: bytes([pfn]) * PAGE_SIZE for pfn in range(1, 6)}
    a = made(tmp_path / "a", page_data(plain), page_data({9: b""}, PageType.XTAB))
    b = made(tmp_path / "b", page_data({**plain, 2: bytes(PAGE_SIZE), 7: plain[1]}), page_data({8: b""}, PageType.XTAB))
    found = compared(a, b)
    assert (found.equal, found.content.ranges, found.only_b.ranges) == (4, [(2, 2)], [(7, 7)])
    assert not found.types.count  # what has no memory is the same as what was never named
    last = made(tmp_path / "last", page_data({**plain, 3: plain[3][:-1] + b"x"}))
    assert compared(a, last).content.ranges == [(3, 3)]
    c = made(tmp_path / "c", page_data(plain), page_data({9: b""}, PageType.BROKEN), cpuid=b"x" * 24)
    found = compared(a, c)
    assert found.types.ranges == [(9, 9)] and found.records == ["X86_CPUID_POLICY"] and not found.same
    other = compared(a, made_pv(tmp_path))
    assert "the kind of guest: HVM, PV" in other.records and any("vcpu 0" in x for x in other.records)


def made_pv(folder: Path) -> Path:
    path = folder / "pv"
    path.write_bytes(streams.assemble(streams.pv64()))
    return path


def test_registers_are_named(tmp_path: Path) -> None:
    path = made_pv(tmp_path)
    records = streams.pv64()
    at, basic = streams.find(records, rec.VcpuBasic)
    blob = bytearray(basic.blob)
    blob[648] ^= 1  # rip
    records[at] = rec.VcpuBasic(0, bytes(blob))
    (tmp_path / "b").write_bytes(streams.assemble(records))
    assert compared(path, tmp_path / "b").records == ["vcpu 0: X86_PV_VCPU_BASIC (rip)"]


@pytest.mark.parametrize(("instance", "named"), [(0, " (rip)"), (8191, " (rip)"), (8192, ""), (9000, ""), (65535, "")])
def test_registers_of_no_vcpu_just_differ(tmp_path: Path, instance: int, named: str) -> None:
    """A save record can have an instance that no vcpu has: it differs like any other."""
    others = hvm.record(hvm.CPU, 1, bytes(1032))
    for name, rip in (("a", 0), ("b", 1)):
        cpu = hvm.record(hvm.CPU, instance, bytes(640) + rip.to_bytes(8, "little") + bytes(384))
        records = streams.hvm()
        records[streams.find(records, rec.HvmContext)[0]] = rec.HvmContext(hvm.header() + others + cpu + hvm.END)
        (tmp_path / name).write_bytes(streams.assemble(records, DomainType.HVM))
    assert compared(tmp_path / "a", tmp_path / "b").records == [f"HVM_CONTEXT: CPU of instance {instance}{named}"]
    assert run("compare", tmp_path / "a", tmp_path / "b").returncode == 1


@pytest.mark.parametrize("vcpu", [0, 5])
def test_registers_in_a_stream_of_the_other_kind_just_differ(tmp_path: Path, vcpu: int) -> None:
    """A PV guest's in the stream of an HVM guest, and the other way."""

    def differing(kind: DomainType, records: list[rec.Record], *last: rec.Record) -> list[str]:
        for name, record in zip("ab", last):
            (tmp_path / name).write_bytes(streams.assemble([*records[:-1], record, records[-1]], kind))
        return compared(tmp_path / "a", tmp_path / "b").records

    two = [bytes([x]) * 5168 for x in range(2)]
    basic = [rec.VcpuBasic(vcpu, x) for x in two]
    assert differing(DomainType.HVM, streams.hvm(), *basic) == [f"vcpu {vcpu}: X86_PV_VCPU_BASIC"]
    cpus = [rec.HvmContext(hvm.header() + hvm.record(hvm.CPU, vcpu, x[:1032]) + hvm.END) for x in two]
    pv = [x for x in streams.pv64() if not isinstance(x, rec.VcpuBasic)]
    assert differing(DomainType.PV, pv, *cpus) == [f"HVM_CONTEXT: CPU of instance {vcpu}"]


def test_trouble_is_2(tmp_path: Path) -> None:
    path = made_pv(tmp_path)
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-20])
    for other in ("cut", "none"):
        done = run("compare", path, tmp_path / other)
        assert done.returncode == 2 and str(tmp_path / other).encode() in done.stderr
    assert run("compare", "-", "-").returncode == 2
    with path.open("rb") as file:
        assert run("compare", "--quiet", path, "-", stdin=file).returncode == 0


# stats


def test_stats(tmp_path: Path) -> None:
    numbers = random.Random(1)
    noise = {pfn: numbers.randbytes(PAGE_SIZE) for pfn in range(100, 140)}
    zero = dict.fromkeys(range(200, 250), bytes(PAGE_SIZE))
    twice = dict.fromkeys(range(300, 310), noise[100])
    path = made(tmp_path / "s", page_data({**noise, **zero, **twice}), page_data({5: b""}, PageType.XTAB))
    with MemoryImage(path) as image:
        found = stats(image)
    assert (found.pages, found.zero, found.duplicates) == (100, 50, 10)
    assert found.entropy == [50, 0, 0, 0, 0, 0, 0, 50] and found.entropy_pages == 100
    if shutil.which("zstd"):
        assert found.sampled == 100 * PAGE_SIZE and 39 * PAGE_SIZE < (found.compressed or 0) < 51 * PAGE_SIZE
    done = run("stats", path)
    assert done.returncode == 0 and b"zero pages: 50 (50.0 %)" in done.stdout
    assert json.loads(run("stats", "--json", path).stdout)["duplicates"] == 10
    (tmp_path / "empty").write_bytes(made(tmp_path / "e").read_bytes())
    assert run("stats", tmp_path / "empty").returncode == 0


def test_entropy() -> None:
    assert entropy(bytes(4096)) == 0 and entropy(bytes(range(256)) * 16) == 8
    assert entropy(b"ab" * 2048) == pytest.approx(1)


def test_without_zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with MemoryImage(made_pv(tmp_path)) as image:
        assert stats(image).compressed is None


def test_p2m_records_far_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies between them is millions of places without a frame, which are not looked at one by one."""
    records = streams.pv64()
    at, _ = streams.find(records, rec.P2mFrames)
    far = rec.P2mFrames(1 << 30, 1 << 30, [streams.P2M])
    path = tmp_path / "a"
    path.write_bytes(streams.assemble([*records[: at + 1], far, *records[at + 1 :]]))
    asked, word = [], PageMap.word

    def counted(self: PageMap, pfn: int) -> int:
        asked.append(pfn)
        return word(self, pfn)

    monkeypatch.setattr(PageMap, "word", counted)
    assert compared(path, path).same
    assert streams.P2M in asked and len(asked) < 1000


def test_what_cannot_be_read_does_not_differ(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once both images are there, while their pages are compared: status 1 would say that they differ."""
    path = saved(hv, hv.stub.create(StubGuest.pv64(mem="2M")), tmp_path / "a")
    shutil.copy(path, tmp_path / "b")

    def unreadable(*_: object) -> Comparison:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(command, "compare", unreadable)
    assert main.main(["compare", str(path), str(tmp_path / "b")]) == 2
    assert f"{path} or {tmp_path / 'b'}: {os.strerror(errno.EIO)}" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["opened_image", "compare"])
def test_no_memory_is_no_difference(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    path = saved(hv, hv.stub.create(StubGuest.pv64(mem="2M")), tmp_path / "a")

    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(command, where, none_left)
    assert main.main(["compare", str(path), str(path)]) == 2
    assert "no memory left to compare them" in capsys.readouterr().err
