"""docs/rules.md has a row for each rule of verify and for each refusal of a restore, and no other rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import pytest

import pyxcsr
from pyxcsr.stream.rules.complaints import CONTAINER_RULES, RULES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rules.md"
PACKAGE = Path(pyxcsr.__file__).parent

WHAT_A_RESTORE_READS = (
    "transfer/failover.py",
    "transfer/restorer.py",
    "transfer/spool.py",
    "guest/hvm/judging.py",
    "guest/hvm/restore.py",
    "guest/judging.py",
    "guest/pv/judging.py",
    "guest/pv/pages.py",
    "guest/pv/restore.py",
    "guest/pv/vcpus.py",
    "guest/x86.py",
    "stream/hvm_context.py",
    "stream/incoming.py",
    "stream/reader.py",
    "stream/records.py",
    "container/enter.py",
    "container/reader.py",
)
"""The files in which a restore says no to a stream; csrc/restore besides."""

REFUSALS = frozenset(
    {"StreamError", "StreamTruncated", "NotAStream", "IncompleteStream", "VerifyMismatch", "NotSupported", "_wrong"}
)

SAID_ELSEWHERE = {
    ("stream/reader.py", "sniff.describe(head)"),
    ("stream/reader.py", "problem"),
    ("transfer/failover.py", "wrong"),
    ("container/reader.py", "text"),
    ("stream/records.py", "text"),
}
"""Texts that come from a function: what a file is that is no stream, and the ``_wrong`` of records itself."""

AROUND = {"…: …", "X86_PV_P2M_FRAMES: …", "… at offset … …", "… record of … bytes: a receiver takes at most …"}
"""What the ``_wrong`` of records and restorer put around another text; what a saver says of a record of its own."""

GAP = "…"


class Row(NamedTuple):
    """A row of a table. ``head``: what stands in backticks in its first cell."""

    head: list[str]
    cells: list[str]


def section(title: str) -> list[Row]:
    """The rows under a heading."""
    text = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (found,) = (part for part in text if part.startswith(f"{title}\n"))
    lines = [line.strip("|").split(" | ") for line in found.splitlines() if line.startswith("| `")]
    return [Row(re.findall(r"`([^`]+)`", cells[0]), [cell.strip() for cell in cells]) for cells in lines]


@pytest.mark.parametrize(
    ("title", "rules"), [("Rules of libxc streams", RULES), ("Rules of containers", CONTAINER_RULES)]
)
def test_each_rule_has_its_row(title: str, rules: dict[str, str]) -> None:
    rows = section(title)
    assert [row.head[0] for row in rows] == list(rules)
    for row in rows:
        assert len(row.cells) == 5, row
        assert row.cells[1] == rules[row.head[0]]
        assert all(row.cells), "a cell is empty"


# What a restore says


def template(node: ast.expr, where: ast.AST) -> Optional[str]:
    """A text as far as it is written in the code, with GAP for what is put in; None if it is not."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(x.value) if isinstance(x, ast.Constant) else GAP for x in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [template(side, where) for side in (node.left, node.right)]
        return GAP.join(x or "" for x in parts) if any(parts) else None
    if isinstance(node, ast.Name):
        texts = [
            template(x.value, where)
            for x in ast.walk(where)
            if isinstance(x, ast.Assign) and getattr(x.targets[0], "id", "") == node.id
        ]
        return next((x for x in texts if x), None)
    return None


def refusals(file: str) -> Iterator[str]:
    """The text of each, from the Python file."""
    tree = ast.parse((PACKAGE / file).read_text())
    for where in ast.walk(tree):
        if not isinstance(where, ast.FunctionDef):
            continue
        for call in ast.walk(where):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name not in REFUSALS:
                continue
            texts = [text for text in (template(x, where) for x in call.args) if text]
            if texts:
                yield texts[0]
            else:
                assert any((file, ast.unparse(x)) in SAID_ELSEWHERE for x in call.args), ast.unparse(call)


FAIL = re.compile(
    r'(?:xcsr_fail\([^;"]*XCSR_E_(?:STREAM|CONTEXT)|restore_stream_error\()((?:"(?:[^"\\]|\\.)*"|[^;"])*);'
)
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
NUMBER = re.compile(r"%#?(?:ll|z)?[udxs]")


def refusals_in_c() -> Iterator[str]:
    """The texts in csrc/restore; the last string of a call is its text, and joins what follows it."""
    for path in sorted((ROOT / "csrc" / "restore").glob("*.c")):
        if path.stem == "complaint":  # which is what restore_stream_error puts around a text
            continue
        for call in FAIL.findall(path.read_text()):
            texts = STRING.findall(call)
            if texts:
                yield NUMBER.sub(GAP, max(texts, key=len))


def all_refusals() -> set[str]:
    texts = {text for file in WHAT_A_RESTORE_READS for text in refusals(file)}
    return {*texts, *refusals_in_c()} - AROUND


def is_in(words: str, text: str) -> bool:
    """Whether the parts of ``words``, which GAPs separate, stand in ``text`` in their order."""
    return re.search(".*".join(map(re.escape, words.split(GAP))), text) is not None


def test_each_refusal_of_a_restore_has_its_row() -> None:
    texts = all_refusals()
    assert len(texts) > 50
    rows = section("What a restore refuses")
    for row in rows:
        assert len(row.cells) == 5 and all(row.cells), row
    told = [words for row in rows for words in row.head]
    assert [text for text in sorted(texts) if not any(is_in(words, text) for words in told)] == []
    assert [words for words in told if not any(is_in(words, text) for text in texts)] == []
    assert len(told) == len(set(told))


def test_what_is_looked_for_is_found() -> None:
    """That the texts are read out of the code: one of each form."""
    texts = all_refusals()
    for words in (
        f"{GAP} comes before X86_PV_INFO",
        "PAGE_DATA comes before X86_PV_P2M_FRAMES",
        "is listed twice in one record",
        "comes before STATIC_DATA_END",
    ):
        assert words in texts, words
    assert is_in(f"a{GAP}c", "abc") and not is_in(f"c{GAP}a", "abc")
