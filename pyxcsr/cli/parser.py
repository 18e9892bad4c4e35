"""The parser of the command line. argparse is loaded with it, and only when a command is there to be parsed."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, Optional

import pyxcsr
from pyxcsr.cli import say
from pyxcsr.cli.overview import DESCRIPTION, PROGRAM, overview
from pyxcsr.errors import UsageError


class Parser(argparse.ArgumentParser):
    """A parser that prints through ``say``, and whose errors are the package's."""

    def _print_message(self, message: str, file: Optional[Any] = None) -> None:
        if message and file is sys.stderr:
            say.attempt(file, message, say.PATIENCE)
        elif message:
            say.report(message.rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)


class _WholeParser(Parser):
    """The program's own, whose help is laid out by ``overview``."""

    commands: Mapping[str, str]

    def format_help(self) -> str:
        return overview(self.commands, self.epilog or "") + "\n"


def parser(all_commands: Mapping[str, str], statuses: str, wanted: Optional[str]) -> argparse.ArgumentParser:
    """The parser. Only the wanted command's module is loaded: a guest may be waiting."""
    whole = _WholeParser(prog=PROGRAM, description=DESCRIPTION, epilog=statuses)
    whole.commands = all_commands
    whole.add_argument("--version", action="version", version=f"pyxcsr {pyxcsr.__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, text in all_commands.items():
        command = commands.add_parser(name, help=text, epilog=statuses)
        if name == wanted:
            module = importlib.import_module(f"pyxcsr.cli.{name.replace('-', '_')}")
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return whole
