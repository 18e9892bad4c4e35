"""An image that has been closed, and what it is given to read: no other file is read that has got its descriptor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import streams

from image.test_dump import memory, one, written
from pyxcsr import InputError, MemoryImage, UsageError

PV = streams.assemble(streams.pv64())

USES: dict[str, Callable[[MemoryImage], object]] = {
    "kind": lambda x: x.kind,
    "map": lambda x: x.map,
    "fd": lambda x: x.fd,
    "began": lambda x: x.began,
    "contents": lambda x: x.contents,
    "pfns": lambda x: x.pfns(),
    "types": lambda x: x.types(),
    "type_of": lambda x: x.type_of(1),
    "page": lambda x: x.page(1),
    "at": lambda x: x.at(0),
    "fill": lambda x: x.fill(memoryview(bytearray(8)), 0),
    "read": lambda x: x.read(1 << 12, 8),
    "find": lambda x: list(x.find(b"x")),
    "array": lambda x: x.array(1),
    "vcpus": lambda x: x.vcpus(),
    "registers": lambda x: x.registers(0),
    "save_record": lambda x: x.save_record(0),
    "walk": lambda x: x.walk(0),
    "translate": lambda x: x.translate(0),
    "read_virtual": lambda x: x.read_virtual(0, 8),
    "__enter__": lambda x: x.__enter__(),
}


def test_each_use_is_listed() -> None:
    assert {x for x in vars(MemoryImage) if not x.startswith("_")} | {"__enter__"} == {*USES, "close"}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("hvm", [False, True])
def test_each_use_after_close_is_refused(tmp_path: Path, use: str, hvm: bool) -> None:
    path = written(tmp_path / "s", memory(one(1)))
    if not hvm:
        path.write_bytes(PV)
    image = MemoryImage(path)
    assert image.registers(0) is not None
    image.close()
    with path.open("rb"), pytest.raises(UsageError, match="numpy" if use == "array" and not numpy() else "been closed"):
        USES[use](image)
    image.close()
    assert repr(image) == "<MemoryImage: closed>"


def numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        return None
    return np


def test_the_callers_descriptor_may_become_another_files(tmp_path: Path) -> None:
    mine, other = (written(tmp_path / x, memory(one(1, fill=x.encode()))) for x in "xy")
    fd, instead = (os.open(x, os.O_RDONLY) for x in (mine, other))
    with MemoryImage(fd) as image:
        os.dup2(instead, fd)
        assert image.page(1) == b"x" * 4096
    assert os.fstat(fd) == os.fstat(instead)
    os.close(fd)
    os.close(instead)


def test_an_array_outlives_its_image(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="numpy is not installed: apt-get install python3-numpy")
    with MemoryImage(written(tmp_path / "s", memory(one(1, fill=b"x")))) as image:
        array = image.array(1)
    assert bytes(array) == b"x" * 4096


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    """What docs/image.md promises of ``page()``; an array of it would end the process."""
    path = written(tmp_path / "s", memory(one(1)))
    with MemoryImage(path) as image:
        os.truncate(path, 100)
        with pytest.raises(InputError, match="has changed"):
            image.page(1)


def test_names_and_what_is_none(tmp_path: Path) -> None:
    path = written(tmp_path / "s", memory(one(1)))
    for name in (path, str(path), os.fsencode(path)):
        with MemoryImage(name) as image:
            assert len(list(image.pfns())) == 1
    wrong: Any
    with path.open("rb") as file, open(tmp_path / "out", "wb") as out:
        for wrong in (file, None, True, 1.5, bytearray(b"s"), -1, 1 << 40, 1 << 20, out.fileno(), "a\0b", b"a\0b"):
            with pytest.raises(UsageError, match=r"path or a descriptor|descriptor|zero byte"):
                MemoryImage(wrong)
