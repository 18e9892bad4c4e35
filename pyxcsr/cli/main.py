"""``pyxcsr COMMAND``: finds the command, parses its arguments, turns errors into text and exit status."""

from __future__ import annotations

import errno
import sys

import pyxcsr
from pyxcsr.cli import say, status
from pyxcsr.errors import Cancelled, XcsrError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Optional

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
    "doctor": "say what this host has of Xen and of pyxcsr, and what will work with it",
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


HELP, VERSION = ("-h", "--help"), "--version"


def _parser(wanted: Optional[str]) -> argparse.ArgumentParser:
    from pyxcsr.cli.parser import parser

    return parser(COMMANDS, STATUSES, wanted)


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
    if len(words) == 1 and words[0] in (*HELP, VERSION):
        _tell(words[0])
        return status.DONE
    args: Optional[argparse.Namespace] = None
    try:
        args = _parser(next((x for x in words if not x.startswith("-")), None)).parse_args(words)
        args.words = words
        from pyxcsr.processes import hear_of_children  # not for what only tells of itself

        hear_of_children()
        done: int = args.run(args)
        return done
    except say.Undelivered:
        return status.UNTOLD
    except KeyboardInterrupt:
        say.note("interrupted")
        return status.BY_SIGNAL + 2
    except (XcsrError, OSError, MemoryError) as error:
        return _failed(error, words, args)
    except Exception as error:
        from pyxcsr.cli import failure

        failure.tell_bug(error)
        return status.BUG


def _tell(option: str) -> None:
    """What asks for no command needs no parser."""
    if option == VERSION:
        say.report(f"pyxcsr {pyxcsr.__version__}")
        return
    from pyxcsr.cli.overview import overview

    say.report(overview(COMMANDS, STATUSES))


def _failed(error: BaseException, words: list[str], args: Optional[argparse.Namespace]) -> int:
    from pyxcsr.cli import failure

    if isinstance(error, OSError):
        error = failure.of_system(error)
    elif isinstance(error, MemoryError):
        error = XcsrError("this machine has no memory left for it", errno=errno.ENOMEM)
    as_json, beside = "--json" in words, "-" in words
    if args is not None:
        as_json, beside = getattr(args, "json", False), getattr(args, "beside", False)
    failure.tell(error, as_json=as_json, beside=beside)
    if isinstance(error, Cancelled) and error.signal:
        return status.BY_SIGNAL + error.signal
    return status.of_error(error)


if __name__ == "__main__":
    sys.exit(main())
