"""The facts of errors: each is declared where it is used, readable as an attribute, and survives pickling."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path
from typing import Any

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


class OnOldPython(pyxcsr.OutputError):
    """An error of a Python without ``add_note``, where :func:`pyxcsr.errors.note` adds to the text."""

    @property
    def add_note(self) -> None:  # type: ignore[override]
        raise AttributeError("add_note")


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", [pyxcsr.OutputError, OnOldPython])
def test_what_was_added_to_an_error_survives_pickling(kind: type[pyxcsr.OutputError], again: Any) -> None:
    """The notes, that nothing was done, and what others keep on it; a copy's notes and facts are its own."""
    error = kind("text", errno=28)
    errors.note(error, "the guest stays suspended")
    error.untouched = True
    error.whose = "the caller's"  # type: ignore[attr-defined]
    found = again(error)
    assert (str(found), found.errno, found.untouched) == (str(error), 28, True)
    assert found.whose == "the caller's"
    assert errors.notes_on(found) == errors.notes_on(error) == ["the guest stays suspended"]
    errors.note(found, "of the copy alone")
    found.learn(offset=8)
    assert errors.notes_on(error) == ["the guest stays suspended"] and error.facts == {"errno": 28}


@pytest.mark.parametrize("kind", [x for x in KINDS.values() if issubclass(x, pyxcsr.XcsrError)])
def test_each_kind_keeps_its_notes(kind: type[pyxcsr.XcsrError]) -> None:
    facts = {"op": "x", "errno": 3} if issubclass(kind, pyxcsr.HypervisorError) else {}
    error = kind("text", **facts, **({"offset": 0} if issubclass(kind, pyxcsr.StreamError) else {}))
    errors.note(error, "more")
    error.untouched = True
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), vars(found)) == (kind, vars(error)) and errors.notes_on(found) == ["more"]
