"""``pyxcsr index FILE``: leaves FILE.pyxcsr-index, by which compare, stats and MemoryImage find each page at once."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress

from pyxcsr.cli import say, status
from pyxcsr.cli.images import opened_image
from pyxcsr.cli.output import stream_output
from pyxcsr.cli.signals import ended_by_signals
from pyxcsr.errors import UsageError, untouched_so_far
from pyxcsr.image import beside
from pyxcsr.image.spool import put
from pyxcsr.stream.compressed import HEAD, compression_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Reads a stream once, but for its pages, and keeps beside it where each page stands. The index is used only "
        "while the file has the size, the time of change, the beginning and the end that it had then; it can be "
        "removed at any time. FILE cannot be compressed, because in such a file nothing can be found."
    )
    parser.epilog = status.explained("done", "failed", "there can be no index, and none was written")
    parser.add_argument("file", metavar="FILE", help="a libxc stream, a libxl stream or an xl save file")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    with ended_by_signals():
        with untouched_so_far():
            _check(args.file)
            with opened_image(args.file, args, index=False) as image:
                data = beside.encode(image.fd, image.began, image.map, image.contents)
                nr_pages = image.map.nr_with_content()
        name = beside.beside(args.file)
        with stream_output(name, force=True) as out:
            put(out, data, 0)
    if not args.quiet:
        say.report(f"{name}: {nr_pages} pages, {len(data)} bytes")
    return status.DONE


def _check(name: str) -> None:
    """Raises UsageError for what there can be no index of. What cannot be read is left to the reader to say."""
    if name == "-" or (os.path.exists(name) and not os.path.isfile(name)):
        raise UsageError(f"{name}: an index is kept beside a file, and this is none")
    with suppress(OSError), open(name, "rb") as file:
        if compression_of(file.read(HEAD)):
            raise UsageError(f"{name}: it is compressed, and in such a file nothing can be found at once")
