"""The examples of docs/stream.md run, and print what the page says they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "stream.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text())
    names: dict[str, object] = {}
    printed = 0
    for (kind, text), (next_kind, next_text) in zip(blocks, [*blocks[1:], ("", "")]):
        if kind != "python":
            continue
        exec(compile(text, str(PAGE), "exec"), names)
        said = "".join(line.rstrip() + "\n" for line in capsys.readouterr().out.splitlines())
        expected = next_text if next_kind == "text" and "$ " not in next_text else ""
        if said or expected:
            assert said == expected
            printed += 1
    assert printed == 3


def test_the_command_line_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyxcsr.cli.main import main

    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text())
    exec(compile(next(text for kind, text in blocks if kind == "python"), str(PAGE), "exec"), {})
    command, *expected = next(text for kind, text in blocks if text.startswith("$ ")).splitlines()
    assert main(command.split()[2:]) == 0
    assert capsys.readouterr().out.splitlines() == expected
