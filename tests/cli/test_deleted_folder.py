"""Commands whose working directory has been deleted: absolute paths work, and for others the reason is said."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import containers as c

from cli.programs import COMMAND, GUEST, SAVE, run

SCRIPT = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
RESTORE = ("restore", "--backend", "stub")
REASON = b"the working directory has been deleted: give an absolute path"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "s"
    assert run(GUEST, path, "--quiet", command=SAVE).returncode == 0
    return path


def gone(folder: Path, *words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a folder that is no more."""
    command = ["sh", "-c", SCRIPT, "sh", *COMMAND, *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120, **options)
    assert b"Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    "words",
    [
        ("save", "--backend", "stub", GUEST, "s"),
        ("save", "--backend", "stub", GUEST, "./s"),
        ("save", "--backend", "stub", "--force", "--quiet", GUEST, "../s"),
        ("save", "--backend", "stub", "--format", "xl", "--config", "c", GUEST, "/tmp/never"),
        ("verify", "s"),
        ("verify", "--checksum", "s"),
        ("inspect", "s"),
        (*RESTORE, "s"),
        (*RESTORE, "--checksum", "s"),
        ("convert", "s", "/tmp/never"),
        ("convert", "{xl}", "s"),
        ("convert", "--to", "xl", "--config", "c", "{image}", "/tmp/never"),
    ],
    ids=lambda words: "-".join(words[:1] + words[-2:]).replace("/", "_"),
)
def test_a_relative_name(image: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "xl").write_bytes(c.xl())
    done = gone(tmp_path, *(word.format(image=image, xl=tmp_path / "xl") for word in words))
    assert done.returncode == 2 and REASON in done.stderr, done.stderr
    assert [x.name for x in tmp_path.iterdir()] == ["xl"] and not Path("/tmp/never").exists()


def test_absolute_names(image: Path, tmp_path: Path) -> None:
    (tmp_path / "xl").write_bytes(c.xl())
    (tmp_path / "link").symlink_to("s")  # what a link says is relative to where the link is
    for words in (
        ("save", "--backend", "stub", GUEST, tmp_path / "link"),
        ("save", "--backend", "stub", "--no-live", GUEST, os.devnull),
        ("save", "--backend", "stub", GUEST, "--receiver", "cat >/dev/null", "--then", "destroy"),
        ("verify", image, tmp_path / "link", tmp_path / "xl"),
        ("inspect", image),
        (*RESTORE, tmp_path / "link"),
        ("convert", tmp_path / "xl", tmp_path / "out"),
        ("demo", "--mem", "8M", "--no-progress"),
        ("--version",),
        ("restore", "--help"),
    ):
        done = gone(tmp_path, *words)
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "out").read_bytes() == c.PV


def test_a_checksum(tmp_path: Path) -> None:
    pytest.importorskip("xxhash")
    assert gone(tmp_path, "save", "--backend", "stub", "--checksum", GUEST, tmp_path / "s").returncode == 0
    for words in (("verify", "--checksum"), (*RESTORE, "--checksum")):
        assert gone(tmp_path, *words, tmp_path / "s").returncode == 0


def test_standard_input_and_output(image: Path, tmp_path: Path) -> None:
    data = image.read_bytes()
    for words in (("verify", "-"), ("inspect", "-"), (*RESTORE, "-"), ("convert", "--to", "libxl", "-", "-")):
        assert gone(tmp_path, *words, input=data).returncode == 0
    assert gone(tmp_path, "save", "--backend", "stub", "--quiet", GUEST, "-").stdout.startswith(b"\xff" * 8)


def test_recover(tmp_path: Path) -> None:
    if Path("/dev/xen/privcmd").exists():
        pytest.skip("this is a Xen host")
    assert gone(tmp_path, "recover", "1").returncode == 2
