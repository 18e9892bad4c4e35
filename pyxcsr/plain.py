"""Dataclasses that cost next to nothing to define.

``dataclass`` and ``field`` mean what the standard library's mean, as far as they are used here, but no code is
generated and compiled for them: that takes half a millisecond a class, and programs that a suspended guest waits for,
or a user of ``xl``, would spend most of their start on it. What the standard library knows of dataclasses
(``dataclasses.fields``, ``asdict``, ``replace``, subclasses made by its decorator) works with these, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

__all__ = ["dataclass", "field"]


class _Factory:
    """The default of a field that needs a new one for each object."""

    def __init__(self, *, default_factory: Callable[[], Any]) -> None:
        self.default_factory = default_factory


if TYPE_CHECKING:
    from dataclasses import dataclass, field
else:
    field = _Factory

    def dataclass(cls: Optional[type] = None, *, frozen: bool = False) -> Any:
        """See ``dataclasses.dataclass``; annotations must be strings (``from __future__ import annotations``)."""
        if cls is None:
            return lambda later: dataclass(later, frozen=frozen)
        plain = _Plain(cls, frozen)
        members = {"__init__": plain.make_init(), "__repr__": _repr, "__eq__": _eq, "__match_args__": plain.names}
        members["__hash__"] = _hash if frozen else None
        if frozen:
            members["__setattr__"], members["__delattr__"] = _refuse_set, _refuse_delete
        members["_plain_names"], members["_plain_defaults"] = plain.names, plain.defaults
        for name, value in members.items():
            if name not in cls.__dict__ or name == "__hash__":
                setattr(cls, name, value)
        for name in ("__dataclass_fields__", "__dataclass_params__"):
            setattr(cls, name, _OfTheStandardLibrary(plain, name))
        return cls


class _Plain:
    """What is known of a class: its fields' names in order, and their defaults."""

    def __init__(self, cls: type, frozen: bool) -> None:
        self.cls, self.frozen = cls, frozen
        own = vars(cls).get("__annotations__") or (cls.__annotations__ if sys.version_info >= (3, 10) else {})
        self.annotations: dict[str, Any] = {k: v for k, v in own.items() if not v.startswith("ClassVar")}
        self.defaults: dict[str, Any] = {}
        inherited: dict[str, None] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited.update(dict.fromkeys(base.__dict__.get("_plain_names", ())))
            self.defaults.update(base.__dict__.get("_plain_defaults", {}))
        self.names = tuple({**inherited, **self.annotations})
        for name in self.annotations:
            if name in cls.__dict__:
                self.defaults[name] = cls.__dict__[name]
                if isinstance(self.defaults[name], _Factory):
                    delattr(cls, name)

    def make_init(self) -> Any:
        """The class's ``__init__``."""
        names, count, fill = self.names, len(self.names), self._fill

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            if kwargs or len(args) != count:
                args = fill(args, kwargs)
            self.__dict__.update(zip(names, args))

        def init_and_check(self: Any, *args: Any, **kwargs: Any) -> None:
            __init__(self, *args, **kwargs)
            self.__post_init__()

        return init_and_check if hasattr(self.cls, "__post_init__") else __init__

    def _fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All fields' values in order. Raises TypeError as a function with these parameters would."""
        if len(args) > len(self.names):
            raise TypeError(f"{self.cls.__name__} takes {len(self.names)} values, not {len(args)}")
        given = dict(zip(self.names, args))
        for name, value in kwargs.items():
            if name in given or name not in self.names:
                wrong = "twice" if name in given else "which is no field"
                raise TypeError(f"{self.cls.__name__} got {name!r}, {wrong}")
            given[name] = value
        return tuple(given[x] if x in given else self._default(x) for x in self.names)

    def _default(self, name: str) -> Any:
        if name not in self.defaults:
            raise TypeError(f"{self.cls.__name__} needs a value for {name!r}")
        value = self.defaults[name]
        return value.default_factory() if isinstance(value, _Factory) else value

    def standard(self) -> type:
        """A dataclass of the standard library with the same fields."""
        import dataclasses

        members: dict[str, Any] = {"__annotations__": {x: self.annotations.get(x, "Any") for x in self.names}}
        for name, value in self.defaults.items():
            is_made = isinstance(value, _Factory)
            members[name] = dataclasses.field(default_factory=value.default_factory) if is_made else value
        return dataclasses.dataclass(frozen=self.frozen)(type(self.cls.__name__, (), members))


class _OfTheStandardLibrary:
    """An attribute that the standard library looks for, made when it does."""

    def __init__(self, plain: _Plain, name: str) -> None:
        self._plain, self._name = plain, name

    def __get__(self, obj: object, owner: type) -> Any:
        value = getattr(self._plain.standard(), self._name)
        setattr(self._plain.cls, self._name, value)
        return value


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, x) for x in self._plain_names)


def _repr(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(f'{x}={getattr(self, x)!r}' for x in self._plain_names)})"


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse_set(self: object, name: str, value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: object, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")
