"""Letting go of what a save or a restore holds: what goes wrong then never hides what went wrong before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Optional


def note(error: BaseException, text: str) -> None:
    """Adds to an error what went wrong besides, on every Python."""
    if hasattr(error, "add_note"):
        error.add_note(text)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}; {text}", *error.args[1:])


def release_by(stack: ExitStack, release: Callable[[], None], warnings: list[str]) -> None:
    """Has the stack call ``release``. Should that fail, it is noted at an earlier error, or warns of a success."""

    def at_exit(kind: object, error: Optional[BaseException], trace: object) -> None:
        try:
            release()
        except Exception as problem:
            if error is not None:
                note(error, f"besides: {problem}")
            else:
                warnings.append(str(problem))

    stack.push(at_exit)
