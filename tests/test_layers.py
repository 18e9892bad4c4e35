"""Who may import whom: the rooms of the package, asserted over its real imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pyxcsr

ROOT = Path(pyxcsr.__file__).parent

# Each layer may import from those above it in this list, and from itself.
LAYERS: list[set[str]] = [
    {"errors", "frames", "policy", "report"},
    {"hypervisor.interface"},
    {"stream", "hypervisor", "p2m", "suspend"},
    {"guest"},
    {"saver", "following", "restorer", "recovery", "xlconfig"},
    {"cli", "helper", "__init__"},
]

# Within a layer, rooms that must not know each other.
APART = {
    "stream": {"hypervisor", "p2m", "suspend"},
    "hypervisor": {"p2m", "suspend", "stream"},
    "p2m": {"stream", "suspend", "hypervisor"},
    "suspend": {"stream", "p2m", "hypervisor"},
}


def room(module: str) -> str:
    """The room of a module named relative to the package."""
    if module == "hypervisor.interface":
        return module
    return module.split(".", maxsplit=1)[0]


def layer(name: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if name in rooms)


def type_checking_blocks(tree: ast.Module) -> set[ast.AST]:
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found.update(x for child in node.body for x in ast.walk(child))
    return found


def imports(path: Path) -> set[str]:
    """The package's modules that a file imports, wherever in it, relative to the package."""
    tree = ast.parse(path.read_text())
    skip = type_checking_blocks(tree)
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skip:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "pyxcsr":
                found.update(x.name for x in node.names)
            elif node.module and node.module.startswith("pyxcsr."):
                base = node.module[len("pyxcsr.") :]
                found.update(
                    f"{base}.{x.name}" if (ROOT / base / f"{x.name}.py").exists() else base
                    for x in node.names
                )
        elif isinstance(node, ast.Import):
            found.update(x.name[len("pyxcsr.") :] for x in node.names if x.name.startswith("pyxcsr."))
    return found


FILES = sorted(x for x in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda x: str(x.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    relative = path.relative_to(ROOT).with_suffix("")
    mine = room(".".join(relative.parts))
    for target in imports(path):
        if target in ("_stub", "_xen", "__version__") and mine in ("__init__", "cli"):
            continue
        theirs = room(target)
        assert layer(theirs) <= layer(mine), f"{path} imports upwards: {target}"
        assert theirs not in APART.get(mine, set()), f"{mine} must not know {theirs}: {path} imports {target}"


def test_only_the_backend_touches_cdata() -> None:
    allowed = {f"hypervisor/{x}.py" for x in ("backend", "saving", "building", "stub", "open")}
    for path in FILES:
        name = str(path.relative_to(ROOT))
        if name not in allowed:
            text = path.read_text()
            assert not re.search(r"\b_?ffi\.\w|\b_?lib\.\w", text), f"{name} touches cdata"
