"""Puts the result into docs/performance.md, between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.table import cells, how

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def _table(head: list[str], lines: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]


def text(result: dict[str, Any]) -> str:
    """The machine, the rows with goals, the others."""
    facts = [f"{name} {fact}" for name, fact in result["machine"].items() if name != "load"]
    load = f"load {result['machine']['load']} before, {' '.join(result['load_after'])} after"
    lines = [cells(x) for x in result["rows"]]
    judged = [line for line in lines if line[2]]
    others = [[line[0], line[1], line[3], line[5]] for line in lines if not line[2]]
    met = sum(line[4] == "met" for line in judged)
    parts = [
        f"{'; '.join([*facts, load])}; libxenguest {result['libxenguest']}.",
        "",
        f"{how(result).capitalize()}. {met} of {len(judged)} are met.",
        "",
        *_table(["case", "what", "goal", "measured", "", "medians"], judged),
        "",
        "Without a goal:",
        "",
        *_table(["case", "what", "measured", "medians"], others),
    ]
    return "\n".join(parts) + "\n"


def update(path: Path, result: dict[str, Any]) -> None:
    """Writes the file's measured part anew. Raises ValueError if it has none."""
    old = path.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no part between {BEGIN.strip()} and {END.strip()}")
    path.write_text(before + begin + text(result) + end + after)
