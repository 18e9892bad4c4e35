"""libvirt's and XenServer's files: verified, inspected, converted, entered; what is no such file is refused."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest
from support import containers as c

from pyxcsr.container.copy import convert
from pyxcsr.container.enter import enter, leave
from pyxcsr.container.reader import Kind
from pyxcsr.container.survey import survey_input
from pyxcsr.container.verify import verify_input
from pyxcsr.errors import NotAStream, StreamError, UsageError, XcsrError
from pyxcsr.image.memory import MemoryImage
from pyxcsr.stream.source import Source
from pyxcsr.stream.survey import Line

HVM_PARTS = (c.part(c.QEMU_XEN, b"QEVM" * 100), c.part(0xF11, b"vars"))
FILES = {
    "libvirt_pv": (Kind.LIBVIRT, c.libvirt(), c.PV, 0),
    "libvirt_hvm": (Kind.LIBVIRT, c.libvirt(c.HVM_LIBXL), c.HVM, len(c.PAIRS) + len(c.BLOB)),
    "image_pv": (Kind.XENSERVER, c.suspend_image(), c.PV, 0),
    "image_hvm": (Kind.XENSERVER, c.suspend_image(c.HVM, *HVM_PARTS), c.HVM, 400),
    "image_without_metadata": (Kind.XENSERVER, c.suspend_image(ahead=b""), c.PV, 0),
}


@pytest.mark.parametrize("name", FILES)
def test_verified_inspected_converted(name: str) -> None:
    kind, data, stream, left_out = FILES[name]
    report = verify_input(io.BytesIO(data))
    assert report.complaints == [] and report.memory_checked and report.container is not None
    assert report.container.kind == kind.value and report.container.complete and report.container.bytes == len(data)
    lines: list[Line] = []
    sums = survey_input(io.BytesIO(data), lines.append)
    assert sums.complete and not sums.problems and sums.container is not None and sums.container.complete
    assert sums.container.libxc_offset == data.index(stream)
    assert sums.container.name == ("guest" if kind is Kind.LIBVIRT else None)
    at = 0
    for line in lines:  # one behind the other, without a gap
        assert line.offset == at, line
        at += line.size
    assert at == len(data)
    out = io.BytesIO()
    done = convert(io.BytesIO(data), out.write)
    assert out.getvalue() == stream
    assert (done.source, done.to, done.left_out) == (kind, Kind.LIBXC, left_out)


def test_libvirt_to_libxl_and_xl() -> None:
    out = io.BytesIO()
    convert(io.BytesIO(c.libvirt(c.HVM_LIBXL)), out.write, to=Kind.LIBXL)
    assert out.getvalue() == c.HVM_LIBXL
    out, text = io.BytesIO(), c.text_of(c.config("hvm"))
    convert(io.BytesIO(c.libvirt(c.HVM_LIBXL)), out.write, to=Kind.XL, config=text)
    assert out.getvalue() == c.HVM_XL
    with pytest.raises(UsageError, match="--config"):
        convert(io.BytesIO(c.libvirt()), out.write, to=Kind.XL)


@pytest.mark.parametrize("to", [Kind.LIBXL, Kind.XL, Kind.XENSERVER, Kind.LIBVIRT])
def test_what_cannot_be_written(to: Kind) -> None:
    config = c.text_of(c.config()) if to is Kind.XL else None
    for data in (c.suspend_image(), c.PV)[: 1 if to in (Kind.LIBXL, Kind.XL) else 2]:
        with pytest.raises(UsageError):
            convert(io.BytesIO(data), lambda data: pytest.fail("nothing may be written"), to=to, config=config)


@pytest.mark.parametrize("name", FILES)
def test_entered_and_read_as_an_image(name: str, tmp_path: Path) -> None:
    _, data, stream, _ = FILES[name]
    source = Source(io.BytesIO(data))
    kind = enter(source)
    assert source.offset == data.index(stream)
    source.skip(len(stream))
    assert leave(source, kind) is None and source.offset == len(data)
    for file, content in (("a", data), ("b", stream)):
        (tmp_path / file).write_bytes(content)
    with MemoryImage(os.fspath(tmp_path / "a")) as image, MemoryImage(os.fspath(tmp_path / "b")) as other:
        assert {x: image.page(x) for x in image.pfns()} == {x: other.page(x) for x in other.pfns()}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (c.libvirt(version=1), "legacy"),
        (c.libvirt(version=3), "version 3, unknown"),
        (b"XenSavedDomain\n" + bytes(100), "legacy suspend image"),
        (b"LibvirtQemudSave" + bytes(100), "QEMU or KVM"),
    ],
)
def test_refused_with_a_reason(data: bytes, words: str) -> None:
    for function in (verify_input, lambda file: survey_input(file, lambda line: None)):
        with pytest.raises(NotAStream, match=words):
            function(io.BytesIO(data))
    with pytest.raises(NotAStream, match=words):
        convert(io.BytesIO(data), lambda data: pytest.fail("nothing may be written"))


def test_the_name_is_no_more_than_a_name() -> None:
    for xml, name in (
        (b"<name>a&lt;b</name>\0", None),
        (b"<name>" + b"x" * 300 + b"</name>\0", None),
        (b"<name>\x1b[2J</name>\0", None),
        (b"<name>gast</name>\0", "gast"),
    ):
        sums = survey_input(io.BytesIO(c.libvirt(xml=xml)), lambda line: None)
        assert sums.container is not None and sums.container.name == name


@pytest.mark.parametrize("seed", range(40))
def test_whatever_bytes_there_are(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(FILES[list(FILES)[seed % len(FILES)]][1])
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(min(len(data), 200))] = rng.randrange(256)
    del data[rng.randrange(len(data)) if seed % 3 else len(data) :]
    with_errors = (verify_input, lambda file: survey_input(file, lambda line: None), lambda file: convert(file, len))
    for function in with_errors:
        try:
            function(io.BytesIO(bytes(data)))
        except (StreamError, UsageError) as error:
            assert isinstance(error, XcsrError)
