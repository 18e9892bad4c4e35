"""Exit status 2 says that nothing was done, and 1 that the work was begun: the same in every command."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import containers as c
from support.same import check_same

import pyxcsr
from cli.programs import COMMAND, GUEST, SAVE, run
from pyxcsr.hypervisor.open import StubBackend

RESTORE = ("restore", "--backend", "stub")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "s"
    assert run(GUEST, path, "--quiet", command=SAVE).returncode == 0
    return path


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("save", "{xen}", "{folder}/s"), "--backend stub"),
        (("restore", "{image}", "--domid", "1"), "--backend stub"),
        (("recover", "1"), "--backend stub"),
        (("save", "--backend", "stub", GUEST, "{folder}/none/s"), "cannot be created: No such file"),
        (("save", "--backend", "stub", GUEST, "{image}/s"), "cannot be created: Not a directory"),
        (("save", "--backend", "stub", "--checksum", GUEST, "{folder}/none/s"), "cannot be created"),
        (("save", "--backend", "stub", GUEST, "{image}"), "exists; --force replaces it"),
        (("save", "--backend", "stub", GUEST, "{folder}"), "is a directory"),
        (("save", "--backend", "stub", "--force", GUEST, ""), "the name of the file is empty"),
        (("save", "--backend", "stub", GUEST, "--receiver", " "), "--receiver needs a command"),
        (("save", "--backend", "stub", "pv64:mem=8M,vcpus=0", "{folder}/s"), "1 to 64 vcpus"),
        (("demo", "--vcpus", "0"), "1 to 64 vcpus"),
        (("convert", "{xl}", "{folder}/none/s"), "cannot be created"),
        (("convert", "{xl}", ""), "the name of the file is empty"),
        (("convert", "", "{folder}/s"), "'': No such file"),
        (("convert", os.devnull, "{folder}/s"), "the input is empty"),
        (("convert", "{folder}/garbage", "{folder}/s"), "not a libxc stream"),
        (("convert", "{folder}/none", "{folder}/s"), "none: No such file"),
        ((*RESTORE, os.devnull), "the input is empty"),
        ((*RESTORE, "{folder}/garbage"), "not a libxc stream"),
        ((*RESTORE, "{folder}/none"), "none: No such file"),
        ((*RESTORE, "{folder}/header"), "ends at byte 30"),
        ((*RESTORE, "{folder}/xl header"), "ends at byte 40"),
        ((*RESTORE, "{folder}/newer"), "version 9"),
        ((*RESTORE, "--kind", "hvm", "{image}"), "a PV guest's"),
        ((*RESTORE, "--checksum", "{image}"), "there is no checksum"),
        ((*RESTORE, "--max-mem", "1", "{image}"), ""),
        ((*RESTORE, "--domid", "4", "{image}"), "--domid is for Xen"),
        ((*RESTORE, "--store-evtchn", "4294967296", "{image}"), "store_evtchn is 4294967296: it must be less"),
        (("verify", "{folder}/none"), "none: No such file"),
        (("verify", ""), "'': No such file"),
        (("verify", "{folder}/garbage"), "not a libxc stream"),
        (("inspect", "{folder}/none"), "none: No such file"),
        (("inspect", "{folder}/garbage"), "not a libxc stream"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_nothing_was_done(image: Path, tmp_path: Path, words: tuple[str, ...], what: str) -> None:
    if what == "--backend stub" and Path("/dev/xen/privcmd").exists():
        pytest.skip("this is a Xen host")
    data = image.read_bytes()
    given = {"garbage": b"g" * 100, "header": data[:30], "xl header": c.xl()[:40], "xl": c.xl()}
    given["newer"] = data[:12] + (9).to_bytes(4, "big") + data[16:]
    for name, content in given.items():
        (tmp_path / name).write_bytes(content)
    places = {"xen": 1, "folder": tmp_path, "image": image, "xl": tmp_path / "xl"}
    done = run(*(word.format(**places) for word in words))
    assert done.returncode == 2 and what in done.stderr.decode(), done.stderr
    check_same(image.read_bytes(), data)
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted(given)


@pytest.mark.parametrize("words", [("verify", "-"), ("inspect", "-"), ("convert", "-", "s"), (*RESTORE, "-")])
@pytest.mark.parametrize("how", ["<&-", "</dev/null 0>/dev/null"])
def test_a_standard_input_that_cannot_be_read(tmp_path: Path, words: tuple[str, ...], how: str) -> None:
    """Closed, or open for writing only."""
    command = ["sh", "-c", f'exec "$@" {how}', "sh", *COMMAND, *words]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(b"pyxcsr: standard input: it is closed"), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("save", "--backend", "stub", f"{GUEST},suspend=crash", "{folder}/s"),
        ("save", "--backend", "stub", GUEST, "/dev/full"),
        (*RESTORE, "{folder}/cut"),
        (*RESTORE, "--max-mem", "4M", "{image}"),
        ("convert", "--to", "libxl", "{folder}/cut", "{folder}/s"),
        ("verify", "{folder}/cut"),
        ("inspect", "{folder}/cut"),
    ],
    ids="-".join,
)
def test_it_was_begun(image: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "cut").write_bytes(image.read_bytes()[:100_000])
    done = run(*(word.format(folder=tmp_path, image=image) for word in words))
    assert done.returncode == 1, done.stderr
    assert [x.name for x in tmp_path.iterdir()] == ["cut"]


def test_through_the_interface(hv: StubBackend, tmp_path: Path) -> None:
    """What the statuses go by is an attribute of the errors."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with open(tmp_path / "s", "wb") as out:
        with pytest.raises(pyxcsr.DomainNotFound) as caught:
            pyxcsr.save(hv, 999, out)
        assert caught.value.untouched
        with pytest.raises(pyxcsr.Cancelled) as ended:
            pyxcsr.save(hv, domid, out, cancel=lambda: True)
        assert not ended.value.untouched and hv.stub.guest(domid).running
        pyxcsr.save(hv, domid, out)
    new = hv.stub.create_empty("4M")
    for content, untouched in ((b"garbage" * 10, True), (tmp_path.joinpath("s").read_bytes()[:40], False)):
        (tmp_path / "in").write_bytes(content)
        with open(tmp_path / "in", "rb") as file, pytest.raises(pyxcsr.XcsrError) as refused:
            pyxcsr.restore(hv, new, file)
        assert refused.value.untouched is untouched


def test_a_damaged_stream_is_not_restored(image: Path, tmp_path: Path) -> None:
    """Its checksum says so before a domain is built from it."""
    pytest.importorskip("xxhash")
    path = tmp_path / "s"
    assert run("--quiet", "--checksum", GUEST, path, command=SAVE).returncode == 0
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = run(*RESTORE, "--json", path)
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["class"] == "ChecksumMismatch"
