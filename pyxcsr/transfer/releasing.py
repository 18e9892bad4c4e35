"""Releasing what a save or a restore holds, so that an error in releasing never hides an earlier one."""

from __future__ import annotations

from pyxcsr.errors import note
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import contextmanager, insist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack
    from typing import Optional


def release_by(stack: ExitStack, release: Callable[[], None], warnings: list[str]) -> None:
    """Has the stack call ``release``. If that fails: a note at the earlier error, or a warning if there is none."""

    def at_exit(kind: object, error: Optional[BaseException], trace: object) -> None:
        try:
            insist(release)
        except Exception as problem:
            if error is not None:
                note(error, f"besides: {problem}")
            else:
                warnings.append(str(problem))

    stack.push(at_exit)


@contextmanager
def ended_by(ends: Sequence[Callable[[], None]], warnings: list[str]) -> Iterator[None]:
    """Whatever becomes of the body, calls each of ``ends``, in their order, and those that fail a second time.

    For what must not be left on, such as log-dirty mode: a guest whose writes are tracked for ever is slow for ever.
    What cannot be ended all the same is a note at the body's error, or a warning if there is none. An interruption
    (Ctrl-C) is raised when all has been ended.
    """
    problems: list[str] = []
    try:
        yield
    except BaseException as error:
        try:
            _end_all(ends, problems)
        finally:
            for problem in problems:
                note(error, f"besides: {problem}")
        raise
    try:
        _end_all(ends, problems)
    finally:
        warnings += problems


def _end_all(ends: Sequence[Callable[[], None]], problems: list[str]) -> None:
    """``problems``: gets what could not be ended, in words."""
    if not ends:
        return
    try:
        _end_one(ends[0], problems)
    finally:
        _end_all(ends[1:], problems)


def _end_one(end: Callable[[], None], problems: list[str]) -> None:
    try:
        end()
    except BaseException as error:
        try:
            end()
        except Exception as problem:
            problems.append(str(problem))
        if not isinstance(error, Exception):  # Ctrl-C, for example
            raise
