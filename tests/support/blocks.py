"""The blocks of code in a Markdown page, and what is to become of each.

A block of shell or Python is run by tests/docs/test_blocks.py, unless the line ahead of it says otherwise:
``<!-- not run: why -->``, or ``<!-- run by tests/... -->``.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

FENCE = re.compile(r"```(\S*)\s*$")
MARK = re.compile(r"<!-- (not run|run by):? (.+?) -->$")
INDENTED = re.compile(r" {4}\S")


class Block(NamedTuple):
    """A block. ``line``: its first line's number. ``mark``: "not run" or "run by", and what stands behind that."""

    kind: str
    text: str
    line: int
    mark: Optional[tuple[str, str]]


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, from its first line to its last."""
    found, inside, before = [], None, ""
    for number, line in enumerate(page.splitlines(), 1):
        if inside is None:
            if fence := FENCE.match(line):
                mark = MARK.match(before)
                inside = Block(fence[1], "", number + 1, (mark[1], mark[2]) if mark else None)
            elif line.strip():
                before = line
        elif line == "```":
            found.append(inside)
            inside, before = None, ""
        else:
            inside = inside._replace(text=f"{inside.text}{line}\n")
    assert inside is None, f"the block in line {inside.line} has no end"
    return found


def stray_marks(page: str) -> list[str]:
    """Marks that stand ahead of no block."""
    marks = re.findall(r"^<!-- (?:not run|run by).*", page, re.MULTILINE)
    return [x for x in marks if not re.search(re.escape(x) + r"\n+```", page)]


def indented(page: str) -> list[str]:
    """Lines that are code by their indentation alone, of which nobody can tell what language they are."""
    found, inside, before = [], False, ""
    for line in page.splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside and INDENTED.match(line) and not before:
            found.append(line)
        before = line.strip()
    return found
