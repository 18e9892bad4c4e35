"""Builds the cffi modules pyxcsr._stub, pyxcsr._xen and pyxcsr._loader: the same C core, linked with a stub hypervisor,
with the real libxenctrl, or with what loads the libxenctrl of whatever Xen runs.

``PYXCSR_BACKENDS`` (a comma-separated list of ``xen``, ``loader`` and ``stub``) says which are wanted; what is asked
for is required. Unset, the stub is built always, ``_xen`` where libxenctrl (of Xen 4.16 or later) can be linked
with, and ``_loader`` elsewhere.
``PYXCSR_WERROR=1`` makes compiler warnings errors; with ``PYXCSR_ABI_HEADERS=1`` the stub is compiled against csrc/abi/
though Xen's own headers are here. A build stops at other values of these, and at names that are nearly theirs.

setuptools knows these commands through [tool.setuptools.cmdclass]; extension modules are declared here
and not in pyproject.toml because setuptools understands them there only since 74.1, and a dom0 without
network builds with what its distribution has (Debian 12: 66.1).
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Optional

from setuptools import Command, Extension
from setuptools.command.build import build as _build
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.command.egg_info import egg_info as _egg_info
from setuptools.errors import SetupError

try:
    from setuptools.command.bdist_wheel import bdist_wheel as _bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel as _bdist_wheel  # type: ignore[no-redef]

HERE = Path(__file__).resolve().parent
BACKENDS = ("xen", "loader", "stub")
SWITCHES = ("PYXCSR_WERROR", "PYXCSR_ABI_HEADERS")
VARIABLES = ("PYXCSR_BACKENDS", *SWITCHES)
"""What a build reads of the environment. Others of these names are for when pyxcsr runs, and may be set here, too."""
AT_RUN_TIME = "PYXCSR_BACKEND"
"""One of those others: alone it is far more likely a misspelling."""
SIMILAR = 0.85
"""Names that are as like each other as that are taken for misspellings: one letter of six less, another prefix."""
XEN_LIBRARIES = ("xenctrl", "xenguest", "xenforeignmemory", "xenstore", "xentoollog")
XEN_PACKAGES = ("xencontrol", "xenguest", "xenforeignmemory", "xenstore", "xentoollog")
STUB_HEADERS = ("stub/machine/described.h", "stub/kernel/described.h", "stub/panel/stub_api.h")
HEADERS: dict[str, tuple[str, ...]] = {"xen": (), "loader": ("loader/loader_api.h",), "stub": STUB_HEADERS}
"""What Python may call of a backend besides the core."""
LIBRARIES: dict[str, tuple[str, ...]] = {"xen": XEN_LIBRARIES, "loader": ("dl", "pthread"), "stub": ("pthread",)}
MACROS: list[tuple[str, Optional[str]]] = [("_GNU_SOURCE", "1"), ("Py_LIMITED_API", "0x03090000")]
FLAGS = [
    "-std=gnu11",
    "-O2",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    # a prototype that differs from its cdef would otherwise be a mere warning
    "-Werror=incompatible-pointer-types",
    "-Werror=implicit-function-declaration",
]
PRELUDE = """
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wcast-function-type"
"""


LICENSE = "MIT"
LINK = re.compile(r"\[([^\]]*)\]\((docs/[\w-]+\.md)[^)]*\)")


def cdef_text(header: Path) -> str:
    """A header's declarations for cffi: without includes and guards, with integer macros."""
    keep = re.compile(r"#define \w+ -?(0x[0-9a-fA-F]+|\d+)u?$")
    lines = header.read_text().splitlines()
    return "\n".join(x for x in lines if not x.lstrip().startswith("#") or keep.match(x.strip()))


def compiler() -> list[str]:
    """The C compiler, as distutils would choose it."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def pkg_config(option: str) -> list[str]:
    """What pkg-config says of Xen's libraries; nothing where there is no pkg-config."""
    tool = shutil.which(os.environ.get("PKG_CONFIG", "pkg-config"))
    if not tool:
        return []
    run = subprocess.run([tool, option, *XEN_PACKAGES], capture_output=True, text=True, check=False)
    return shlex.split(run.stdout) if run.returncode == 0 else []


def have_xen() -> Optional[str]:
    """None if a program that uses libxenctrl compiles and links; else what the compiler said.

    It includes what the core does, which refuses releases of Xen that it cannot be linked with.
    """
    text = '#include "xen/compat.h"\nint main(void) { return !xc_interface_open(0, 0, 0) + !xs_open(0); }\n'
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(text)
        command = [*compiler(), f"-I{HERE / 'csrc'}", *pkg_config("--cflags"), str(source)]
        command += ["-o", str(source.with_suffix("")), *pkg_config("--libs"), *(f"-l{x}" for x in XEN_LIBRARIES)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"{command[0]}: {error}"
    return None if run.returncode == 0 else run.stderr


def check_environment(environ: Mapping[str, str]) -> None:
    """Raises SetupError for what is meant for the build, and would be passed over in silence."""
    for name in sorted(environ):
        near = [] if name in VARIABLES else difflib.get_close_matches(name.upper(), VARIABLES, 1, SIMILAR)
        if not near or (name == AT_RUN_TIME and near[0] in environ):
            continue
        kept = ", which is read when pyxcsr runs," if name == AT_RUN_TIME else ""
        raise SetupError(f"{name}{kept} is no setting of the build: write {near[0]} if that is meant, else unset it")
    for name in SWITCHES:
        if environ.get(name, "") not in ("", "0", "1"):
            raise SetupError(f"{name}={environ[name]!r}: use 1, or 0")


def wanted() -> list[str]:
    """The backends to build; raises SetupError if one that was asked for cannot be."""
    asked = os.environ.get("PYXCSR_BACKENDS")
    if asked is None:
        return ["stub", "xen" if have_xen() is None else "loader"]
    names = [x.strip() for x in asked.split(",") if x.strip()]
    unknown = sorted(set(names) - set(BACKENDS))
    if unknown or not names:
        raise SetupError(f"PYXCSR_BACKENDS={asked!r}: use xen, loader, stub, or several with commas between")
    problem = have_xen() if "xen" in names else None
    if problem is not None:
        raise SetupError(
            "PYXCSR_BACKENDS asks for xen, but there is no libxenctrl of Xen 4.16 or later to compile and link with.\n"
            "Install its headers: libxen-dev on Debian and Ubuntu, xen-devel on Fedora and openSUSE; or ask for the\n"
            "loader, which needs none and also works with Xen 4.14 and 4.15: PYXCSR_BACKENDS=loader,stub.\n"
            f"The compiler said:\n{problem}"
        )
    return [x for x in BACKENDS if x in names]


def c_files(stub: bool = False, loader: bool = False) -> list[str]:
    """The C sources of the stub hypervisor, of the loader, or of the core: paths relative to the project."""
    found = (x.relative_to(HERE) for x in (HERE / "csrc").rglob("*.c"))
    return sorted(str(x) for x in found if (x.parts[1] == "stub", x.parts[1] == "loader") == (stub, loader))


def dependencies() -> list[str]:
    """What the modules are made from besides their C files: also what a source distribution must hold."""
    found = [x for x in (HERE / "csrc").rglob("*") if x.is_file() and x.suffix != ".c"]
    return ["build_ffi.py", *sorted(str(x.relative_to(HERE)) for x in found)]


def stripping() -> list[str]:
    """The linker leaves symbols and debugging information out, unless CFLAGS ask for the latter."""
    return [] if "-g" in shlex.split(os.environ.get("CFLAGS", "")) else ["-Wl,-s"]


def extension(name: str, real_headers: bool) -> Extension:
    """The extension module of one backend. The loader is for many releases, so that it never has the headers of one."""
    beside = c_files(stub=name == "stub", loader=name == "loader") if name != "xen" else []
    real_headers = real_headers and name != "loader"
    flags = [*FLAGS, *(["-Werror"] if os.environ.get("PYXCSR_WERROR") == "1" else [])]
    include = ["csrc", *([] if real_headers else ["csrc/abi"])]
    return Extension(
        f"pyxcsr._{name}",
        sources=c_files() + beside,
        include_dirs=include,
        define_macros=MACROS,
        extra_compile_args=flags + (pkg_config("--cflags") if real_headers else []),
        extra_link_args=[*stripping(), *(pkg_config("--libs") if name == "xen" else [])],
        libraries=list(LIBRARIES[name]),
        depends=dependencies(),
        py_limited_api=True,
    )


def extensions() -> list[Extension]:
    """All modules to build here. Xen's own headers are used wherever they are, for the stub too."""
    check_environment(os.environ)
    names = wanted()
    real = "xen" in names or (os.environ.get("PYXCSR_ABI_HEADERS") != "1" and have_xen() is None)
    return [extension(name, real) for name in names]


def made_of(ext: Extension) -> str:
    """What a module was compiled against, and is linked with."""
    if "csrc/abi" in ext.include_dirs:
        headers = "csrc/abi"
    else:
        releases = pkg_config("--modversion")
        headers = f"the headers of Xen {releases[0]}" if releases else "Xen's headers that are installed here"
    if ext.name.endswith("_xen"):
        return f"{ext.name}: compiled against {headers}, and linked with that release's libxenctrl alone"
    loads = ", and loads the libxenctrl of the Xen that runs" if ext.name.endswith("_loader") else ""
    return f"{ext.name}: compiled against {headers}{loads}"


def emit(name: str, path: Path) -> None:
    """Writes the module's cffi glue."""
    from cffi import FFI  # here, so that metadata can be asked for without it

    ffi = FFI()
    headers = ["xcsr_api.h", *HEADERS[name]]
    for header in headers:
        ffi.cdef(cdef_text(HERE / "csrc" / header))
    if name == "stub":
        ffi.cdef((HERE / "csrc/stub/panel/stub_callback.cdef").read_text())
    ffi.set_source(f"pyxcsr._{name}", PRELUDE + "".join(f'#include "{x}"\n' for x in headers))
    path.parent.mkdir(parents=True, exist_ok=True)
    ffi.emit_c_code(str(path))


def document(link: re.Match[str]) -> str:
    """What stands in the metadata for a link to a document."""
    text, path = link.groups()
    return f"`{path}`" if text == path else f"{text} (`{path}`)"


class _WithModules:
    """Gives any command that is the first to run the extension modules."""

    distribution: Any

    def initialize_options(self) -> None:
        if not self.distribution.ext_modules:
            self.distribution.ext_modules = extensions()
        super().initialize_options()  # type: ignore[misc]


class Build(_WithModules, _build):
    """build, with modules to build, and what the wheel brings besides the package."""

    sub_commands: ClassVar[list[Any]] = [*_build.sub_commands, ("build_manual", None)]


class BuildManual(Command):
    """Man pages, completions and the like (build_manual.py), which become the wheel's data files."""

    user_options: ClassVar[list[Any]] = []
    editable_mode = False  # an editable installation has no data files

    def initialize_options(self) -> None:
        self.build_base: Optional[str] = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_base", "build_base"))

    def run(self) -> None:
        sys.path.insert(0, str(HERE))
        from build_manual import make

        assert self.build_base is not None
        self.distribution.data_files = make(Path(self.build_base, "manual"), self.distribution.get_version())

    def get_source_files(self) -> list[str]:
        return ["build_manual.py"]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class EggInfo(_WithModules, _egg_info):
    """egg_info: what lists the files of a source distribution, and writes the metadata.

    The licence is put into it here, because setuptools before 77 refuses the one form of it in pyproject.toml, and
    those from 2027 on the other. The README's links to documents lead nowhere but in a checkout, so that outside of
    one they are the documents' names.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        metadata = self.distribution.metadata
        setattr(metadata, "license_expression" if hasattr(metadata, "license_expression") else "license", LICENSE)
        metadata.long_description = LINK.sub(document, metadata.long_description or "")


class BdistWheel(_WithModules, _bdist_wheel):
    """bdist_wheel, for the stable ABI."""

    def finalize_options(self) -> None:
        self.py_limited_api = "cp39"
        super().finalize_options()


class BuildExt(_WithModules, _build_ext):
    """build_ext with one object folder a module: the same sources, compiled differently."""

    def run(self) -> None:
        for stale in Path(self.build_lib, "pyxcsr").glob("_*.abi3.so"):  # of an earlier build, of other backends
            stale.unlink()
        super().run()
        for ext in self.extensions:
            print(f"built {made_of(ext)}")

    def build_extension(self, ext: Extension) -> None:
        name = ext.name.rpartition("._")[2]
        shared = self.build_temp
        self.build_temp = os.path.join(shared, name)
        glue = Path(self.build_temp, f"{name}_glue.c")
        emit(name, glue)
        ext.sources = [str(glue), *ext.sources]
        try:
            super().build_extension(ext)
        finally:
            ext.sources = ext.sources[1:]
            self.build_temp = shared
