"""Releasing what a save or a restore holds, so that an error in releasing never hides an earlier one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Optional


def note(error: BaseException, text: str) -> None:
    """Adds to an error what else went wrong, on every Python."""
    if hasattr(error, "add_note"):
        error.add_note(text)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}; {text}", *error.args[1:])


def release_by(stack: ExitStack, release: Callable[[], None], warnings: list[str]) -> None:
    """Has the stack call ``release``. If that fails: a note at the earlier error, or a warning if there is none."""

    def at_exit(kind: object, error: Optional[BaseException], trace: object) -> None:
        try:
            release()
        except Exception as problem:
            if error is not None:
                note(error, f"besides: {problem}")
            else:
                warnings.append(str(problem))

    stack.push(at_exit)
