"""``pyxcsr COMMAND``: finds the command, parses its arguments, turns errors into text and exit status."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

import pyxcsr
from pyxcsr.cli import say, status
from pyxcsr.errors import Cancelled, UsageError, XcsrError

COMMANDS = {
    "demo": "save a guest of the built-in stub hypervisor live, and check the stream",
    "save": "save a domain into a libxc migration stream",
    "restore": "restore a libxc migration stream into a paused domain",
    "migrate": "migrate a domain to another host by `xl migrate`, with pyxcsr at both ends",
    "watch": "show the saves that run on this machine",
    "tune": "change the limits of a save that runs",
    "cancel": "end a save that runs: the guest goes on",
    "dirty-rate": "measure how a guest dirties its memory, and predict what a live save would come to",
    "recover": "undo what a killed save has left in a domain",
    "verify": "check a stream against every rule of the format",
    "inspect": "show what is in a stream",
    "plot": "draw what save --json or dirty-rate --json has printed",
    "convert": "take a stream out of an xl save file or a libxl stream, or put it into one",
    "dump": "write a saved guest's memory as a file that debuggers read",
    "index": "leave an index beside a stream, by which its memory is found at once",
    "compare": "compare two saved guests: memory, page types, vcpus, CPU policy",
    "stats": "what a saved guest's memory is like: zero pages, duplicates, entropy",
}

ONLY_REPORT = ("verify", "inspect", "compare", "stats")
"""Commands that are commonly read by ``head``: a reader that has gone needs no words."""

STATUSES = status.explained("done", "failed", "cannot be done as asked, and nothing was done")


class _Parser(argparse.ArgumentParser):
    """A parser that prints through ``say``, and whose errors are the package's."""

    def _print_message(self, message: str, file: Optional[Any] = None) -> None:
        if message and file is sys.stderr:
            say.attempt(file, message, say.PATIENCE)
        elif message:
            say.report(message.rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)


def _parser(wanted: Optional[str]) -> argparse.ArgumentParser:
    """The parser. Only the wanted command's module is loaded: a guest may be waiting."""
    parser = _Parser(
        prog="pyxcsr",
        description="Saves Xen guests into libxc migration streams, checks such streams, and looks into them.",
        epilog=STATUSES,
    )
    parser.add_argument("--version", action="version", version=f"pyxcsr {pyxcsr.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, epilog=STATUSES)
        if name == wanted:
            module = importlib.import_module(f"pyxcsr.cli.{name.replace('-', '_')}")
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The program. Returns the exit status; ``pyxcsr.cli.status`` has their meanings."""
    say.begin()
    say.occupy_closed()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        done = _run(words)
    except SystemExit as end:  # of --help and --version, and a signal
        if _delivered(words) or end.code:
            raise
        raise SystemExit(status.UNTOLD) from None
    return done if _delivered(words) or done else status.UNTOLD


def _delivered(words: list[str]) -> bool:
    """Whether the whole report has been written. If not, that is said where it can be."""
    problem = say.lost()
    if problem is None:
        return True
    if problem.errno != errno.EPIPE or not set(words) & set(ONLY_REPORT):
        say.note(f"the report could not be written: {problem.strerror}")
    return False


def _run(words: list[str]) -> int:
    """The command, with every error turned into a status."""
    args = argparse.Namespace(json="--json" in words, beside="-" in words)
    try:
        args = _parser(next((x for x in words if not x.startswith("-")), None)).parse_args(words)
        args.words = words
        done: int = args.run(args)
        return done
    except say.Undelivered:
        return status.UNTOLD
    except KeyboardInterrupt:
        say.note("interrupted")
        return status.BY_SIGNAL + 2
    except (XcsrError, OSError, MemoryError) as error:
        return _failed(error, args)
    except Exception as error:
        from pyxcsr.cli import failure

        failure.tell_bug(error)
        return status.BUG


def _failed(error: BaseException, args: argparse.Namespace) -> int:
    from pyxcsr.cli import failure

    if isinstance(error, OSError):
        error = failure.of_system(error)
    elif isinstance(error, MemoryError):
        error = XcsrError("this machine has no memory left for it", errno=errno.ENOMEM)
    failure.tell(error, as_json=getattr(args, "json", False), beside=getattr(args, "beside", False))
    if isinstance(error, Cancelled) and error.signal:
        return status.BY_SIGNAL + error.signal
    return status.of_error(error)


if __name__ == "__main__":
    sys.exit(main())
