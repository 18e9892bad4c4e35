"""``pyxcsr stats STREAM``: zero pages, duplicates, entropy, and what compression would bring."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack

from pyxcsr.cli import progress, say, status
from pyxcsr.cli.images import opened_image
from pyxcsr.cli.show import MIB
from pyxcsr.cli.told import Told
from pyxcsr.errors import untouched_so_far
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.image.stats import Stats, stats

BAR = 40
"""Characters of the longest bar."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Reads what a stream leaves behind, each page as it is in the end, and tells how many pages are zero, how many "
        "are there more than once, how much information their bytes hold, and what zstd -1 would make of them. Entropy "
        "and compression are measured on a sample of a large guest."
    )
    parser.epilog = status.explained("done", "failed", "the stream cannot be read")
    parser.add_argument("stream", metavar="STREAM", help="the stream, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    with untouched_so_far(), ExitStack() as stack:
        image = stack.enter_context(opened_image(args.stream, args))
        line = stack.enter_context(Told(None, False, progress.of_reading(args.stream, None)))
        found = stats(image, line)
    if args.json:
        say.report(json.dumps({"ok": True, **found.to_dict()}, indent=2))
    else:
        _print(found)
    return status.DONE


def _print(found: Stats) -> None:
    size = found.pages * PAGE_SIZE / MIB
    say.report(f"{found.kind} guest, {found.pages} pages, {size:.1f} MiB; " + _listed(found.types))
    say.report(f"zero pages: {_share(found.zero, found.pages)}")
    say.report(f"duplicates, beside zero pages: {_share(found.duplicates, found.pages)}")
    say.report(f"entropy, bits a byte, of {found.entropy_pages} pages:")
    longest = max([*found.entropy, 1])
    for bits, count in enumerate(found.entropy):
        say.report(f"  {bits} to {bits + 1} {count:>8} {'#' * (count * BAR // longest)}".rstrip())
    if found.sampled is None or found.compressed is None:
        say.report("compression: not measured, the program zstd is not installed (apt-get install zstd) or has failed")
    elif found.sampled:
        text = f"{found.sampled / MIB:.1f} MiB become {found.compressed / MIB:.1f} MiB"
        say.report(f"zstd -1: {text}, {100 * found.compressed / found.sampled:.1f} %")


def _listed(types: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in types.items())


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / max(total, 1):.1f} %)"
