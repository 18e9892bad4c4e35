"""Every line that a save tells is as docs/control.schema.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pyxcsr
from control.scene import GUEST, Beside, save, sock, the_save
from pyxcsr.hypervisor.open import StubBackend

jsonschema = pytest.importorskip("jsonschema", reason="the jsonschema package is not installed")

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/control.schema.json").read_text())
KINDS = set(SCHEMA["properties"]["event"]["enum"])


def check(told: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(told)


def wrong(told: dict[str, Any]) -> bool:
    return not jsonschema.Draft202012Validator(SCHEMA).is_valid(told)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_all_events(hv: StubBackend, tmp_path: Path, run_dir: Path, patient: None) -> None:
    """Of a save that succeeds, of one that is cancelled, and of one that fails."""
    path = tmp_path / "events"
    domid = hv.stub.create(GUEST)
    answers: list[dict[str, Any]] = []

    def steer() -> None:
        one = the_save(run_dir)
        answers.append(one.status())
        answers.append(one.tune(bandwidth="64M", max_downtime="1m", timeout="1h", max_iterations=9))
        with sock(run_dir) as client:
            client.sendall(b"what?\n")
            answers.append(json.loads(client.recv(4096)))

    with Beside(steer):
        save(hv, domid, tmp_path / "s", run_dir, events=str(path), bandwidth="2M")
    hv.domain_resume(domid)
    with Beside(lambda: answers.append(the_save(run_dir).cancel())), pytest.raises(pyxcsr.Cancelled):
        save(hv, domid, tmp_path / "s", run_dir, events=str(path), bandwidth="1M")
    with pytest.raises(pyxcsr.OutputError), open("/dev/full", "wb") as full:
        pyxcsr.save(hv, domid, full, control=pyxcsr.Control("", str(path)))
    told = [json.loads(x) for x in path.read_bytes().splitlines()]
    for one in told + answers:
        check(one)
    assert {x["event"] for x in told + answers} == KINDS - {"silent", "killed"}
    assert [x["result"] for x in told if x["event"] == "end"] == ["done", "cancelled", "failed"]
    for one in told:
        assert not set(one) - documented(), "docs/control.md does not name each field"
        for field in ("pyxcsr", "domid", "time"):
            assert wrong({x: value for x, value in one.items() if x != field})
    assert wrong({**told[0], "pyxcsr": 2}) and wrong({**told[0], "event": "else"})


def documented() -> set[str]:
    import re

    return set(re.findall(r"`(\w+)`", (Path(__file__).parents[2] / "docs/control.md").read_text()))
