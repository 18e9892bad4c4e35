"""``pyxcsr dump STREAM OUT``: a saved guest's memory as a file that crash, gdb, Volatility and others read."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import ExitStack

from pyxcsr.cli import failure, progress, say, status
from pyxcsr.cli.output import is_input, is_standard_output, stream_output
from pyxcsr.cli.show import MIB
from pyxcsr.cli.signals import ended_by_signals
from pyxcsr.cli.told import Told
from pyxcsr.errors import InputError, NotAStream, StreamError, UsageError, untouched_so_far
from pyxcsr.image.dump import Dumped, Format, dump
from pyxcsr.stream.source import open_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Writes the memory that a complete stream leaves behind. elf is Xen's dump-core format, as of `xl dump-core`, "
        "which crash, gdb and Volatility read; raw has each page at its address, with holes where there is none; lime "
        "has ranges of addresses. STREAM may be a libxc stream, a libxl stream or an xl save file, and compressed."
    )
    parser.epilog = status.explained("dumped", "failed: there is no OUT", "cannot be done as asked, there is no OUT")
    add = parser.add_argument
    add("stream", metavar="STREAM", help="the stream, or - for standard input")
    add("file", metavar="OUT", help="the file to be written; it has its name only once it is complete")
    add("--format", choices=[x.value for x in Format], default=Format.ELF.value, help="what OUT is to be (elf)")
    add("--force", action="store_true", help="replace OUT if it exists")
    add("--json", action="store_true", help="print the report, or the error, as JSON")
    add("--progress", action=argparse.BooleanOptionalAction, default=None, help="show progress on standard error")
    add("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    if is_standard_output(args.file) or (os.path.exists(args.file) and not os.path.isfile(args.file)):
        raise UsageError(f"{args.file}: a dump is written with holes, and into a file only")
    folder = os.path.dirname(os.path.realpath(args.file))
    with ended_by_signals(), ExitStack() as stack:
        try:
            fd = stack.enter_context(open_input(args.stream))
        except OSError as error:
            return failure.unreadable(error, args.stream, args)
        try:
            with untouched_so_far():
                if is_input(args.file, fd):
                    raise UsageError(f"{args.file}: this is the saved guest itself, which its dump would replace")
                out = stack.enter_context(stream_output(args.file, args.force))
            line = stack.enter_context(_told(args, fd))
            done = dump(fd, out, Format(args.format), folder=folder, tick=line)
            stack.close()  # the file gets its name
        except (StreamError, InputError) as error:
            error.untouched = isinstance(error, NotAStream)
            failure.name_input(error, args.stream, args.words)
            raise
    _report(args, done)
    return status.DONE


def _told(args: argparse.Namespace, fd: int) -> Told:
    name = f"{failure.shown(args.stream)} into {args.file}"
    return Told(None if args.quiet else args.progress, args.quiet, progress.of_reading(name, None))


def _report(args: argparse.Namespace, done: Dumped) -> None:
    types = {kind.name: count for kind, count in done.types.items()}
    if args.json:
        document = {"ok": True, **done._asdict(), "types": types, "format": args.format}
        say.report(json.dumps(document, indent=2))
        return
    if args.quiet:
        return
    counts = ", ".join(f"{count} {name}" for name, count in types.items())
    size = f"{done.pages} pages, {done.size / MIB:.1f} MiB"
    say.report(f"{args.file}: {args.format}, {done.kind} guest, {size}; {counts}")
    if done.unknown:
        say.note(f"note: {done.unknown} times a page table or a context names a pfn without a frame in the guest's p2m")
