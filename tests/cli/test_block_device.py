"""A block device as output and as input of every command: a loop device, where this machine can make one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support import containers as c
from support.judge import judge_rules

from cli.programs import GUEST, SAVE, run

SIZE = 64 << 20
BEFORE = b"what was on it before".ljust(4096, b"\xa5")


class Device(NamedTuple):
    """A device, and the file behind it."""

    name: str
    file: Path

    def content(self) -> bytes:
        """What is on it."""
        return Path(self.name).read_bytes()


def attached(file: Path, size: int) -> Device:
    """A new device. Skips the test where there can be none."""
    file.write_bytes(BEFORE * (size // len(BEFORE)))
    try:
        done = subprocess.run(
            ["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("there is no losetup: apt-get install mount util-linux")
    name = done.stdout.strip()
    if done.returncode or not os.access(name, os.R_OK | os.W_OK):
        pytest.skip(f"no loop device can be made here (it needs root): {done.stderr.strip() or name}")
    return Device(name, file)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = attached(tmp_path / "disk", SIZE)
    yield made
    subprocess.run(["losetup", "--detach", made.name], check=True, timeout=60)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Device]:
    made = attached(tmp_path / "small-disk", 1 << 20)
    yield made
    subprocess.run(["losetup", "--detach", made.name], check=True, timeout=60)


@pytest.mark.parametrize("then", ["resume", "destroy"])
def test_saved_onto_it_and_read_from_it(device: Device, tmp_path: Path, then: str) -> None:
    """The stream is on the disk when the save ends, so that the guest may be destroyed; the rest stays as it was."""
    done = run("--json", "--then", then, GUEST, device.name, command=SAVE)
    assert done.returncode == 0, done.stderr
    length = json.loads(done.stdout)["bytes"]
    whole = device.content()
    assert whole[length:] == (BEFORE * (SIZE // len(BEFORE)))[length:]
    (tmp_path / "copy").write_bytes(whole[:length])
    judge_rules(tmp_path / "copy", xen=False)
    words = f"{SIZE - length} bytes of the device follow END".encode()
    done = run("verify", device.name)
    assert done.returncode == 0 and b"note: " in done.stdout and words in done.stdout, done.stdout
    done = run("inspect", device.name)
    assert (done.returncode == 0 and words in done.stdout + done.stderr) or b"the rest of the device" in done.stdout
    done = run("restore", "--backend", "stub", "--json", device.name)
    assert done.returncode == 0 and done.stderr == b"" and json.loads(done.stdout)["bytes"] == length
    done = run("convert", "--to", "libxl", device.name, tmp_path / "libxl")
    assert done.returncode == 0 and words in done.stderr
    assert run("verify", tmp_path / "libxl").returncode == 0


def test_an_xl_file_on_it(device: Device, tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(c.text_of(c.config(name="stub-1", target_memkb=8192, max_memkb=8192)))
    words = ("--format", "xl", "--config", tmp_path / "config")
    done = run(*words, GUEST, device.name, command=SAVE)
    if done.returncode == 2 and b"name" in done.stderr:
        pytest.fail(done.stderr.decode())
    assert done.returncode == 0, done.stderr
    assert run("verify", device.name).returncode == 0
    assert run("restore", "--backend", "stub", "--quiet", device.name).returncode == 0
    assert run("convert", device.name, tmp_path / "libxc").returncode == 0
    assert run("verify", tmp_path / "libxc").returncode == 0


def test_converted_onto_it(device: Device, tmp_path: Path) -> None:
    (tmp_path / "xl").write_bytes(c.xl())
    assert run("convert", tmp_path / "xl", device.name).returncode == 0
    assert device.content()[: len(c.PV)] == c.PV
    assert run("verify", "--quiet", device.name).returncode == 0


def test_as_standard_output_and_standard_input(device: Device) -> None:
    with open(device.name, "r+b", buffering=0) as file:
        assert run("--then", "destroy", "--quiet", GUEST, "-", command=SAVE, stdout=file).returncode == 0
    for words in (("verify", "-"), ("inspect", "-"), ("restore", "--backend", "stub", "-")):
        with open(device.name, "rb", buffering=0) as file:
            assert run(*words, stdin=file).returncode == 0


def test_one_that_is_too_small(small: Device) -> None:
    done = run("--json", GUEST, small.name, command=SAVE)
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 1 and error["class"] == "OutputError" and error["facts"]["errno"] == 28
    assert run("verify", small.name).returncode != 0


@pytest.mark.parametrize("how", ["name", "standard output"])
def test_a_save_that_fails_is_no_half_of_an_older_one(device: Device, how: str) -> None:
    """Both streams have their records at the same places: half of one with the end of the other would look complete."""
    assert run("--quiet", "pv64:mem=8M,seed=1", device.name, command=SAVE).returncode == 0
    older = device.content()
    failing = "pv64:mem=8M,seed=2,suspend=crash"
    if how == "name":
        done = run("--quiet", failing, device.name, command=SAVE)
    else:
        with open(device.name, "r+b", buffering=0) as file:
            done = run("--quiet", failing, "-", command=SAVE, stdout=file)
    assert done.returncode == 1 and b"crash" in done.stderr
    assert device.content() != older
    done = run("verify", device.name)
    assert done.returncode == 2 and b"not a libxc stream" in done.stderr


def test_one_that_was_not_written_to_keeps_what_it_has(device: Device) -> None:
    assert run("--quiet", GUEST, device.name, command=SAVE).returncode == 0
    older = device.content()
    assert run("--quiet", "pv64:mem=8M,writes=20,colour=red", device.name, command=SAVE).returncode == 2
    assert run("convert", os.devnull, device.name).returncode == 2
    assert device.content() == older and run("verify", "--quiet", device.name).returncode == 0


def test_one_that_is_mounted(device: Device, tmp_path: Path) -> None:
    """A file system would be lost. It is mounted such that nobody else writes to it meanwhile."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("there is no mkfs.ext4: apt-get install e2fsprogs")
    subprocess.run(["mkfs.ext4", "-q", "-F", device.name], check=True, timeout=60)
    (tmp_path / "mnt").mkdir()
    if subprocess.run(["mount", "-o", "ro,noload", device.name, tmp_path / "mnt"], check=False, timeout=60).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        before = device.content()
        done = run("--force", GUEST, device.name, command=SAVE)
        assert done.returncode == 2 and b"is in use: it is mounted, or" in done.stderr
        assert device.content() == before
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True, timeout=60)
    assert run("--quiet", GUEST, device.name, command=SAVE).returncode == 0, "it is free again"


def test_a_checksum_has_no_place_beside_it(device: Device) -> None:
    done = run("--checksum", GUEST, device.name, command=SAVE)
    assert done.returncode == 2 and b"needs a file to put the checksum beside" in done.stderr
    assert device.content() == BEFORE * (SIZE // len(BEFORE))


def test_converted_onto_itself(device: Device) -> None:
    with open(device.name, "r+b") as to:
        to.write(c.libxl())
    before = device.content()
    done = run("convert", "--to", "libxc", device.name, device.name)
    assert done.returncode == 2 and b"would be overwritten" in done.stderr
    assert device.content() == before
