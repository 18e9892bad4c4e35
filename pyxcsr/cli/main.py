"""``pyxcsr COMMAND``: finds the command, parses its arguments, turns errors into text and exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Optional

import pyxcsr
from pyxcsr.errors import UsageError, XcsrError

COMMANDS = {
    "demo": "save a guest of the built-in stub hypervisor live, and check the stream",
    "save": "save a domain into a libxc migration stream",
    "restore": "restore a libxc migration stream into a paused domain",
    "recover": "undo what a killed save has left in a domain",
    "verify": "check a stream against every rule of the format",
    "inspect": "show what is in a stream",
    "convert": "take a stream out of an xl save file or a libxl stream, or put it into one",
}

EXIT_FAILED, EXIT_USAGE = 1, 2


def _parser(wanted: Optional[str]) -> argparse.ArgumentParser:
    """The parser. Only the wanted command's module is loaded: a guest may be waiting."""
    parser = argparse.ArgumentParser(
        prog="pyxcsr", description="Saves Xen guests into libxc migration streams, and checks such streams."
    )
    parser.add_argument("--version", action="version", version=f"pyxcsr {pyxcsr.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == wanted:
            module = importlib.import_module(f"pyxcsr.cli.{name}")
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The program. Returns the exit status: 0 done, 1 failed, 2 cannot be done as asked, 128 + n by signal n."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser(next((x for x in words if not x.startswith("-")), None)).parse_args(words)
    try:
        status: int = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # the reader of our output has gone: nothing can be told any more, and Python must not try at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FAILED
    except UsageError as error:
        return _complain(error, EXIT_USAGE)
    except XcsrError as error:
        return _complain(error, EXIT_FAILED)
    except KeyboardInterrupt:
        print("pyxcsr: interrupted", file=sys.stderr)
        return 130


def _complain(error: XcsrError, status: int) -> int:
    print(f"pyxcsr: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"pyxcsr: {note}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
