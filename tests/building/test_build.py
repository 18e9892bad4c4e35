"""Building and installing: wheel, sdist, editable, asked-for backends. Needs a compiler and a package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .conftest import LEFTOVERS, ROOT, copy_project

pytestmark = pytest.mark.toolchain

BESIDE = ("benchmarks", "docs", "tests")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's sources."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder, "csrc")
    return folder


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYXCSR_")}
    environment.update(variables)
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=600)


def pip(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *words, **variables)


def wheel(project: Path, to: Path, **variables: str) -> Path:
    done = pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(to), str(project), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = to.glob("*.whl")
    return found


def contents(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def modules(path: Path) -> set[str]:
    return {m[1] for x in contents(path) if (m := re.match(r"pyxcsr/_(\w+)\.abi3\.so$", x))}


def test_wheel_of_the_stub(project: Path, tmp_path: Path) -> None:
    built = wheel(project, tmp_path / "w", PYXCSR_BACKENDS="stub")
    assert re.match(r"pyxcsr-[\d.]+-cp39-abi3-linux_\w+\.whl$", built.name)
    assert modules(built) == {"stub"}
    assert "pyxcsr/py.typed" in contents(built)
    assert not [x for x in contents(built) if x.startswith(("csrc", "tests", "build_"))]
    assert {x.partition(".data/data/share/")[2] for x in contents(built)} == {"", *BROUGHT}
    check_metadata(read(built, "METADATA"))
    assert sections(built, tmp_path) & {".symtab", ".debug_info"} == set()


def test_whoever_asks_for_debugging_information_gets_it(project: Path, tmp_path: Path) -> None:
    built = wheel(project, tmp_path / "w", PYXCSR_BACKENDS="stub", CFLAGS="-O0 -g")
    assert sections(built, tmp_path) >= {".symtab", ".debug_info"}


def read(built: Path, name: str) -> str:
    with zipfile.ZipFile(built) as archive:
        (path,) = (x for x in archive.namelist() if x.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


def sections(built: Path, work: Path) -> set[str]:
    with zipfile.ZipFile(built) as archive:
        module = archive.extract("pyxcsr/_stub.abi3.so", work)
    return set(re.findall(r"\] (\.[\w.]+)", run("readelf", "-SW", module).stdout))


def check_metadata(text: str) -> None:
    """Who made it, under which licence; and a description whose links lead somewhere outside of a checkout."""
    head, _, description = text.partition("\n\n")
    assert re.search("^License(-Expression)?: MIT$", head, re.MULTILINE)
    assert "\nAuthor: the pyxcsr developers" in head and "\nLicense-File: LICENSE" in head
    assert "`docs/api.md`" in description
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert [x for x in links if not x.startswith(("https://", "#"))] == []


def test_wheel_with_our_own_headers(project: Path, tmp_path: Path) -> None:
    built = wheel(project, tmp_path / "w", PYXCSR_BACKENDS="stub", PYXCSR_ABI_HEADERS="1")
    assert modules(built) == {"stub"}


def files(folder: Path) -> set[str]:
    return {str(x.relative_to(folder)) for x in folder.rglob("*") if x.is_file()}


BROUGHT = {
    "man/man1/pyxcsr.1",
    "man/man8/pyxcsr-save-helper.8",
    "bash-completion/completions/pyxcsr",
    "zsh/site-functions/_pyxcsr",
    "fish/vendor_completions.d/pyxcsr.fish",
    "pyxcsr/pyxcsr-libvirt.conf",
}
"""Below share/, besides the package."""

MADE = {"PKG-INFO", "setup.cfg"}
"""What setuptools adds, besides pyxcsr.egg-info."""


def test_source_distribution_and_a_wheel_from_it(project: Path, tmp_path: Path) -> None:
    """It holds all that belongs to the project, and nothing that lies about in it."""
    whole = tmp_path / "project"
    shutil.copytree(project, whole, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for name in BESIDE:
        shutil.copytree(ROOT / name, whole / name, ignore=LEFTOVERS)
    belongs = files(whole)
    for stray in ("docs/.api.md.swp", "tests/stub/a.so", "tests/stub/x.py~", "csrc/io/sink.o", "notes.txt", "x/y.py"):
        (whole / stray).parent.mkdir(exist_ok=True)
        (whole / stray).touch()
    done = run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(tmp_path), str(whole))
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {x.name.split("/", 1)[1] for x in tar.getmembers() if x.isfile()}
    assert {x for x in names if not x.startswith("pyxcsr.egg-info/")} - MADE == belongs
    assert modules(wheel(archive, tmp_path / "w", PYXCSR_BACKENDS="stub")) == {"stub"}


def test_wheel_for_every_xen(project: Path, tmp_path: Path) -> None:
    """As cibuildwheel makes it, without Xen's headers or with them: it needs and holds none of Xen's libraries."""
    (backends,) = re.findall(r'^PYXCSR_BACKENDS = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    built = wheel(project, tmp_path / "w", PYXCSR_BACKENDS=backends)
    assert modules(built) == {"stub", "loader"}
    assert not [x for x in contents(built) if "libxen" in x]
    with zipfile.ZipFile(built) as archive:
        module = archive.extract("pyxcsr/_loader.abi3.so", tmp_path)
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-dW", module).stdout)
    assert needed and not [x for x in needed if "xen" in x]
    exported = run("nm", "-D", "--defined-only", module).stdout.split()[2::3]
    assert exported == ["PyInit__loader"]


def test_without_xens_headers_the_loader_is_built(project: Path, tmp_path: Path) -> None:
    """With them it is the module that is linked: see below."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-lxenctrl*) exit 1;; esac\nexec gcc "$@" -O0\n')
    compiler.chmod(0o755)
    assert modules(wheel(project, tmp_path / "w", CC=str(compiler))) == {"stub", "loader"}


def test_editable(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    made = run(sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path / "venv"))
    assert made.returncode == 0
    python = tmp_path / "venv/bin/python"
    packages = next(x for x in sys.path if x.endswith("site-packages"))
    done = run(
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-e",
        str(copy),
        PYXCSR_BACKENDS="stub",
        PYTHONPATH=packages,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (copy / "pyxcsr/_stub.abi3.so").exists()


def test_unknown_and_no_backends(project: Path, tmp_path: Path) -> None:
    for asked in ("kvm", "", "stub,xem"):
        words = ("wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(project))
        done = pip(*words, PYXCSR_BACKENDS=asked)
        assert done.returncode != 0 and "use xen, loader, stub" in done.stdout + done.stderr


def test_a_backend_asked_for_is_required(project: Path, tmp_path: Path) -> None:
    """A compiler that finds no Xen: the build stops, and says which package brings it."""
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho 'fatal error: xenctrl.h: No such file or directory' >&2\nexit 1\n")
    fake.chmod(0o755)
    words = ("wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(project))
    done = pip(*words, PYXCSR_BACKENDS="xen,stub", CC=str(fake))
    assert done.returncode != 0
    assert "libxen-dev" in done.stdout + done.stderr and "xenctrl.h" in done.stdout + done.stderr


def test_xen_where_it_can_be_built_and_no_objects_are_mixed(project: Path, tmp_path: Path) -> None:
    """The same sources make both modules; each must be linked from its own objects, though others lie there still."""
    if not Path("/usr/include/xenctrl.h").exists():
        pytest.skip("libxenctrl's headers are not installed: apt-get install libxen-dev")
    for n, asked, made in ((1, "xen", {"xen"}), (2, "", {"stub", "xen"})):
        variables = {"PYXCSR_BACKENDS": asked} if asked else {}
        built = wheel(project, tmp_path / str(n), MAKEFLAGS="-j2", **variables)
        assert modules(built) == made
        if "stub" not in made:
            continue
        with zipfile.ZipFile(built) as archive:
            stub, xen = archive.read("pyxcsr/_stub.abi3.so"), archive.read("pyxcsr/_xen.abi3.so")
        assert b"stub_reset" in stub and b"libxenctrl.so" not in stub
        assert b"stub_reset" not in xen and b"libxenctrl.so" in xen
