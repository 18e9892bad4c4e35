"""Handing --restore-domain over to Xen's own helper: which one is found, and what it is started with."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from fake_libxl import PROGRAM, FakeLibxl

from pyxcsr.helper.stock import StockHelperError, find_stock_helper, running_release

RESTORE = ["--restore-domain", "12", "-1", "2", "1", "0", "2", "0", "768", "0"]


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def versioned(root: Path, release: str) -> Path:
    return executable(root / f"usr/lib/xen-{release}/bin/libxl-save-helper")


def runs(root: Path, release: str) -> None:
    directory = root / "sys/hypervisor/version"
    directory.mkdir(parents=True)
    for name, value in zip(("major", "minor"), release.split(".")):
        (directory / name).write_text(value + "\n")


def find(root: Path, **environ: str) -> str:
    return find_stock_helper(environ, str(root / "us"), str(root))


def test_the_running_release(tmp_path: Path) -> None:
    assert running_release(str(tmp_path)) is None
    runs(tmp_path, "4.17")
    assert running_release(str(tmp_path)) == "4.17"


@pytest.mark.parametrize("release", ["4.17", "4.20"])
def test_of_several_releases_the_running_one(tmp_path: Path, release: str) -> None:
    for installed in ("4.14", "4.17", "4.20"):
        versioned(tmp_path, installed)
    executable(tmp_path / "usr/lib/xen/bin/libxl-save-helper")
    runs(tmp_path, release)
    assert find(tmp_path) == str(tmp_path / f"usr/lib/xen-{release}/bin/libxl-save-helper")


@pytest.mark.parametrize(
    "directory", ["usr/libexec/xen/bin", "usr/lib/xen/bin", "usr/lib64/xen/bin", "usr/local/lib/xen/bin"]
)
def test_a_directory_without_a_release(tmp_path: Path, directory: str) -> None:
    path = executable(tmp_path / directory / "libxl-save-helper")
    runs(tmp_path, "4.20")
    versioned(tmp_path, "4.17")
    assert find(tmp_path) == str(path)


def test_the_only_release_where_nothing_says_what_runs(tmp_path: Path) -> None:
    path = versioned(tmp_path, "4.17")
    assert find(tmp_path) == str(path)
    versioned(tmp_path, "4.20")
    with pytest.raises(StockHelperError, match=r"4\.17, 4\.20, but the running release is not known"):
        find(tmp_path)


def test_another_release_than_the_running_one_is_no_good(tmp_path: Path) -> None:
    versioned(tmp_path, "4.17")
    runs(tmp_path, "4.20")
    with pytest.raises(StockHelperError, match=r"Xen 4\.20 runs here; installed: 4\.17") as caught:
        find(tmp_path)
    assert caught.value.errno == errno.ENOENT


def test_nothing_installed(tmp_path: Path) -> None:
    with pytest.raises(StockHelperError, match="PYXCSR_STOCK_HELPER can name it"):
        find(tmp_path)


def test_a_named_one_comes_first(tmp_path: Path) -> None:
    versioned(tmp_path, "4.17")
    named = executable(tmp_path / "named")
    assert find(tmp_path, PYXCSR_STOCK_HELPER=str(named)) == str(named)


def test_a_named_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    versioned(tmp_path, "4.17")
    (tmp_path / "plain").write_text("")
    for name in ("missing", "plain", "usr"):
        with pytest.raises(StockHelperError, match="PYXCSR_STOCK_HELPER"):
            find(tmp_path, PYXCSR_STOCK_HELPER=str(tmp_path / name))


@pytest.mark.parametrize("link", [True, False])
def test_never_ourselves(tmp_path: Path, link: bool) -> None:
    """Somebody may have put us, or a link to us, in the stock helper's place."""
    stock = versioned(tmp_path, "4.17")
    us = tmp_path / "us"
    if link:
        us.symlink_to(stock)
    else:
        os.link(stock, us)
    with pytest.raises(StockHelperError):
        find(tmp_path)
    with pytest.raises(StockHelperError, match="not another"):
        find(tmp_path, PYXCSR_STOCK_HELPER=str(stock))


STOCK = """#!/bin/sh
# What a stock helper would see: arguments, fds, signals.
{
    for word; do echo "arg $word"; done
    ls -l /proc/self/fd
    grep SigIgn /proc/self/status
} >seen
echo to-libxl
read line
echo "got $line" >>seen
exit 7
"""


def test_hand_over(tmp_path: Path) -> None:
    stock = executable(tmp_path / "stock", STOCK)
    env = {"PYXCSR_RESTORE": "stock", "PYXCSR_STOCK_HELPER": str(stock)}
    with FakeLibxl(tmp_path, program=PROGRAM, arguments=RESTORE, env=env) as libxl:
        assert libxl.process.stdout.readline() == b"to-libxl\n", "stdout is libxl's pipe, untouched"
        libxl.process.stdin.write(b"from-libxl\n")
        assert libxl.at_end()
        assert libxl.exit_status() == 7, "it is the stock helper that exits"
        assert libxl.stderr == ""
    seen = (tmp_path / "seen").read_text()
    assert [line[4:] for line in seen.splitlines() if line.startswith("arg ")] == RESTORE
    assert "got from-libxl" in seen
    (ignored,) = [int(line.split()[1], 16) for line in seen.splitlines() if line.startswith("SigIgn")]
    assert not ignored & (1 << 12), "SIGPIPE is the default again"


def test_hand_over_keeps_the_stream(tmp_path: Path) -> None:
    stock = executable(tmp_path / "stock", "#!/bin/sh\necho \"the stream, $1\" >/dev/fd/$2\n")
    env = {"PYXCSR_RESTORE": "stock", "PYXCSR_STOCK_HELPER": str(stock)}
    with FakeLibxl(tmp_path, program=PROGRAM, mode="--restore-domain", env=env) as libxl:
        assert libxl.exit_status() == 0
        assert bytes(libxl.stream) == b"the stream, --restore-domain\n"


@pytest.mark.parametrize("how", ["missing", "loop", "broken"])
def test_no_hand_over(tmp_path: Path, how: str) -> None:
    """libxl hears of it, and so does stderr; there are no restore_results, as nothing was restored."""
    us = " ".join(PROGRAM)
    stock = tmp_path / "stock"
    if how == "loop":
        executable(stock, f'#!/bin/sh\nexec {us} "$@"\n')
    elif how == "broken":
        executable(stock, "#!/nonexistent/interpreter\n")
    env = {"PYXCSR_RESTORE": "stock", "PYXCSR_STOCK_HELPER": str(stock)}
    with FakeLibxl(tmp_path, program=PROGRAM, arguments=RESTORE, env=env) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.ELOOP if how == "loop" else errno.ENOENT)
        assert [m.name for m in libxl.messages] == ["log", "complete"]
        text = {"missing": "not another", "loop": "leads back", "broken": "cannot run"}[how]
        assert text in libxl.logged(8)[0]
        assert text in libxl.stderr


def test_no_hand_over_and_nobody_listens(tmp_path: Path) -> None:
    """SIGPIPE is ignored again after an exec that failed: the exit is an ordinary one."""
    stock = executable(tmp_path / "stock", "#!/nonexistent/interpreter\n")
    program = ["sh", "-c", 'sleep 0.3; exec "$@"', "sh", *PROGRAM]
    env = {"PYXCSR_RESTORE": "stock", "PYXCSR_STOCK_HELPER": str(stock)}
    with FakeLibxl(tmp_path, program=program, arguments=RESTORE, env=env) as libxl:
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "cannot write to libxl" in libxl.stderr
