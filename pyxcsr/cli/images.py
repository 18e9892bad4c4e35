"""A stream that a command reads as an image: opened with progress, its name put into errors."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from pyxcsr.cli import failure, progress
from pyxcsr.cli.told import Told
from pyxcsr.errors import InputError, StreamError
from pyxcsr.image.memory import MemoryImage


@contextmanager
def opened_image(name: str, args: argparse.Namespace, *, index: bool = True) -> Iterator[MemoryImage]:
    """The image of a stream, which has been read once. Raises as MemoryImage does; InputError for OSError."""
    try:
        with Told(None, getattr(args, "quiet", False), progress.of_reading(failure.shown(name), None)) as line:
            image = MemoryImage(name, tick=line, index=index)
    except OSError as error:
        raise failure.of_input(error, name) from error
    except (StreamError, InputError) as error:
        failure.name_input(error, name, args.words)
        raise
    with image:
        yield image
