"""Contexts without contextlib, which takes a third as long to load as Python itself: see ``plain``.

And what must be done to the end even if somebody presses Ctrl-C once more meanwhile: ``insist``.
"""

from __future__ import annotations

import sys

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack, contextmanager, suppress
    from types import TracebackType
    from typing import Any, Optional

__all__ = ["ExitStack", "contextmanager", "insist", "suppress"]


def insist(work: Callable[[], object]) -> None:
    """Does ``work``. If that is interrupted, as by Ctrl-C, does it once more and raises the interruption then.

    For what must not be left half-done when a guest would stay suspended, or slow. An Exception is no interruption.
    ``work`` may have been done in part, or wholly, when it is called again.
    """
    try:
        work()
    except Exception:
        raise
    except BaseException as interruption:
        try:
            work()
        except Exception as problem:
            raise interruption from problem
        raise


class _ExitStack:
    """Calls, in the end, what was put onto it, the last one first; whatever becomes of one, the others are called."""

    __slots__ = ("_exits",)

    def __init__(self) -> None:
        self._exits: list[Callable[..., Any]] = []

    def enter_context(self, manager: Any) -> Any:
        """Enters it, and will leave it."""
        entered = manager.__enter__()
        self._exits.append(manager.__exit__)
        return entered

    def callback(self, function: Callable[..., Any], *args: Any, **named: Any) -> Callable[..., Any]:
        """Will call the function."""

        def leave(*_error: object) -> None:
            function(*args, **named)

        self._exits.append(leave)
        return function

    def push(self, leave: Callable[..., Any]) -> Callable[..., Any]:
        """Will call it as a context's ``__exit__``: with the error, if there is one."""
        self._exits.append(leave)
        return leave

    def close(self) -> None:
        """Calls everything now."""
        self.__exit__(None, None, None)

    def __enter__(self) -> _ExitStack:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> bool:
        outer = sys.exc_info()[1]
        given, now, raised = error, error, False
        while self._exits:
            leave = self._exits.pop()
            try:
                if leave(None if now is None else type(now), now, None if now is None else now.__traceback__):
                    now, raised = None, False
            except BaseException as new:
                _chain(new, now, outer)
                now, raised = new, True
        if now is not None and raised:
            context = now.__context__
            try:
                raise now
            finally:  # raising it has made the error that this began with its context
                now.__context__ = context
        return given is not None and now is None


def _chain(new: BaseException, before: Optional[BaseException], outer: Optional[BaseException]) -> None:
    """Makes ``before`` what came before ``new``, where Python put ``outer``, which may have been dealt with since."""
    link = new
    while link.__context__ is not None and link.__context__ is not before:
        if link.__context__ is outer:
            link.__context__ = before
            return
        link = link.__context__


class _suppress:  # as contextlib has it
    """A body that may end with one of these errors."""

    __slots__ = ("_kinds",)

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Optional[type[BaseException]], error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


class _GeneratorContext:
    """What is before a generator's one yield, on entering, and on leaving the rest."""

    __slots__ = ("_generator",)

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __enter__(self) -> Any:
        return next(self._generator)

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> bool:
        if error is None:
            for _ in self._generator:
                raise RuntimeError("the generator of a context did not stop")
            return False
        try:
            self._generator.throw(error)
        except StopIteration as end:
            return end is not error  # the generator has dealt with it
        except BaseException as raised:
            if raised is error or (isinstance(error, StopIteration) and raised.__cause__ is error):
                error.__traceback__ = trace
                return False
            raise
        raise RuntimeError("the generator of a context did not stop after an error")


def _contextmanager(function: Callable[..., Any]) -> Callable[..., Any]:
    def manager(*args: Any, **named: Any) -> Any:
        return _GeneratorContext(function(*args, **named))

    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        setattr(manager, name, getattr(function, name))
    manager.__wrapped__ = function  # type: ignore[attr-defined]
    return manager


if not TYPE_CHECKING:
    ExitStack, contextmanager, suppress = _ExitStack, _contextmanager, _suppress
