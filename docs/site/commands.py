"""The directive ``commands``: every command of ``pyxcsr``, with its arguments, as its parser has them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pyxcsr.cli.main import COMMANDS
from pyxcsr.cli.parser import parser

CODE = re.compile(r"`[^`]*`")
SPECIAL = re.compile(r"([\\*_<>\[\]|{}$~])")


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of one command, as ``pyxcsr COMMAND --help`` prints it."""
    whole = parser(COMMANDS, "", command)
    (commands,) = (x for x in whole._actions if isinstance(x, argparse._SubParsersAction))
    found: argparse.ArgumentParser = commands.choices[command]
    return found


def plain(text: str) -> str:
    """Text of the parser as MyST: what has a meaning there is escaped, but for words in backticks."""
    parts, last = [], 0
    for code in CODE.finditer(text):
        parts += [SPECIAL.sub(r"\\\1", text[last : code.start()]), code.group()]
        last = code.end()
    return "".join([*parts, SPECIAL.sub(r"\\\1", text[last:])])


def invocation(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    """How an argument is written: ``--name VALUE, -n VALUE``, or the name of a positional one."""
    if not action.option_strings:
        return str(formatter._format_args(action, action.dest.upper()))
    values = "" if action.nargs == 0 else " " + formatter._format_args(action, action.dest.upper())
    return ", ".join(f"{x}{values}" for x in action.option_strings)


def help_of(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    return str(formatter._expand_help(action)) if action.help else ""


def usage(command: argparse.ArgumentParser) -> str:
    """``usage: ...`` without its first word, in lines that fit into a narrow page."""
    command.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=80)  # type: ignore[assignment]
    return command.format_usage().removeprefix("usage: ").rstrip()


def lines(name: str) -> Iterator[str]:
    """The part of the page about one command."""
    command = parser_of(name)
    formatter = command._get_formatter()
    yield from (f"## pyxcsr {name}", "", plain(" ".join((command.description or "").split())), "")
    yield from ("```text", usage(command), "```", "")
    for action in command._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        yield from (f"`{invocation(action, formatter)}`", f": {plain(help_of(action, formatter))}", "")
    yield from (plain(" ".join((command.epilog or "").split())), "")


def page() -> str:
    """All of them."""
    return "\n".join(line for name in COMMANDS for line in lines(name))


class Commands(SphinxDirective):
    """Puts them in its place."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(page(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
