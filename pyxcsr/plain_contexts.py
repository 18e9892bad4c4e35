"""Contexts without contextlib, which takes a third as long to load as Python itself: see ``plain``."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack, contextmanager, suppress
    from types import TracebackType
    from typing import Any, Optional

__all__ = ["ExitStack", "contextmanager", "suppress"]


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
        if not self._exits:
            return False
        try:
            handled = bool(self._exits.pop()(kind, error, trace))
        except BaseException as new:
            if self.__exit__(type(new), new, new.__traceback__):
                return True
            raise
        if handled:
            self.__exit__(None, None, None)
            return True
        return self.__exit__(kind, error, trace)


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
