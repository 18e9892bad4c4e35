"""``pyxcsr compare A B``: which pages, page types, vcpus and policies of two saved guests differ."""

from __future__ import annotations

import argparse
import errno
import json
from contextlib import ExitStack

from pyxcsr.cli import failure, progress, say, status
from pyxcsr.cli.images import opened_image
from pyxcsr.cli.told import Told
from pyxcsr.errors import InputError, UsageError, untouched_so_far
from pyxcsr.image.compare import Comparison, Ranges, compare

SHOWN = 8
"""Ranges that are shown of each kind without --list."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Compares what two streams leave behind. Pages are compared by pfn, and page tables hold pfns, so that a PV "
        "guest that was restored elsewhere compares, too; its p2m's frames count as equal if only the machine's frame "
        "numbers differ. Streams may be in containers and compressed."
    )
    parser.epilog = status.explained("they are the same", "they differ", "one of them cannot be read")
    add = parser.add_argument
    add("a", metavar="A", help="a stream, or - for standard input")
    add("b", metavar="B", help="another")
    add("--list", action="store_true", help="print each pfn that differs, with what differs, and nothing else")
    add("--json", action="store_true", help="print the report as JSON")
    add("--quiet", action="store_true", help="print nothing; the status tells")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    if args.a == args.b == "-":
        raise UsageError("standard input can be read only once")
    with untouched_so_far(), ExitStack() as stack:  # whatever goes wrong: it is not known that they differ
        try:
            a, b = (stack.enter_context(opened_image(x, args)) for x in (args.a, args.b))
            line = stack.enter_context(Told(None, args.quiet, progress.of_reading("both", None)))
            found = compare(a, b, line)
        except MemoryError as error:
            raise InputError("this machine has no memory left to compare them", errno=errno.ENOMEM) from error
        except OSError as error:
            raise failure.of_input(error, f"{failure.shown(args.a)} or {failure.shown(args.b)}") from error
    if args.json:
        say.report(json.dumps({"ok": True, **found.to_dict()}, indent=2))
    elif args.list:
        _list(found)
    elif not args.quiet:
        _print(found, args)
    return status.DONE if found.same else status.FAILED


def _kinds(found: Comparison) -> list[tuple[Ranges, str]]:
    return [
        (found.content, "differ"),
        (found.only_a, "have content in the first alone"),
        (found.only_b, "have content in the second alone"),
        (found.types, "have another type"),
    ]


def _list(found: Comparison) -> None:
    words = ("content", "only-first", "only-second", "type")
    for (ranges, _), word in zip(_kinds(found), words):
        for pfn in ranges.pfns():
            say.report(f"0x{pfn:x} {word}")
            say.check_delivered()


def _print(found: Comparison, args: argparse.Namespace) -> None:
    for ranges, what in _kinds(found):
        if ranges.count:
            shown = ", ".join(_range(x) for x in ranges.ranges[:SHOWN])
            more = f", and {len(ranges.ranges) - SHOWN} more ranges" if len(ranges.ranges) > SHOWN else ""
            say.report(f"{ranges.count} pfns {what}: {shown}{more}")
    for text in found.records:
        say.report(f"differs: {text}")
    verdict = "the same" if found.same else "different"
    frames = f", {found.frames} of them p2m frames with other mfns" if found.frames else ""
    say.report(f"{args.a} and {args.b} are {verdict}; {found.equal} pages are equal{frames}")


def _range(pair: tuple[int, int]) -> str:
    first, last = pair
    return f"0x{first:x}" if first == last else f"0x{first:x}-0x{last:x}"
