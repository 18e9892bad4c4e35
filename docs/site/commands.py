"""The directive ``commands``: every command of ``pyxcsr``, with its arguments, as its parser has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from build_manual import Command, described_commands

CODE = re.compile(r"`[^`]*`")
SPECIAL = re.compile(r"([\\*_<>\[\]|{}$~])")


def plain(text: str) -> str:
    """Text of the parser as MyST: what has a meaning there is escaped, but for words in backticks."""
    parts, last = [], 0
    for code in CODE.finditer(text):
        parts += [SPECIAL.sub(r"\\\1", text[last : code.start()]), code.group()]
        last = code.end()
    return "".join([*parts, SPECIAL.sub(r"\\\1", text[last:])])


def lines(command: Command) -> Iterator[str]:
    """The part of the page about one command."""
    yield from (f"## pyxcsr {command.name}", "", plain(command.summary), "")
    yield from ("```text", command.usage, "```", "")
    for invocation, text in command.arguments:
        yield from (f"`{invocation}`", f": {plain(text)}", "")
    yield from (plain(command.statuses), "")


def page() -> str:
    """All of them."""
    return "\n".join(line for command in described_commands() for line in lines(command))


class Commands(SphinxDirective):
    """Puts them in its place."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(page(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
