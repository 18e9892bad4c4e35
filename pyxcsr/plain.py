"""What the package takes from dataclasses and typing, at a price that the save helper's start can bear.

Both take longer to load than Python itself, and dataclasses compiles code for each class: whoever saves a guest would
wait for that at each start. The names here do the same, as far as the package needs it; type checkers are given the
real ones. The classes are still read by the real modules as their own: ``dataclasses.fields``, ``replace`` and
``asdict``, pickle, copy, and ``inspect.signature`` work. ``plain_enum`` and ``plain_contexts`` do this for enum and
contextlib.

It holds for code in which annotations are not evaluated (``from __future__ import annotations``).
"""

from __future__ import annotations

from _operator import itemgetter

TYPE_CHECKING = False
"""As typing's: type checkers take it for True."""

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, field
    from typing import Any, NamedTuple, Protocol, final

__all__ = ["TYPE_CHECKING", "NamedTuple", "Protocol", "dataclass", "field", "final", "late"]

_MISSING: Any = object()


def _final(cls: Any) -> Any:
    """For type checkers: nothing is to be made from this class."""
    return cls


def late(module: str, **makers: Callable[[Any], Any]) -> Callable[[str], Any]:
    """A module's ``__getattr__``, which makes names of types when somebody asks at run time. Each maker gets typing."""

    def __getattr__(name: str) -> Any:
        if name not in makers:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        import sys
        import typing

        value = makers[name](typing)
        setattr(sys.modules[module], name, value)
        return value

    return __getattr__


# -- dataclasses


class _Field:
    """One field of a class as it was declared."""

    __slots__ = ("compare", "default", "factory", "repr", "type")

    def __init__(self, default: Any, factory: Any, compare: bool, repr: bool) -> None:
        self.default, self.factory, self.compare, self.repr = default, factory, compare, repr
        self.type: Any = None

    def real(self) -> Any:
        """The same as dataclasses has it."""
        import dataclasses

        given: dict[str, Any] = {"compare": self.compare, "repr": self.repr}
        if self.default is not _MISSING:
            given["default"] = self.default
        elif self.factory is not _MISSING:
            given["default_factory"] = self.factory
        return dataclasses.field(**given)


def _field(
    *, default: Any = _MISSING, default_factory: Any = _MISSING, compare: bool = True, repr: bool = True
) -> Any:
    return _Field(default, default_factory, compare, repr)


class _AsDataclass:
    """An attribute by which dataclasses knows its own classes, made when it is asked for."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, cls: Any) -> Any:
        import dataclasses

        fields = [(name, one.type, one.real()) for name, one in cls._plain_fields.items()]
        made = dataclasses.make_dataclass(cls.__name__, fields, frozen=cls._plain_frozen)
        for name in ("__dataclass_fields__", "__dataclass_params__"):
            setattr(cls, name, vars(made)[name])
        return vars(made)[self._name]


class _Signature:
    """A class's ``__signature__``, made when it is asked for."""

    __slots__ = ("_parameters",)

    def __init__(self, parameters: Callable[[Any], list[tuple[str, Any, Any]]]) -> None:
        self._parameters = parameters

    def __get__(self, instance: object, cls: Any) -> Any:
        import inspect

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([
            inspect.Parameter(name, kind, annotation=type_, default=inspect.Parameter.empty if x is _MISSING else x)
            for name, type_, x in self._parameters(cls)
        ])


def _parameters_of_fields(cls: Any) -> list[tuple[str, Any, Any]]:
    return [(name, x.type, x.default if x.factory is _MISSING else ...) for name, x in cls._plain_fields.items()]


def _bound(what: str, names: tuple[str, ...], args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """What was given, by name. Raises TypeError as a call does."""
    if len(args) > len(names):
        raise TypeError(f"{what}() takes {len(names)} arguments, but {len(args)} were given")
    values = dict(zip(names, args))
    for name, value in named.items():
        if name not in names:
            raise TypeError(f"{what}() got an unexpected keyword argument {name!r}")
        if name in values:
            raise TypeError(f"{what}() got multiple values for argument {name!r}")
        values[name] = value
    return values


def _missing(what: str, names: list[str]) -> TypeError:
    return TypeError(f"{what}() misses {len(names)} required arguments: {', '.join(map(repr, names))}")


def _init(self: Any, *args: Any, **named: Any) -> None:
    cls = type(self)
    values = self.__dict__
    names = cls.__match_args__
    if named or len(args) > len(names):
        values.update(_bound(cls.__name__, names, args, named))
    else:
        values.update(zip(names, args))
    if len(values) < len(names):
        lacking = [x for x in names if x not in values]
        for name in lacking:
            one = cls._plain_fields[name]
            if one.factory is not _MISSING:
                values[name] = one.factory()
            elif one.default is not _MISSING:
                values[name] = one.default
        if len(values) < len(names):
            raise _missing(cls.__name__, [x for x in lacking if x not in values])
    after = getattr(self, "__post_init__", None)
    if after is not None:
        after()


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, x in self._plain_fields.items() if x.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name, x in self._plain_fields.items() if x.compare)


def _eq(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _frozen(self: Any, name: str, value: object = None) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"{type(self).__name__} cannot be changed: {name!r}")


def _declared(cls: Any) -> dict[str, _Field]:
    """The fields of a class, and of those that it is made from."""
    fields: dict[str, _Field] = {}
    for base in cls.__mro__[-1:0:-1]:
        fields.update(vars(base).get("_plain_fields", ()))
    for name, kind in vars(cls).get("__annotations__", {}).items():
        if str(kind).startswith("ClassVar"):
            continue
        given = vars(cls).get(name, _MISSING)
        one = given if isinstance(given, _Field) else _Field(given, _MISSING, True, True)
        one.type = kind
        fields[name] = one
        if one is given:
            if one.default is _MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, one.default)
    return fields


_SIGNATURE = _Signature(_parameters_of_fields)
_AS_DATACLASS = (_AsDataclass("__dataclass_fields__"), _AsDataclass("__dataclass_params__"))


def _dataclass(cls: Any = None, *, frozen: bool = False, repr: bool = True) -> Any:
    """Gives a class the methods that dataclasses would: these are ready, and go by the class's list of fields."""
    if cls is None:
        return lambda cls: _dataclass(cls, frozen=frozen, repr=repr)
    own = vars(cls)
    fields = _declared(cls)
    cls._plain_fields, cls._plain_frozen, cls.__match_args__ = fields, frozen, tuple(fields)  # type: ignore[misc]
    given: dict[str, Any] = {"__init__": _init, "__eq__": _eq}
    if repr:
        given["__repr__"] = _repr
    for name, method in given.items():
        if name not in own and getattr(cls, name) is not method:  # what a base has been given need not be set anew
            setattr(cls, name, method)
    if "__hash__" not in own or own["__hash__"] is None:
        cls.__hash__ = _hash if frozen else None
    if frozen and cls.__setattr__ is not _frozen:
        cls.__setattr__ = cls.__delattr__ = _frozen
    cls.__signature__, cls.__dataclass_fields__, cls.__dataclass_params__ = _SIGNATURE, *_AS_DATACLASS
    if cls.__doc__ is None:
        cls.__doc__ = f"{cls.__name__}({', '.join(fields)})"
    return cls


# -- typing


class _Protocol:
    """Only what has to be there is written down in such a class: at run time it is a class like others."""

    __slots__ = ()


def _parameters_of_tuple(cls: Any) -> list[tuple[str, Any, Any]]:
    return [(x, cls.__annotations__[x], cls._field_defaults.get(x, _MISSING)) for x in cls._fields]


class _Named(tuple):  # type: ignore[type-arg]
    """The methods of named tuples."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, Any] = {}  # noqa: RUF012  # as typing's has it

    def __new__(cls, *args: Any, **named: Any) -> Any:
        names = cls._fields
        if len(args) == len(names) and not named:
            return tuple.__new__(cls, args)
        values = {**cls._field_defaults, **_bound(cls.__name__, names, args, named)}
        if len(values) < len(names):
            raise _missing(cls.__name__, [x for x in names if x not in values])
        return tuple.__new__(cls, [values[x] for x in names])

    @classmethod
    def _make(cls, values: Any) -> Any:
        return cls(*values)

    def _replace(self, **named: Any) -> Any:
        return type(self)(**{**self._asdict(), **named})

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{x}={y!r}' for x, y in zip(self._fields, self))})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


class _NamedMeta(type):
    """Makes a tuple's class of one that lists fields."""

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        if not bases:
            return super().__new__(cls, name, bases, space)
        names = tuple(space.get("__annotations__", ()))
        space["_field_defaults"] = {x: space[x] for x in names if x in space}
        space.update((x, property(itemgetter(i))) for i, x in enumerate(names))
        space["_fields"] = space["__match_args__"] = names
        space["__slots__"] = ()
        space["__signature__"] = _Signature(_parameters_of_tuple)
        return type(name, (_Named,), space)


class _NamedTuple(metaclass=_NamedMeta):
    """What typing's NamedTuple is to its classes: they name it as their base, and get another one."""


if not TYPE_CHECKING:
    dataclass, field, final, NamedTuple, Protocol = _dataclass, _field, _final, _NamedTuple, _Protocol
