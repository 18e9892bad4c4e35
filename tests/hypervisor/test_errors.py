"""The facts of errors: each is declared where it is used, readable as an attribute, and survives pickling."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

import pyxcsr
from pyxcsr import errors
from pyxcsr.hypervisor.stub.panel import StubError

PACKAGE = Path(pyxcsr.__file__).parent
KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
KINDS["StubError"] = StubError
CALLS = ("_call", "_check", "_number", "_blob")
"""Of the backend: what these are given beside their arguments becomes facts of a HypervisorError."""


def declared(kind: type) -> set[str]:
    return {name for x in kind.__mro__ for name in vars(x).get("__annotations__", ())}


def raised() -> list[tuple[str, str, str]]:
    """(file, class, fact) of each fact that the package gives by name."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in CALLS and "hypervisor" in path.parts and "stub" not in path.parts:
                    name = "HypervisorError"
                if name in KINDS:
                    found += [(path.name, name, x.arg) for x in node.keywords if x.arg]
    return found


def test_every_fact_is_declared() -> None:
    found = raised()
    assert len(found) > 300
    assert [x for x in found if x[2] not in declared(KINDS[x[1]])] == []


def test_facts_are_attributes() -> None:
    error = pyxcsr.StreamError("text", offset=8, record="END", pfn=5)
    assert (error.offset, error.record, error.pfn, error.mfn) == (8, "END", 5, None)
    assert error.facts == {"offset": 8, "record": "END", "pfn": 5}
    with pytest.raises(AttributeError):
        error.spelling_mistake  # type: ignore[attr-defined]  # noqa: B018


def test_facts_learned_later() -> None:
    error = pyxcsr.Cancelled("text")
    error.learn(signal=15)
    assert error.signal == 15 and error.facts == {"by": "caller", "signal": 15}


def test_pickling() -> None:
    error = pickle.loads(pickle.dumps(pyxcsr.DomainNotFound("text", op="x", errno=3, domid=7)))
    assert (type(error), str(error), error.domid, error.facts["op"]) == (pyxcsr.DomainNotFound, "text", 7, "x")
    assert error.strerror == "No such process"
