"""``pyxcsr convert IN OUT``: takes a libxc stream out of a libxl stream or an xl save file, or puts it into one."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack
from typing import TYPE_CHECKING, Union

from pyxcsr.cli import failure, say, status
from pyxcsr.cli.output import is_standard_output, stream_output
from pyxcsr.cli.signals import ended_by_signals
from pyxcsr.container.copy import GUESTS, Conversion, convert
from pyxcsr.container.reader import Kind
from pyxcsr.container.xlconfig import read_config
from pyxcsr.errors import InputError, NotAStream, OutputError, StreamError, untouched_so_far
from pyxcsr.stream.compressed import plain
from pyxcsr.stream.source import open_input

if TYPE_CHECKING:
    import argparse

_WHAT = {Kind.LIBXC: "libxc stream", Kind.LIBXL: "libxl stream", Kind.XL: "xl save file"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Takes the libxc stream out of a libxl stream or an xl save file (the default if IN is one), or puts a "
        "libxc stream into one. An xl save file needs the guest's configuration. An HVM guest's libxc stream cannot "
        "be put into a container, since it lacks the device model's state."
    )
    add = parser.add_argument
    add("input", metavar="IN", help="what to convert, or - for standard input")
    add("file", metavar="OUT", help="where to; - is standard output")
    add("--to", choices=[kind.value for kind in Kind], help="what OUT is to be (default: libxc, out of a container)")
    add(
        "--config",
        metavar="JSON",
        help="the guest's configuration, for --to xl: a file with the JSON that libxl keeps, or an xl save file",
    )
    add("--force", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    to = Kind(args.to) if args.to else None
    config = read_config(args.config) if args.config else None
    try:
        with ended_by_signals(), ExitStack() as stack:
            try:
                fd = stack.enter_context(open_input(args.input))
            except OSError as error:
                return failure.unreadable(error, args.input, args)
            with untouched_so_far():
                out = stack.enter_context(stream_output(args.file, args.force))
                inside = stack.enter_context(plain(fd))
            done = convert(inside, Output(out).put, to=to, config=config)
    except OSError as error:
        raise failure.of_input(error, args.input) from error
    except InputError as error:
        failure.name_input(error, args.input, args.words)
        raise
    except StreamError as error:
        error.untouched = isinstance(error, NotAStream)  # which is known before anything has been written
        failure.name_input(error, args.input, args.words)
        raise
    _report(args.file, done)
    return status.DONE


class Output:
    """A descriptor that takes everything it is given, however slowly."""

    def __init__(self, fd: int) -> None:
        self._fd, self._offset = fd, 0

    def put(self, data: Union[bytes, memoryview]) -> None:
        """Writes all of it. Raises OutputError."""
        view = memoryview(data)
        while view:
            try:
                done = os.write(self._fd, view)
            except BlockingIOError:  # somebody else's descriptor in non-blocking mode: it is waited for
                select.select([], [self._fd], [])
                continue
            except OSError as error:
                text = f"cannot write: {error.strerror}"
                raise OutputError(text, errno=error.errno or 0, offset=self._offset) from error
            view = view[done:]
            self._offset += done


def _report(name: str, done: Conversion) -> None:
    source = f"{'an' if done.source is Kind.XL else 'a'} {_WHAT[done.source]}"
    text = f"{name}: {_WHAT[done.to]} of {GUESTS[done.guest]} guest, {done.bytes} bytes, from {source}"
    say.report(text, beside=is_standard_output(name))
    if done.after_end is not None:
        say.note(f"note: {done.after_end.text}")
    if done.left_out:
        say.note(
            f"note: {done.left_out} bytes of the device model's state were left out; without them the guest "
            "cannot be restored by libxl"
        )
