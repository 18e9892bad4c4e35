"""Who may import or include whom: the rooms of the package and of the C code, over what the files say."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

import pyxcsr

ROOT = Path(pyxcsr.__file__).parent
CSRC = Path(__file__).resolve().parents[1] / "csrc"

# Each layer may import from those above it in this list. Within a layer nothing is imported but from the same room.
LAYERS: list[set[str]] = [
    {"plain"},
    {"plain_array", "plain_contexts", "plain_enum"},
    {"errors", "frames"},
    {"arguments", "processes", "switches", "units"},
    {"programs"},
    {"limits", "policy", "report", "suspend.base", "devicemodel"},
    {"checkpointed", "policies"},
    {"control"},
    {"options"},
    {"hypervisor.interface"},
    {"stream", "hypervisor", "suspend"},
    {"stream.rules", "guest"},
    {"container", "migrate", "transfer"},
    {"image", "measure", "doctor"},
    {"details"},
    {"cli", "helper", "__init__"},
    {"__main__"},
]

# The same for C, by folder.
C_LAYERS: list[set[str]] = [
    {"xcsr_api.h"},
    {"base"},
    {"xen", "io", "sets"},
    {"save", "restore", "measure", "loader"},
    {"stub/machine"},
    {"stub/kernel"},
    {"stub/panel"},
]


# And file by file in the C core: a file may include, and call, only what stands in a list above its own.
CORE_FILES: list[set[str]] = [
    {"base/base", "io/iov"},
    {"io/bucket", "io/durable", "io/source"},
    {"sets/bitmap_loop", "sets/sent", "sets/sparse_set", "xen/compat", "xen/pte"},
    {"io/sink", "sets/bitmap", "xen/handle"},
    {"xen/cpu_policy", "xen/domain", "xen/foreign", "xen/hvm", "xen/scheduler", "xen/table_row", "xen/tsc"},
    {"xen/tracking", "xen/vcpu", "xen/xenstore"},
    {"xen/m2p", "xen/page_types"},
    {"xen/p2m", "xen/vcpu_context"},
    {"save/ahead", "save/normalise", "save/pace", "save/records"},
    {"save/hvm_state", "save/kept", "save/pv_state"},
    {"save/mapper"},
    {"save/session"},
    {"save/dirty", "save/former"},
    {"save/leaves"},
    {"save/broken", "save/follow", "save/holes", "save/logdirty", "save/ordinary", "save/physmap", "save/tables"},
    {"save/batch"},
    {"save/pass"},
    {"save/trial"},
    {"save/ending"},
    {"save/lifetime"},
    {"measure/meter"},
    {"restore/session"},
    {"restore/complaint", "restore/facts", "restore/walk"},
    {"restore/populate", "restore/tables"},
    {"restore/checkpoint", "restore/localise", "restore/row"},
    {"restore/pages"},
    {"restore/complete", "restore/context", "restore/lifetime"},
]


def room(module: str, layers: list[set[str]]) -> str:
    """The room of a module named relative to the package: the longest name in the list that it begins with."""
    rooms = [x for names in layers for x in names if module == x or module.startswith(f"{x}.")]
    assert rooms, f"{module} is in no room: give it one in {Path(__file__).name}"
    return max(rooms, key=len)


def layer(name: str, layers: list[set[str]]) -> int:
    return next(i for i, rooms in enumerate(layers) if name in rooms)


def complaint(mine: str, theirs: str, layers: list[set[str]]) -> str:
    """What is wrong if a file of room ``mine`` uses one of room ``theirs``, or nothing."""
    if mine == theirs:
        return ""
    here, there = layer(mine, layers), layer(theirs, layers)
    if there == here:
        return f"{mine} and {theirs} must not know each other"
    return f"{mine} looks upwards, to {theirs}" if there > here else ""


def circle(uses: Mapping[str, Iterable[str]]) -> list[str]:
    """Files that use each other in a circle, or nothing."""
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for other in sorted(uses.get(name, ())):
            found = visit(other)
            if found:
                return found
        path.pop()
        done.add(name)
        return []

    for name in sorted(uses):
        found = visit(name)
        if found:
            return found
    return []


# -- Python


def module_of(path: Path) -> str:
    """A file's module, relative to the package; the package's own __init__ is "__init__"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    return (ROOT / f"{name.replace('.', '/')}.py").exists() or (ROOT / name.replace(".", "/") / "__init__.py").exists()


def imports(path: Path) -> set[str]:
    """The package's modules that a file imports, wherever in it, for type checkers too, relative to the package."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "pyxcsr":
                found.update(x.name for x in node.names)
            elif node.module and node.module.startswith("pyxcsr."):
                base = node.module[len("pyxcsr.") :]
                found.update(f"{base}.{x.name}" if is_module(f"{base}.{x.name}") else base for x in node.names)
        elif isinstance(node, ast.Import):
            found.update(x.name[len("pyxcsr.") :] for x in node.names if x.name.startswith("pyxcsr."))
    return found


FILES = sorted(x for x in ROOT.rglob("*.py"))
NOT_FILES = ("_stub", "_xen", "_loader", "__version__")  # built from C, and a name that __init__ has before any import


@pytest.mark.parametrize("path", FILES, ids=lambda x: str(x.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    mine = room(module_of(path), LAYERS)
    for target in imports(path):
        if target in NOT_FILES and mine in ("__init__", "cli"):
            continue
        wrong = complaint(mine, room(target, LAYERS), LAYERS)
        assert not wrong, f"{path.relative_to(ROOT)} imports {target}: {wrong}"


def test_no_import_goes_in_a_circle() -> None:
    assert circle({module_of(x): imports(x) for x in FILES}) == []


def test_only_the_backend_touches_cdata() -> None:
    for path in FILES:
        name = str(path.relative_to(ROOT))
        if not name.startswith("hypervisor/"):
            text = path.read_text()
            assert not re.search(r"\b_?ffi\.\w|\b_?lib\.\w", text), f"{name} touches cdata"


# -- C


def includes(path: Path) -> set[str]:
    """The project's own headers that a C file includes."""
    return set(re.findall(r'^#include "([^"]+)"', path.read_text(), flags=re.M))


C_FILES = sorted(x for x in CSRC.rglob("*.[ch]") if x.relative_to(CSRC).parts[0] != "abi")


def c_room(name: str) -> str:
    """The first folder; of the stub, two."""
    return "/".join(name.split("/")[: 2 if name.startswith("stub/") else 1])


@pytest.mark.parametrize("path", C_FILES, ids=lambda x: str(x.relative_to(CSRC)))
def test_includes_run_downwards(path: Path) -> None:
    name = str(path.relative_to(CSRC))
    for target in includes(path):
        assert (CSRC / target).is_file(), f"{name} includes {target}, which is not below csrc/"
        wrong = complaint(c_room(name), c_room(target), C_LAYERS)
        assert not wrong, f"{name} includes {target}: {wrong}"


def test_no_include_goes_in_a_circle() -> None:
    assert circle({str(x.relative_to(CSRC)): includes(x) for x in C_FILES}) == []


COMMENT = re.compile(r"/\*.*?\*/", flags=re.S)
DEFINITION = re.compile(r"^(?!static\b|typedef\b)\w[\w \t*]*?\b(\w+)\([^;{}]*\)\n\{", flags=re.M)
CALL = re.compile(r"\b([a-z]\w*)\b")
CORE_SOURCES = [x for x in C_FILES if x.relative_to(CSRC).parts[0] not in ("stub", "loader", "xcsr_api.h")]


def stem(path: Path) -> str:
    """A file's name in CORE_FILES: header and source are one subject."""
    return str(path.relative_to(CSRC).with_suffix(""))


def defined(text: str) -> set[str]:
    """The functions that a C file defines for others: with external linkage."""
    return set(DEFINITION.findall(COMMENT.sub(" ", text)))


def upward_calls(texts: Mapping[str, str], ranks: list[set[str]]) -> list[str]:
    """Each use, in a file, of a function that a file of the same rank or of a higher one defines."""
    owner = {name: who for who, text in texts.items() for name in defined(text)}
    return [
        f"{who} uses {name} of {owner[name]}"
        for who, text in texts.items()
        for name in sorted(set(CALL.findall(COMMENT.sub(" ", text))) & set(owner))
        if owner[name] != who and layer(owner[name], ranks) >= layer(who, ranks)
    ]


@pytest.mark.parametrize("path", CORE_SOURCES, ids=lambda x: str(x.relative_to(CSRC)))
def test_includes_run_downwards_file_by_file(path: Path) -> None:
    mine = stem(path)
    for target in includes(path) - {"xcsr_api.h"}:
        theirs = str(Path(target).with_suffix(""))
        wrong = "" if theirs == mine else complaint(mine, theirs, CORE_FILES)
        assert not wrong, f"{mine} includes {target}: {wrong}"


def test_calls_run_downwards_file_by_file() -> None:
    texts = {stem(x): x.read_text() for x in CORE_SOURCES if x.suffix == ".c"}
    owners = [name for text in texts.values() for name in defined(text)]
    assert len(owners) > 100 and len(owners) == len(set(owners)), "the definitions are not read as they should be"
    assert upward_calls(texts, CORE_FILES) == []


def test_each_file_of_the_core_has_a_rank() -> None:
    assert {x for names in CORE_FILES for x in names} == {stem(x) for x in CORE_SOURCES}


def test_the_judge_of_calls_notices() -> None:
    """The judge itself: a call upwards, one between neighbours, and what is no call of another file's."""
    low, high = "int low(int a)\n{\n    return %s;\n}\n", "int high(void)\n{\n    return low(1);\n}\n"
    ranks: list[set[str]] = [{"low", "side"}, {"high"}]
    assert not upward_calls({"low": low % "a", "high": high}, ranks)
    assert upward_calls({"low": low % "high()", "high": high}, ranks) == ["low uses high of high"]
    assert upward_calls({"low": low % "side", "side": "void side(void)\n{\n}\n"}, ranks) == ["low uses side of side"]
    assert not upward_calls({"low": low % "a /* not high() */", "high": "static " + high}, ranks)


def test_each_module_is_whole_without_the_others() -> None:
    """Names that only type checkers see are missing at run time: mypy says nothing of who imports one of them."""
    found = [x.name for x in pkgutil.walk_packages(pyxcsr.__path__, "pyxcsr.")]
    assert len(found) > 150
    for name in found:
        if not name.endswith("__main__") and not name.startswith("pyxcsr._"):
            importlib.import_module(name)


def test_the_judge_of_layers_notices() -> None:
    """The judge itself: an import upwards, one between neighbours, and a circle."""
    assert complaint("stream", "guest", LAYERS)
    assert complaint("stream", "hypervisor", LAYERS)
    assert not complaint("guest", "stream", LAYERS)
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"]}) == ["a", "b", "c", "a"]
    assert not circle({"a": ["b", "c"], "b": ["c"]})
