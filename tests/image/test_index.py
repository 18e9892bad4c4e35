"""The index beside a file: it says the same as a pass, is not believed when the file has changed, and does no harm."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
from pathlib import Path

import pytest
from cli.programs import run
from support.same import check_same_pages

from image.guests import Saved, save_guest
from pyxcsr import MemoryImage, XcsrError
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.image import beside, memory


@pytest.fixture(params=["pv64", "pvh"])
def saved(request: pytest.FixtureRequest, hv: StubBackend, tmp_path: Path) -> Saved:
    found = save_guest(hv, request.param, tmp_path / "stream", mem="4M")
    with MemoryImage(found.path, index=False) as image:
        index_of(found).write_bytes(beside.encode(image.fd, image.began, image.map, image.contents))
    return found


def index_of(saved: Saved) -> Path:
    return Path(beside.beside(str(saved.path)))


def loaded(path: Path) -> bool:
    with path.open("rb") as file:
        return beside.load(file.fileno(), str(path)) is not None


def test_it_says_the_same(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the stream was read")

    with MemoryImage(saved.path, index=False) as plain:
        monkeypatch.setattr(memory, "take", never)
        with MemoryImage(saved.path) as image:
            check_same_pages({pfn: image.page(pfn) for pfn in image.pfns()}, saved.pages)
            assert image.map.chunks == plain.map.chunks
            assert image.contents.keys() == plain.contents.keys()
            assert all(image.contents.body(*x) == plain.contents.body(*x) for x in image.contents.keys())  # noqa: SIM118 - no dict
            assert image.contents.p2m_frames == plain.contents.p2m_frames
            assert image.registers(0).values == plain.registers(0).values


def test_the_command(hv: StubBackend, tmp_path: Path) -> None:
    saved = save_guest(hv, "pv64", tmp_path / "stream", mem="4M")
    done = run("index", saved.path)
    assert done.returncode == 0 and loaded(saved.path)
    assert run("index", "--quiet", saved.path).stdout == b""
    assert run("index", "-").returncode == 2
    (tmp_path / "packed").write_bytes(gzip.compress(b"whatever it may be"))
    done = run("index", tmp_path / "packed")
    assert done.returncode == 2 and b"it is compressed" in done.stderr  # without unpacking it
    assert run("index", tmp_path / "none").returncode == 2
    (tmp_path / "text").write_text("no stream")
    assert run("index", tmp_path / "text").returncode == 2 and not (tmp_path / f"text{beside.SUFFIX}").exists()


@pytest.mark.parametrize("when", [-1, -(10**10), 1 << 62])
def test_a_file_of_another_age(saved: Saved, when: int) -> None:
    """Archives, and clocks that are wrong, give files such dates: before 1970, and in the year 2116."""
    os.utime(saved.path, ns=(when, when))
    assert run("index", saved.path).returncode == 0 and loaded(saved.path)


def test_a_file_that_has_changed(saved: Saved) -> None:
    data, facts = saved.path.read_bytes(), saved.path.stat()
    assert loaded(saved.path)
    os.utime(saved.path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert not loaded(saved.path)
    for change in (data + b"x", data[:-1], b"y" + data[1:], data[:-1] + b"y"):
        saved.path.write_bytes(change)
        os.utime(saved.path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert not loaded(saved.path)
    saved.path.write_bytes(data)
    os.utime(saved.path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert loaded(saved.path)


def signed(index: bytes) -> bytes:
    """A changed index with its checksum right again, as somebody would forge it."""
    body = index[64:]
    return index[:24] + len(body).to_bytes(8, "little") + hashlib.sha256(body).digest() + body


def test_damaged_ones_are_left_alone(saved: Saved) -> None:
    path, good = index_of(saved), index_of(saved).read_bytes()
    assert signed(good) == good and loaded(saved.path)
    for bad in (b"", good[:10], good[:100], good[:-1], good + b"x", b"x" + good[1:], good[:5000] + b"x" + good[5001:]):
        path.write_bytes(bad)
        assert not loaded(saved.path)
        with MemoryImage(saved.path) as image:
            check_same_pages({pfn: image.page(pfn) for pfn in image.pfns()}, saved.pages)
    path.unlink()
    path.mkdir()
    assert not loaded(saved.path)


def test_forged_ones_do_no_harm(saved: Saved) -> None:
    """Whatever stands in one, pages are 4096 bytes of the same file, or there is an error of the package's."""
    path, good = index_of(saved), index_of(saved).read_bytes()
    numbers = random.Random(5)
    believed = 0
    for _ in range(80):
        forged = bytearray(good)
        for _ in range(numbers.choice((1, 3, 20))):
            at = numbers.randrange(64 + 48, len(good)) if numbers.random() < 0.7 else numbers.randrange(112, 400)
            forged[at] = numbers.choice((0, 1, 0x7F, 0x80, 0xFF, numbers.randrange(256)))
        path.write_bytes(signed(bytes(forged)))
        try:
            with MemoryImage(saved.path) as image:
                believed += loaded(saved.path)
                for pfn in list(image.pfns())[::37]:
                    page = image.page(pfn)
                    assert page is not None and len(page) == 4096
                image.types()
                for vcpu in image.vcpus():
                    image.walk(image.registers(vcpu).rsp)
        except XcsrError:
            pass
    assert believed > 4  # else nothing was tried
