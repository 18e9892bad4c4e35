"""Dumps in three formats, page by page against the stub machine's own memory, read by parsers written for the test."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
from array import array
from pathlib import Path

import pytest
from cli.programs import run
from support import streams
from support.same import check_same, check_same_pages

from image.guests import KINDS, XEN_SLOTS, Saved, save_guest
from pyxcsr import StubGuest, save
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.image.dump import Format, dump
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType

PAGE = 4096


@pytest.fixture(params=KINDS)
def saved(request: pytest.FixtureRequest, hv: StubBackend, tmp_path: Path) -> Saved:
    return save_guest(hv, request.param, tmp_path / "stream")


def dumped(saved: Saved, how: str) -> Path:
    out = saved.path.with_suffix(f".{how}")
    done = run("dump", saved.path, out, "--format", how)
    assert done.returncode == 0, done.stderr
    return out


# Parsers


def sections(path: Path) -> dict[str, tuple[int, int]]:
    """An ELF file's sections by name: (offset, size)."""
    data = path.read_bytes()
    at, size, count, names = _ehdr(data)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, at + size * i) for i in range(count)]
    strings = data[headers[names][4] :]
    return {strings[x[0] : strings.index(b"\0", x[0])].decode(): (x[4], x[5]) for x in headers}


def _ehdr(data: bytes) -> tuple[int, int, int, int]:
    fields = struct.unpack_from("<16sHHIQQQIHHHHHH", data)
    assert fields[0][:7] == b"\x7fELF\x02\x01\x01" and fields[1:3] == (4, 62)  # a core of x86-64
    return fields[6], fields[11], fields[12], fields[13]


def numbers(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 8}Q", data)


def elf_pages(path: Path, pv: bool) -> tuple[dict[int, bytes], dict[int, int]]:
    """pfn -> page, and pfn -> mfn of a PV guest."""
    data, found = path.read_bytes(), sections(path)
    offset, size = found[".xen_p2m" if pv else ".xen_pfn"]
    table = numbers(data[offset : offset + size])
    pfns = table[::2] if pv else table
    start, length = found[".xen_pages"]
    assert length == len(pfns) * PAGE and start % PAGE == 0 and list(pfns) == sorted(set(pfns))
    pages = {pfn: data[start + PAGE * i : start + PAGE * (i + 1)] for i, pfn in enumerate(pfns)}
    return pages, dict(zip(table[::2], table[1::2])) if pv else {}


def lime_pages(path: Path) -> dict[int, bytes]:
    data, at, pages = path.read_bytes(), 0, {}
    while at < len(data):
        magic, version, first, last, reserved = struct.unpack_from("<IIQQQ", data, at)
        assert (magic, version, reserved) == (0x4C694D45, 1, 0) and first % PAGE == 0 and (last + 1) % PAGE == 0
        at += 32
        for paddr in range(first, last, PAGE):
            assert paddr // PAGE not in pages
            pages[paddr // PAGE] = data[at : at + PAGE]
            at += PAGE
    return pages


# Each page


def test_raw(saved: Saved) -> None:
    out = dumped(saved, "raw")
    assert out.stat().st_size == (max(saved.pages) + 1) * PAGE
    assert out.stat().st_blocks * 512 <= len(saved.pages) * PAGE + (1 << 20)
    with out.open("rb") as file:
        for pfn, page in saved.pages.items():
            assert os.pread(file.fileno(), PAGE, pfn * PAGE) == page, hex(pfn)
        holes = [x for x in range(min(max(saved.pages), 4096)) if x not in saved.pages]
        assert holes and all(os.pread(file.fileno(), PAGE, x * PAGE) == bytes(PAGE) for x in holes)


def test_lime(saved: Saved) -> None:
    check_same_pages(lime_pages(dumped(saved, "lime")), saved.pages)


def test_elf_has_what_the_machine_had(saved: Saved) -> None:
    """Of a PV guest: machine frame numbers in its page tables, as `xl dump-core` finds them."""
    pages, mfns = elf_pages(dumped(saved, "elf"), saved.pv)
    assert mfns == saved.mfns and list(pages) == sorted(saved.machine)
    for pfn, page in saved.machine.items():
        slots = XEN_SLOTS if saved.types[pfn] in (4, 12) else slice(0, 0)  # a level 4 table, in which Xen has its own
        ours, theirs = (x[: slots.start] + x[slots.stop :] for x in (pages[pfn], page))
        assert ours == theirs, hex(pfn)
    if saved.pv:
        assert any(saved.pages[pfn] != saved.machine[pfn] for pfn in saved.pages)  # else this would prove nothing


def test_elf_notes_and_contexts(saved: Saved) -> None:
    out = dumped(saved, "elf")
    data, found = out.read_bytes(), sections(out)
    offset, size = found[".note.Xen"]
    notes, at = {}, offset
    while at < offset + size:
        name, length, kind, text = struct.unpack_from("<III4s", data, at)
        assert (name, text) == (4, b"Xen\0")
        notes[kind - 0x2000000] = data[at + 16 : at + 16 + length]
        at += 16 + length
    assert sorted(notes) == [0, 1, 2, 3] and notes[0] == b"" and numbers(notes[3]) == (1,)
    magic, vcpus, pages, page_size = numbers(notes[1])
    assert (vcpus, pages, page_size) == (1, len(saved.pages), PAGE)
    assert magic == (0xF00FEBED if saved.pv else 0xF00FEBEE)
    assert len(notes[2]) == 1280 and numbers(notes[2][-8:]) == (PAGE,) and numbers(notes[2][:8]) == (4,)
    offset, size = found[".xen_prstatus"]
    assert size == 5168
    cr3 = int.from_bytes(data[offset + 5008 : offset + 5016], "little")
    if saved.pv:
        assert cr3 >> 12 in [saved.mfns[x] for x, kind in saved.types.items() if kind in (4, 12)]
    else:
        assert cr3 >> 12 in saved.pages
    assert (".xen_shared_info" in found) == saved.pv


_GDT_FRAMES = {f"gdt_frame{index}": 4832 + 8 * index for index in range(3)}
CONTEXT_FIELDS = {"flags": 512, "rax": 600, "rdx": 616, "rip": 648, "gdt_ents": 4960, "cr1": 4992, "cr3": 5008}
CONTEXT_FIELDS.update(_GDT_FRAMES)


def test_contexts_are_those_that_xen_had(hv: StubBackend, tmp_path: Path) -> None:
    """Frame numbers in them are mfns, without the mark that a stream has beside the user's page table."""
    domid = hv.stub.create(StubGuest.pv64(mem="4M", vcpus=3, writer="none"))
    guest = hv.stub.guest(domid)
    with (tmp_path / "s").open("wb") as out:
        save(hv, domid, out)
    assert run("dump", tmp_path / "s", tmp_path / "elf").returncode == 0
    data, found = (tmp_path / "elf").read_bytes(), sections(tmp_path / "elf")
    offset, size = found[".xen_prstatus"]
    assert size == 3 * 5168
    contexts = [data[offset + 5168 * vcpu : offset + 5168 * (vcpu + 1)] for vcpu in range(3)]
    for vcpu, context in enumerate(contexts):
        ours = {name: int.from_bytes(context[at : at + 8], "little") for name, at in CONTEXT_FIELDS.items()}
        assert ours == {name: guest.vcpu(vcpu, name) for name in CONTEXT_FIELDS}
    user = [int.from_bytes(context[4992:5000], "little") for context in contexts]
    assert user[0] and user[1] and not user[2]  # all of the ways there are


def test_readelf_and_gdb_accept_it(saved: Saved) -> None:
    out = dumped(saved, "elf")
    for command in (["readelf", "-hSW", str(out)], ["gdb", "-batch", "-nx", "-ex", "info files", "-c", str(out)]):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 and "arning" not in done.stderr and "rror" not in done.stderr, done.stderr
        if command[0] == "readelf":
            assert ".xen_pages" in done.stdout and "Advanced Micro Devices X86-64" in done.stdout


@pytest.mark.parametrize("how", ["elf", "raw", "lime"])
def test_pipes_and_compressed_files_give_the_same(hv: StubBackend, tmp_path: Path, how: str) -> None:
    saved = save_guest(hv, "pv64" if how == "raw" else "pvh", tmp_path / "stream")  # raw, the latter has 4 GiB
    out = dumped(saved, how)
    with subprocess.Popen(["cat", saved.path], stdout=subprocess.PIPE) as cat:
        done = run("dump", "-", out.with_suffix(".piped"), "--format", how, stdin=cat.stdout)
    assert done.returncode == 0, done.stderr
    subprocess.run(["gzip", "-1k", saved.path], check=True)
    done = run("dump", saved.path.with_suffix(".gz"), out.with_suffix(".unpacked"), "--format", how)
    assert done.returncode == 0, done.stderr
    for other in (".piped", ".unpacked"):
        assert subprocess.run(["cmp", out, out.with_suffix(other)], check=False).returncode == 0
        assert out.with_suffix(other).stat().st_blocks * 512 <= len(saved.pages) * PAGE + (1 << 20)


@pytest.mark.parametrize("to", ["xl", "libxl"])
def test_containers(hv: StubBackend, tmp_path: Path, to: str) -> None:
    saved = save_guest(hv, "pv64", tmp_path / "stream")
    config = tmp_path / "config"
    config.write_text('{"c_info": {"type": "pv", "name": "g"}, "b_info": {"max_vcpus": 1}}')
    words = ["--config", config] if to == "xl" else []
    assert run("convert", "--to", to, *words, saved.path, tmp_path / "in").returncode == 0
    assert run("dump", tmp_path / "in", tmp_path / "out", "--format", "raw").returncode == 0
    check_same((tmp_path / "out").read_bytes(), dumped(saved, "raw").read_bytes())


# Made-up streams


def written(path: Path, records: list[rec.Record], kind: DomainType = DomainType.HVM) -> Path:
    path.write_bytes(streams.assemble(records, kind))
    return path


def memory(*pages: rec.Record) -> list[rec.Record]:
    """An HVM guest's stream with these records in the place of its pages."""
    records = [x for x in streams.hvm() if not isinstance(x, rec.PageData)]
    at = next(i for i, x in enumerate(records) if isinstance(x, rec.StaticDataEnd)) + 1
    return [*records[:at], *pages, *records[at:]]


def one(pfn: int, kind: PageType = PageType.NOTAB, fill: bytes = b"x") -> rec.PageData:
    return rec.PageData.build([(pfn, kind, fill * PAGE if kind.has_data else b"")])


def raw_of(path: Path, piped: bool) -> bytes:
    out = path.with_suffix(".raw")
    with path.open("rb") as file, out.open("w+b") as to:
        if piped:
            with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
                assert cat.stdout is not None
                dump(cat.stdout.fileno(), to.fileno(), Format.RAW)
        else:
            dump(file.fileno(), to.fileno(), Format.RAW)
        return out.read_bytes()


@pytest.mark.parametrize("piped", [False, True])
def test_pages_of_zeros_are_holes_and_no_other(tmp_path: Path, piped: bool) -> None:
    """Also those of which one byte alone, the first or the last or one between, is something."""
    pages = [bytearray(PAGE) for _ in range(70)]
    for pfn, at in ((3, 0), (4, 1), (5, PAGE - 1), (69, 2048)):
        pages[pfn][at] = 1
    data = rec.PageData.build([(pfn, PageType.NOTAB, bytes(page)) for pfn, page in enumerate(pages)])
    path = written(tmp_path / "s", memory(data))
    assert raw_of(path, piped) == b"".join(pages)
    assert path.with_suffix(".raw").stat().st_blocks * 512 <= 4 * PAGE


@pytest.mark.parametrize("piped", [False, True])
def test_the_last_word_wins(tmp_path: Path, piped: bool) -> None:
    gone = [one(2, kind) for kind in (PageType.XTAB, PageType.BROKEN, PageType.XALLOC)]
    for last in gone:
        again = [one(0, fill=b"a"), one(2), one(4), last, one(0, fill=b"\0"), one(1, fill=b"b"), one(1, fill=b"c")]
        path = written(tmp_path / "s", memory(*again))
        assert raw_of(path, piped) == bytes(PAGE) + b"c" * PAGE + bytes(2 * PAGE) + b"x" * PAGE
    path = written(tmp_path / "s", memory(one(0), one(5), one(5, PageType.XTAB)))
    assert raw_of(path, piped) == b"x" * PAGE
    path = written(tmp_path / "s", memory(one(0), rec.Verify(), one(0, fill=b"y")))
    assert raw_of(path, piped) == b"x" * PAGE


def test_a_32_bit_pv_guest(tmp_path: Path) -> None:
    path = written(tmp_path / "s", streams.pv32(), DomainType.PV)
    assert run("dump", path, tmp_path / "elf").returncode == 0
    data, found = (tmp_path / "elf").read_bytes(), sections(tmp_path / "elf")
    assert found[".xen_prstatus"][1] == 5168  # as Xen's tools write it, whatever the guest's width
    offset, size = found[".xen_p2m"]
    p2m = struct.unpack("<1024I", streams.page(streams.P2M))
    table = numbers(data[offset : offset + size])
    assert list(zip(table[::2], table[1::2])) == [(pfn, p2m[pfn]) for pfn in range(16)]


@pytest.mark.parametrize(
    ("records", "what"),
    [
        (memory(rec.PageData(array("Q", [1 << 41]), b"x" * PAGE)), b"no x86 guest"),
        (memory(rec.PageData(array("Q", [5 << 60 | 3]), b"")), b"unknown page type"),
        (memory(rec.PageData(array("Q", [0xF << 60 | x << 19 for x in range(20000)]), b"")), b"too far apart"),
        (memory(one(1))[:-1], b"without an END"),
        (memory(one(1), rec.Unknown(0x13, b"x" * 64)), b"a mandatory record that this release does not know"),
    ],
)
@pytest.mark.parametrize("how", ["elf", "raw", "lime"])
def test_what_no_guest_can_be_leaves_nothing(
    tmp_path: Path, records: list[rec.Record], what: bytes, how: str
) -> None:
    path = written(tmp_path / "s", records)
    for piped in (False, True) if how != "lime" else (False,):
        with path.open("rb") as file, subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            done = run("dump", "-", tmp_path / "out", "--format", how, stdin=cat.stdout if piped else file)
        assert done.returncode == 1 and what in done.stderr, done.stderr
        assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("how", ["elf", "raw", "lime"])
def test_no_room(hv: StubBackend, tmp_path: Path, how: str) -> None:
    """What there was stays, and nothing else is there."""
    saved = save_guest(hv, "pv64", tmp_path / "stream")
    out = saved.path.with_suffix(".out")
    out.write_bytes(b"older")

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    with subprocess.Popen(["cat", saved.path], stdout=subprocess.PIPE) as cat:
        words = ["dump", "-", out, "--force", "--format", how]
        done = run(*words, stdin=cat.stdout, preexec_fn=little)
    assert done.returncode == 1 and b"cannot write: File too large" in done.stderr, done.stderr
    done = run("dump", saved.path, out, "--force", "--format", how, preexec_fn=little)
    assert done.returncode == 1 and b"File too large" in done.stderr, done.stderr
    assert out.read_bytes() == b"older"
    assert sorted(os.listdir(out.parent)) == sorted([saved.path.name, out.name])


def test_words(hv: StubBackend, tmp_path: Path) -> None:
    saved = save_guest(hv, "pvh", tmp_path / "stream", mem="4M")
    assert run("dump", saved.path, "-").returncode == 2
    assert run("dump", saved.path, "/dev/full").returncode == 2
    assert run("dump", tmp_path / "none", tmp_path / "out").returncode == 2
    done = run("dump", saved.path, tmp_path / "out", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["pages"] == len(saved.pages) and report["kind"] == "HVM"
    assert report["size"] == (tmp_path / "out").stat().st_size and report["types"]["NOTAB"] == len(saved.pages)
    assert run("dump", saved.path, tmp_path / "out").returncode == 2
    (tmp_path / "text").write_text("this is no stream")
    done = run("dump", tmp_path / "text", tmp_path / "other")
    assert done.returncode == 2 and b"not a libxc stream" in done.stderr and not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["g", "link"])
def test_not_over_the_saved_guest_itself(name: str, hv: StubBackend, tmp_path: Path) -> None:
    with (tmp_path / "g").open("wb") as out:
        save(hv, hv.stub.create(StubGuest.pv64(mem="2M")), out, live=False)
    (tmp_path / "link").symlink_to("g")
    before = (tmp_path / "g").read_bytes()
    done = run("dump", "--force", tmp_path / "g", tmp_path / name)
    assert done.returncode == 2 and b"the saved guest itself" in done.stderr
    assert (tmp_path / "g").read_bytes() == before
