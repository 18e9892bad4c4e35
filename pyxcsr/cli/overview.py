"""``pyxcsr --help`` as text. It is laid out here because argparse takes as long to load as all that the rest needs."""

from __future__ import annotations

import os

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "pyxcsr"
USAGE = f"usage: {PROGRAM} [-h] [--version] COMMAND ..."
DESCRIPTION = "Saves Xen guests into libxc migration streams, checks such streams, and looks into them."
OPTIONS = {
    "-h, --help": "show this help and exit; after a command, the command's",
    "--version": "show the program's version and exit",
}
NARROWEST = 40
"""Columns that are taken even where the terminal has fewer."""


def overview(commands: Mapping[str, str], statuses: str) -> str:
    """The whole text, without a last newline. ``commands``: what each of them does; ``statuses``: the exit's."""
    width = max(_columns() - 2, NARROWEST)
    wide = max(map(len, commands)) + 4
    parts = [USAGE, _wrapped(DESCRIPTION, width)]
    parts.append("\n".join(["commands:", *(_item(x, y, wide, width) for x, y in commands.items())]))
    parts.append("\n".join(["options:", *(_item(x, y, wide, width) for x, y in OPTIONS.items())]))
    return "\n\n".join([*parts, _wrapped(statuses, width)])


def _columns() -> int:
    """How wide the terminal is, as shutil has it."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and len(told) < 6 and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _item(name: str, text: str, wide: int, width: int) -> str:
    return f"  {name}".ljust(wide) + _wrapped(text, width, wide)


def _wrapped(text: str, width: int, indent: int = 0) -> str:
    """The text in lines; from the second one on they are indented, and the first one has as much ahead of it."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width - indent:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return f"\n{' ' * indent}".join(lines)
