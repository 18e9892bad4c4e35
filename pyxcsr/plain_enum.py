"""Enumerations without enum, which takes nearly half as long to load as Python itself: see ``plain``.

Names, values, order, ``Class(value)``, ``Class[name]``, ``in``, repr, copies and pickles are as enum has them, and
nothing can be changed. Only ``isinstance(x, enum.Enum)`` is False. There are no aliases, flags or functional calls.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import Enum, IntEnum
    from typing import Any

__all__ = ["Enum", "IntEnum"]


class _EnumMeta(type):
    """A class whose public values become its members."""

    _members: dict[str, Any]
    _value2member_map_: dict[Any, Any]

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        values = {x: y for x, y in space.items() if x[0] != "_" and not hasattr(type(y), "__get__")}
        made = super().__new__(cls, name, bases, {x: y for x, y in space.items() if x not in values})
        members: dict[str, Any] = {}
        for word, value in values.items():
            member = int.__new__(made, value) if issubclass(made, int) else object.__new__(made)
            member.__dict__.update(_name_=word, _value_=value, name=word, value=value)
            type.__setattr__(made, word, member)
            members[word] = member
        type.__setattr__(made, "_members", members)
        type.__setattr__(made, "_value2member_map_", {x.value: x for x in members.values()})
        return made

    @property
    def __members__(cls) -> dict[str, Any]:
        return dict(cls._members)

    def __call__(cls, value: Any) -> Any:
        found = cls._value2member_map_.get(value)
        if found is None:
            raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")
        return found

    def __iter__(cls) -> Iterator[Any]:
        return iter(cls._members.values())

    def __len__(cls) -> int:
        return len(cls._members)

    def __getitem__(cls, name: str) -> Any:
        return cls._members[name]

    def __contains__(cls, value: object) -> bool:
        return isinstance(value, cls) or value in cls._value2member_map_

    def __setattr__(cls, name: str, value: object) -> None:
        if name in cls._members:
            raise AttributeError(f"{cls.__qualname__}.{name} cannot be changed")
        type.__setattr__(cls, name, value)

    def __delattr__(cls, name: str) -> None:
        if name in cls._members:
            raise AttributeError(f"{cls.__qualname__}.{name} cannot be deleted")
        type.__delattr__(cls, name)


class _Enum(metaclass=_EnumMeta):
    """Members are the only objects of their class."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self._name_}: {self._value_!r}>"  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._name_}"  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self} cannot be changed: {name!r}")

    def __hash__(self) -> int:
        return hash(self._name_)  # type: ignore[attr-defined]

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return type(self), (self._value_,)  # type: ignore[attr-defined]

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, _memo: Any) -> Any:
        return self


class _IntEnum(int, _Enum):
    """Members are numbers, too."""

    __repr__ = _Enum.__repr__
    __str__ = int.__repr__
    __hash__ = int.__hash__


if not TYPE_CHECKING:
    Enum, IntEnum = _Enum, _IntEnum
