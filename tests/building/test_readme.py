"""The commands of README.md and docs/dom0.md, taken out of them and run: on a copy of the project, into
folders of the test instead of the system's, with the packages that Debian brings. What apt-get would install is only
simulated.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.blocks import blocks
from support.shared import built_once

from .conftest import ROOT, copy_project

SECONDS = 900
"""For a command: some build the package, and others may keep the processors busy."""

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(2 * SECONDS)]

builds = pytest.mark.readme
"""These build the package seven times: .ci/run runs them, tests/run does not."""

README = (ROOT / "README.md").read_text()
IN_DOM0 = (ROOT / "docs/dom0.md").read_text()
HAS_XEN = Path("/usr/include/xenctrl.h").exists()

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`", re.DOTALL)
APT = re.compile(r"apt-get install[^`#\n]*")

DEBIAN = {
    "12": ("cffi==1.15.1", "setuptools==66.1.1", "wheel==0.38.4", "pip==23.0.1"),
    "13": ("cffi==1.17.1", "setuptools==78.1.1", "wheel==0.46.1", "pip==25.1.1"),
}
"""What python3-cffi, python3-setuptools, python3-wheel and python3-pip are there."""


PROSE = re.sub(r"^```\w*\n.*?^```$", "", IN_DOM0, flags=re.MULTILINE | re.DOTALL)


def block(page: str, words: str) -> str:
    """The only block of commands in which ``words`` stand."""
    (found,) = (text for text in BLOCK.findall(page) if words in text)
    return str(found)


def lines(page: str, words: str) -> list[str]:
    """Its commands without their comments."""
    return [line for line in (re.sub(r"\s+#.*", "", x).strip() for x in block(page, words).splitlines()) if line]


TRY = block(README, "pyxcsr demo")
DOM0 = lines(IN_DOM0, "/opt/pyxcsr")
WHEEL = lines(README, "pip wheel")
LINKED_WHEEL = lines(IN_DOM0, "PYXCSR_BACKENDS=xen,stub .venv/bin/pip wheel")
(FROM_SOURCE,) = (text for text in INLINE.findall(PROSE) if "--no-build-isolation" in text)


def test_each_block_is_one_that_a_test_runs() -> None:
    found = [*blocks(README), *blocks(IN_DOM0)]
    marked = [x for x in found if x.mark == ("run by", "tests/building/test_readme.py")]
    told = {re.sub(r"\s+#.*", "", line).strip() for x in marked for line in x.text.splitlines()}
    assert told == {TRY.strip(), *DOM0, *WHEEL, *LINKED_WHEEL}
    assert os.access(ROOT / "tests/run", os.X_OK)
    prompted = [x for x in INLINE.findall(PROSE) if re.match(r"(PYXCSR_\w+=\S+ )?(pip|python3|ln|cp) ", x)]
    assert prompted == [FROM_SOURCE, "pip uninstall --break-system-packages pyxcsr"]


def apt_lines() -> list[str]:
    """Every apt-get command of README and docs, in text or in a block."""
    pages = [README, *(x.read_text() for x in sorted((ROOT / "docs").glob("*.md")))]
    return sorted({found.strip() for page in pages for found in APT.findall(page)})


def test_apt_has_what_it_is_asked_for() -> None:
    """All at once: a simulation takes seconds."""
    commands = [line.split() for line in apt_lines()]
    assert len(commands) > 3 and all(len(words) > 2 for words in commands)
    if shutil.which("apt-get") is None or 'VERSION_ID="12"' not in Path("/etc/os-release").read_text():
        pytest.skip("this is no Debian 12, whose packages the documents name")
    if not list(Path("/var/lib/apt/lists").glob("*Packages*")):
        pytest.skip("apt has no lists of packages: apt-get update")
    packages = sorted({package for words in commands for package in words[2:]})
    words = ["apt-get", "install", "--simulate", *packages]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


def copied(folder: Path) -> Path:
    """A copy of the project, as a clone of it is."""
    copy_project(folder, "csrc", "benchmarks", "tests")
    return folder


def shell(text: str, folder: Path, *first: Path, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs commands as written, the programs in ``first`` ahead of all others. ``python3`` is that of this test."""
    programs = folder / "python"
    if not programs.exists():
        programs.mkdir()
        (programs / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    away = ("PYXCSR_", "PYTHON", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(away)}
    environment["PATH"] = os.pathsep.join([*map(str, first), str(programs), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-exc", text],
        cwd=folder,
        env={**environment, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def possible(text: str) -> str:
    """The command, without the backend for which this machine has no headers."""
    return text if HAS_XEN else text.replace("xen,stub", "stub")


def modules(folder: Path) -> set[str]:
    return {x.name.partition(".")[0] for x in folder.rglob("pyxcsr/_*.so")}


def try_it(clone: Path) -> None:
    """Makes a clone, and runs the first commands of the README in it."""
    done = shell(TRY, copied(clone))
    assert "all" in done.stdout and "equal the guest's memory at suspend" in done.stdout


@pytest.fixture
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Such a clone, for one test at a time. What has been compiled there, the others find."""
    clone = built_once(tmp_path_factory, "clone", try_it)
    with open(clone / ".in-use", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield clone


@builds
def test_try_it(tried: Path) -> None:
    assert "_stub" in modules(tried / ".venv")
    for guest in ("pvh", "hvm"):
        assert f"`--guest {guest}`" in README
        shell(f".venv/bin/pyxcsr demo --guest {guest} --mem 16M", tried)


@builds
def test_installed_in_dom0(tried: Path, tmp_path: Path) -> None:
    """Into /opt and /usr/local/bin of the test's own."""
    system = tmp_path / "system"
    (system / "usr/local/bin").mkdir(parents=True)
    apt, *rest = DOM0
    assert APT.match(apt) and len(rest) == 3
    text = possible("\n".join(rest)).replace("/opt/", f"{system}/opt/").replace("/usr/", f"{system}/usr/")
    shell(text, tried)
    assert modules(system) == ({"_stub", "_xen"} if HAS_XEN else {"_stub"})
    programs = system / "usr/local/bin"
    assert {x.name for x in programs.iterdir()} == {"pyxcsr", "pyxcsr-save-helper", "pyxcsr-relay"}
    shell("pyxcsr --version; test -x $(command -v pyxcsr-save-helper); pyxcsr-relay facts", tmp_path, programs)


@pytest.fixture(params=DEBIAN)
def debian(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The programs of a Python that has what a Debian release brings, and nothing of pyxcsr."""
    folder = tmp_path / "debian"
    venv.create(folder, with_pip=True)
    packages = DEBIAN[request.param]
    words = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode:
        pytest.skip(f"{', '.join(packages)} cannot be had for this Python: {done.stderr[-300:]}")
    return folder / "bin"


@builds
def test_a_dom0_without_network(tried: Path, debian: Path, tmp_path: Path) -> None:
    """The wheels are built with what the index has, and installed with what Debian has; so is the source."""
    build, apt, install = map(possible, WHEEL)
    assert APT.match(apt)
    shell(build, tried)
    shell(install, tried, debian)
    away = tmp_path / "away"
    away.mkdir()
    shell("pyxcsr demo --mem 16M --no-progress", away, debian)
    shell("pip uninstall -y pyxcsr", away, debian)
    shell(possible("; ".join(LINKED_WHEEL)), tried, debian)
    shell(f"rm -r dist; {possible(FROM_SOURCE)}", tried, debian)
    shell("pyxcsr demo --mem 16M --no-progress", away, debian)


@builds
def test_the_benchmarks(tried: Path) -> None:
    """``python -m benchmarks`` needs no more than the extra ``bench`` brings."""
    assert "python -m benchmarks" in (ROOT / "docs/performance.md").read_text()
    shell(".venv/bin/pip install '.[bench]'", tried)
    words = "--quick --repeats 1 --case full paused --json r.json --plot r.svg --disk ."
    done = shell(f".venv/bin/python -m benchmarks {words}", tried)
    assert (tried / "r.json").stat().st_size and (tried / "r.svg").stat().st_size, done.stderr
