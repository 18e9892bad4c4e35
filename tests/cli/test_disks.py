"""A stream is not written over what a guest has as its disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Optional

import pytest

from pyxcsr.cli import disks, main
from pyxcsr.cli.disks import check_no_disk
from pyxcsr.errors import HypervisorError, UsageError
from pyxcsr.hypervisor.domains import XenstoreCalls

BACKEND = "/local/domain/0/backend"


class Store:
    """Xenstore, as a dict of leaves."""

    def __init__(self, nodes: Optional[dict[str, str]] = None) -> None:
        self.nodes = {f"{BACKEND}/{x}": value for x, value in (nodes or {}).items()}

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        value = self.nodes.get(path)
        return None if value is None else os.fsencode(value)

    def xenstore_directory(self, path: str, /) -> list[str]:
        below = [x[len(path) + 1 :].split("/")[0] for x in self.nodes if x.startswith(f"{path}/")]
        return list(dict.fromkeys(below))


def refused(store: Store, name: object) -> str:
    """The text with which it is refused, or nothing."""
    said: list[str] = []
    try:
        check_no_disk(store, str(name), said.append)
    except UsageError as error:
        return str(error)
    assert said == []
    return ""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"disk")
    return path


@pytest.mark.parametrize("params", ["{}", "aio:{}", "qcow2:{}", "tap:qcow2:{}"])
@pytest.mark.parametrize("kind", ["vbd", "vbd3", "qdisk"])
def test_a_file(disk: Path, kind: str, params: str, tmp_path: Path) -> None:
    store = Store({f"{kind}/3/51712/params": "aio:/nowhere", f"{kind}/17/51712/params": params.format(disk)})
    (tmp_path / "folder").mkdir()
    link, hard = tmp_path / "link", tmp_path / "folder" / "disk.img"
    link.symlink_to(disk)
    os.link(disk, hard)
    for name in (disk, link, hard):
        text = refused(store, name)
        assert f"{name} is a disk of domain 17" in text and "xl block-detach 17 51712" in text
        assert f"xenstore-rm {BACKEND}/{kind}/17/51712" in text
    other = tmp_path / "other"
    assert refused(store, other) == ""
    other.write_bytes(b"disk")
    assert refused(store, other) == ""


def test_what_is_no_path(disk: Path) -> None:
    nodes = {"qdisk/1/1/params": "nbd:10.0.0.1:10809"}
    nodes.update({"qdisk/1/2/params": "", "vbd/2/1/params": "/a\0b", "qdisk/1/3/params": "x:y"})
    assert refused(Store(nodes), disk) == ""


def test_files_with_other_names_are_not_looked_at(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may lie on a server that does not answer any more."""
    looked: list[object] = []
    real = os.stat
    monkeypatch.setattr(disks.os, "stat", lambda name: (looked.append(name), real(name))[1])
    store = Store({"qdisk/1/1/params": "aio:/nas/other.img", "qdisk/1/2/params": "aio:/nas/disk.img"})
    assert refused(store, disk) == ""
    assert b"/nas/other.img" not in looked and b"/nas/disk.img" in looked


class Device:
    """The stat of a block device, which a test cannot make."""

    st_mode, st_ino, st_dev = stat.S_IFBLK | 0o600, 5, 6

    def __init__(self, major: int, minor: int) -> None:
        self.st_rdev = os.makedev(major, minor)


def test_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number, in hexadecimal; or by another name of it."""
    found = {"/dev/vg/a": Device(253, 17), "/dev/dm-17": Device(253, 17), "/dev/vg/b": Device(253, 18)}

    def fake(path: object) -> object:
        name = os.fsdecode(path)  # type: ignore[arg-type]
        if name not in found:
            raise FileNotFoundError(errno.ENOENT, "no such device")
        return found[name]

    monkeypatch.setattr(disks.os, "stat", fake)
    monkeypatch.setattr(disks, "is_standard_output", lambda name: False)
    by_number = Store({"vbd/4/51712/physical-device": "fd:11", "vbd/4/51712/params": "/dev/gone"})
    by_name = Store({"qdisk/5/768/params": "aio:/dev/dm-17"})
    assert "disk of domain 4" in refused(by_number, "/dev/vg/a") and "domain 5" in refused(by_name, "/dev/vg/a")
    assert refused(by_number, "/dev/vg/b") == refused(by_name, "/dev/vg/b") == ""


@pytest.mark.parametrize("name", ["/dev/null", "/nowhere/at/all"])
def test_nothing_is_asked_where_nothing_can_be_lost(name: str) -> None:
    class Never(Store):
        def xenstore_directory(self, path: str, /) -> list[str]:
            raise AssertionError("asked")

    assert refused(Never(), name) == ""


def test_a_xenstore_that_fails_stops_no_save(disk: Path) -> None:
    class Failing(Store):
        def xenstore_directory(self, path: str, /) -> list[str]:
            raise HypervisorError("no answer", op="xs_directory", errno=errno.EIO)

    said: list[str] = []
    check_no_disk(Failing(), str(disk), said.append)
    assert len(said) == 1 and "no answer" in said[0] and str(disk) in said[0]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_the_command_asks(
    disk: Path, force: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store({"qdisk/9/768/params": f"raw:{disk}"})
    read, listed = XenstoreCalls.xenstore_read, Store.xenstore_directory
    monkeypatch.setattr(
        XenstoreCalls, "xenstore_read", lambda self, path: store.xenstore_read(path) or read(self, path)
    )
    monkeypatch.setattr(XenstoreCalls, "xenstore_directory", lambda self, path: listed(store, path))
    status = main.main(["save", "--backend", "stub", "pv64:mem=4M", str(disk), *force])
    assert status == 2 and "disk of domain 9" in capfd.readouterr().err and disk.read_bytes() == b"disk"
