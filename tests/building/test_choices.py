"""What a build is asked for, and what it finds: nothing is compiled to its end here."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from setuptools import Extension
from setuptools.errors import SetupError

from pyxcsr.limits.variables import _OTHERS
from pyxcsr.limits.words import WORDS

from .conftest import ROOT

pytestmark = pytest.mark.toolchain

INCLUDE = Path("/usr/include")
OF_4_15 = "0x00000013"
"""The domctl interface version of Xen 4.14 and 4.15."""


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """build_ffi.py, with none of its variables set."""
    spec = importlib.util.spec_from_file_location("build_ffi", ROOT / "build_ffi.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return module


def headers(folder: Path, version: str = "") -> Path:
    """A copy of Xen's headers here, with another domctl interface version if one is given."""
    if not (INCLUDE / "xenctrl.h").exists():
        pytest.skip("libxenctrl's headers are not installed: apt-get install libxen-dev")
    shutil.copytree(INCLUDE / "xen", folder / "xen")
    for header in INCLUDE.glob("xen*.h"):
        shutil.copy(header, folder)
    domctl = folder / "xen/domctl.h"
    if version:
        text, count = re.subn(r"(XEN_DOMCTL_INTERFACE_VERSION) 0x\w+", rf"\1 {version}", domctl.read_text())
        assert count == 1
        domctl.write_text(text)
    return folder


def test_headers_of_a_release_that_is_too_old(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a host builds as one without headers; whoever asks for xen is told which release is needed."""
    monkeypatch.setenv("CC", f"gcc -fsyntax-only -I{headers(tmp_path, OF_4_15)}")
    assert [(x.name, "csrc/abi" in x.include_dirs) for x in build.extensions()] == [
        ("pyxcsr._stub", True),
        ("pyxcsr._loader", True),
    ]
    monkeypatch.setenv("PYXCSR_BACKENDS", "stub")
    assert ["csrc/abi" in x.include_dirs for x in build.extensions()] == [True]
    monkeypatch.setenv("PYXCSR_BACKENDS", "xen,stub")
    with pytest.raises(SetupError, match=r"(?s)no libxenctrl of Xen 4\.16 or later.*=loader,stub.*#error"):
        build.extensions()


def test_headers_of_a_release_that_will_do(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"gcc -fsyntax-only -I{headers(tmp_path)}")
    assert [(x.name, "csrc/abi" in x.include_dirs) for x in build.extensions()] == [
        ("pyxcsr._stub", False),
        ("pyxcsr._xen", False),
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PYXCSR_BACKEND", "PYXCSR_BACKENDS"),
        ("PYXCSR_BACKENS", "PYXCSR_BACKENDS"),
        ("PYXCRS_BACKENDS", "PYXCSR_BACKENDS"),
        ("pyxcsr_backends", "PYXCSR_BACKENDS"),
        ("PYXCSR_ERROR", "PYXCSR_WERROR"),
        ("PYXCSR_ABI_HEADER", "PYXCSR_ABI_HEADERS"),
        ("PYXCSR_HEADERS", "PYXCSR_ABI_HEADERS"),
    ],
)
def test_misspelt_variables(build: Any, monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    monkeypatch.setenv(name, "stub")
    with pytest.raises(SetupError, match=f"^{name}.* is no setting of the build: write {meant} "):
        build.extensions()


@pytest.mark.parametrize("name", ["PYXCSR_WERROR", "PYXCSR_ABI_HEADERS"])
def test_values_of_switches(build: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PYXCSR_BACKENDS", "stub")
    for value in ("yes", "true", "2"):
        monkeypatch.setenv(name, value)
        with pytest.raises(SetupError, match=f"{name}='{value}': use 1, or 0"):
            build.extensions()
    if build.have_xen():  # csrc/abi is taken anyhow
        monkeypatch.setattr(build, "have_xen", lambda: None)
    found = {}
    for value in ("", "0", "1"):
        monkeypatch.setenv(name, value)
        (ext,) = build.extensions()
        found[value] = bool({"-Werror", "csrc/abi"} & {*ext.extra_compile_args, *ext.include_dirs})
    assert found == {"": False, "0": False, "1": True}


def test_variables_for_when_it_runs_may_be_set(build: Any) -> None:
    """A dom0 builds though the helper's settings are in the environment; other programs' variables are theirs."""
    names = {*_OTHERS, *(x.variable for x in WORDS), "HOME", "CC", "BACKENDS"}
    build.check_environment(dict.fromkeys(names, "stub"))


def test_what_is_told_of_modules(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "pkg_config", lambda option: ["4.17.0"] * 5 if option == "--modversion" else [])
    modules = (("stub", False), ("stub", True), ("loader", True), ("xen", True))
    told = [build.made_of(build.extension(*x)) for x in modules]
    assert told == [
        "pyxcsr._stub: compiled against csrc/abi",
        "pyxcsr._stub: compiled against the headers of Xen 4.17.0",
        "pyxcsr._loader: compiled against csrc/abi, and loads the libxenctrl of the Xen that runs",
        "pyxcsr._xen: compiled against the headers of Xen 4.17.0, and linked with that release's libxenctrl alone",
    ]
    monkeypatch.setattr(build, "pkg_config", lambda option: [])
    assert "that are installed here" in build.made_of(Extension("pyxcsr._xen", [], include_dirs=["csrc"]))
