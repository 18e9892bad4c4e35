"""An error in words and as JSON, for a command's user."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyxcsr.cli import say, status
from pyxcsr.errors import InputError, XcsrError
from pyxcsr.stream.sniff import TO_STANDARD_INPUT

REPORT_IT = (
    "this is a bug in pyxcsr, not something that you did. Please report it to the maintainers, with the command, "
    "the releases of pyxcsr and Xen, and what follows"
)


def as_dict(error: BaseException) -> dict[str, Any]:
    """For JSON: the error's class, its text, its facts and the notes that others have put on it."""
    facts = dict(error.facts) if isinstance(error, XcsrError) else {"errno": getattr(error, "errno", None)}
    return {
        "ok": False,
        "error": {
            "class": type(error).__name__,
            "message": str(error),
            "facts": facts,
            "notes": list(getattr(error, "__notes__", ())),
        },
    }


def tell(error: BaseException, *, as_json: bool, beside: bool) -> None:
    """Says what went wrong, on standard error; with ``as_json`` as a report, too.

    ``beside``: reports go to standard error, where only the JSON is written then.
    """
    if as_json:
        say.report(json.dumps(as_dict(error), indent=2, default=_plain), beside=beside)
    if as_json and beside:
        return
    say.note(str(error))
    for text in getattr(error, "__notes__", ()):
        say.note(text)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def tell_bug(error: BaseException) -> None:
    """A traceback, under a line that says what it is."""
    say.note(f"{REPORT_IT}:\n" + "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())


def of_system(error: OSError) -> XcsrError:
    """An error of the operating system that no command has put into better words."""
    name = error.filename if isinstance(error.filename, (str, bytes)) else None
    where = f"{os.fsdecode(name)}: " if name else ""
    return XcsrError(f"{where}{error.strerror or error}", errno=error.errno or 0)


def shown(name: str) -> str:
    """An input's name for a person."""
    return "standard input" if name == "-" else name or "''"


def of_input(error: OSError, name: str) -> InputError:
    """What the operating system says of an input."""
    return InputError(f"{shown(name)}: {error.strerror or error}", errno=error.errno or 0, offset=0)


@contextmanager
def input_named(name: str) -> Iterator[None]:
    """What the operating system says within is of this input. Raises InputError for it."""
    try:
        yield
    except OSError as error:
        raise of_input(error, name) from error


def unreadable(error: OSError, name: str, args: argparse.Namespace) -> int:
    """Says that the input cannot be opened, ahead of any work. Returns the exit status."""
    problem = of_input(error, name)
    tell(problem, as_json=getattr(args, "json", False), beside=False)
    return status.UNUSABLE


def name_input(error: XcsrError, name: str, words: list[str]) -> None:
    """Puts the input's name ahead of the error's text, and what the user typed into its advice.

    ``words``: the command line from the command's name on.
    """
    text = str(error)
    if TO_STANDARD_INPUT in text:
        again = " ".join(shlex.quote("-" if x == name else x) for x in words)
        text = text.replace(TO_STANDARD_INPUT, f"{shlex.quote(name)} | pyxcsr {again}")
    if not text.startswith(f"{shown(name)}:"):
        text = f"{shown(name)}: {text}"
    error.args = (text, *error.args[1:])
