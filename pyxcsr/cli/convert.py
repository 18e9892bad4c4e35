"""``pyxcsr convert IN OUT``: takes a libxc stream out of a libxl stream or an xl save file, or puts it into one."""

from __future__ import annotations

import os
import select
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Union

from pyxcsr.cli import failure, say, status
from pyxcsr.cli.output import is_input, is_standard_output, stream_output
from pyxcsr.cli.signals import ended_by_signals
from pyxcsr.container.checkpoints import convert_checkpoint, count
from pyxcsr.container.copy import GUESTS, Conversion, convert
from pyxcsr.container.reader import OUTPUTS, Kind
from pyxcsr.container.xlconfig import read_config
from pyxcsr.errors import InputError, NotAStream, OutputError, StreamError, UsageError, untouched_so_far
from pyxcsr.stream.compressed import plain
from pyxcsr.stream.source import open_input

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Takes the libxc stream out of a libxl stream, an xl or libvirt save file, or a XenServer suspend image (the "
        "default if IN is one), or puts a "
        "libxc stream into one. An xl save file needs the guest's configuration. An HVM guest's libxc stream cannot "
        "be put into a container, since it lacks the device model's state."
    )
    add = parser.add_argument
    add("input", metavar="IN", help="what to convert, or - for standard input")
    add("file", metavar="OUT", help="where to; - is standard output")
    add("--to", choices=[kind.value for kind in OUTPUTS], help="what OUT is to be (default: libxc, out of a container)")
    add(
        "--config",
        metavar="JSON",
        help="the guest's configuration, for --to xl: a file with the JSON that libxl keeps, or an xl save file",
    )
    add(
        "--checkpoint",
        metavar="N|last",
        help="of a checkpointed stream (Remus): write its Nth checkpoint, or the last whole one, as a plain stream "
        "(last: IN must be a file)",
    )
    add("--force", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    to = Kind(args.to) if args.to else None
    config = read_config(args.config) if args.config else None
    if args.checkpoint is not None and config is not None:
        raise UsageError("--config and --checkpoint do not go together: take the checkpoint out first")
    try:
        with ended_by_signals(), ExitStack() as stack:
            try:
                fd = stack.enter_context(open_input(args.input))
            except OSError as error:
                return failure.unreadable(error, args.input, args)
            with untouched_so_far():
                replaced = os.path.isfile(args.file) and not is_standard_output(args.file)  # once all is read
                if is_input(args.file, fd) and not replaced:
                    raise UsageError(f"{args.file}: this is the input, and would be overwritten: name another place")
                number = checkpoint_number(args.checkpoint, fd) if args.checkpoint else None
                out = stack.enter_context(stream_output(args.file, args.force))
                inside = stack.enter_context(plain(fd, cut=lambda text: number is not None and _noted(text)))
            if number is not None:
                done = convert_checkpoint(inside, Output(out).put, number, to)
            else:
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


def _noted(text: str) -> bool:
    """Says that the compressed input is cut off, as that of a checkpointed stream may be: its sender has died."""
    say.note(f"note: {text}")
    return True


def checkpoint_number(text: str, fd: int) -> int:
    """Which checkpoint is meant. ``fd``: the input, whose checkpoints are counted for "last". Raises UsageError."""
    if text != "last":
        if not (text.isascii() and text.isdigit()) or not 0 < int(text[:20]) < 1 << 32:
            raise UsageError(f"--checkpoint is {text!r}, not a number from 1 on and not last")
        return int(text)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise UsageError("--checkpoint last: the input is read twice, and must be a file; or give a number")
    start = os.lseek(fd, 0, os.SEEK_CUR)
    found = 0
    with plain(fd, cut=lambda text: found > 0) as inside:  # the input is read again, and then it is told
        found = count(inside)
    os.lseek(fd, start, os.SEEK_SET)
    if not found:
        raise UsageError("there is no whole checkpoint in the input: --checkpoint is for checkpointed streams")
    return found


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
    text = f"{name}: {done.to.words} of {GUESTS[done.guest]} guest, {done.bytes} bytes, from {done.source.an}"
    say.report(text, beside=is_standard_output(name))
    if done.after_end is not None:
        say.note(f"note: {done.after_end.text}")
    if done.left_out:
        say.note(
            f"note: {done.left_out} bytes of the device model's state were left out; without them the guest "
            "cannot be restored by libxl"
        )
