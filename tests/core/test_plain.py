"""Dataclasses without generated code, against the standard library's of the same text."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, ClassVar, Optional

import pytest

from pyxcsr import plain
from pyxcsr.report import PassReport, SaveReport

Decorate = Callable[..., Any]
BOTH: list[Any] = [
    pytest.param((plain.dataclass, plain.field), id="plain"),
    pytest.param((dataclasses.dataclass, dataclasses.field), id="standard"),
]


def classes(kind: tuple[Decorate, Any]) -> tuple[Any, Any, Any]:
    dataclass, field = kind

    class Base:
        NUMBER: ClassVar[int] = 7
        offset: Optional[int] = None

    @dataclass(frozen=True)
    class Frozen(Base):
        KIND: ClassVar[str] = "x"
        a: int
        b: str = "b"

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("negative")

    @dataclass
    class Open:
        first: int
        many: list[int] = field(default_factory=list)
        last: float = 0.5

        @property
        def double(self) -> int:
            return 2 * self.first

    @dataclass
    class Longer(Open):
        extra: int = 3

    return Frozen, Open, Longer


@pytest.mark.parametrize("kind", BOTH)
def test_they_are_made_and_compared_alike(kind: tuple[Decorate, Any]) -> None:
    frozen, opened, longer = classes(kind)
    assert (frozen(1).a, frozen(1).b, frozen(1, "c").b, frozen(b="d", a=2).b) == (1, "b", "c", "d")
    assert frozen(1) == frozen(1, "b") != frozen(2) and hash(frozen(1)) == hash(frozen(1, "b"))
    assert frozen(1).__eq__(3) is NotImplemented and frozen(1) != 3
    assert repr(frozen(1)).endswith("Frozen(a=1, b='b')")
    one, two = opened(1), opened(1)
    assert one == two and one.many is not two.many and one.double == 2
    one.first = 9
    assert one != two
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    assert longer(1, [2], 0.25, 4).extra == 4 and longer(1).last == 0.5 and longer(1) != opened(1)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, "b", 3), {}), ((1,), {"a": 1}), ((1,), {"c": 1}), ((), {"b": "x"})]
)
def test_wrong_arguments_are_refused(kind: tuple[Decorate, Any], args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError):
        classes(kind)[0](*args, **kwargs)


@pytest.mark.parametrize("kind", BOTH)
def test_frozen_and_checked(kind: tuple[Decorate, Any]) -> None:
    frozen = classes(kind)[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen(1).a = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del frozen(1).a
    with pytest.raises(ValueError, match="negative"):
        frozen(-1)


@pytest.mark.parametrize("kind", BOTH)
def test_the_standard_library_knows_them(kind: tuple[Decorate, Any]) -> None:
    frozen, opened, longer = classes(kind)
    assert [x.name for x in dataclasses.fields(longer)] == ["first", "many", "last", "extra"]
    assert [x.name for x in dataclasses.fields(frozen(1))] == ["a", "b"]
    assert dataclasses.is_dataclass(opened)
    assert dataclasses.asdict(opened(1, [2])) == {"first": 1, "many": [2], "last": 0.5}
    assert dataclasses.replace(frozen(1), b="z") == frozen(1, "z")
    assert frozen.__match_args__ == ("a", "b")
    assert copy.deepcopy(opened(1, [2])) == opened(1, [2])

    @dataclasses.dataclass(frozen=True)
    class More(frozen):  # type: ignore[misc, valid-type]
        c: int = 1

    assert More(1, "b", 2).c == 2 and [x.name for x in dataclasses.fields(More)] == ["a", "b", "c"]


def test_reports_are_copied_and_pickled() -> None:
    report = SaveReport(1, True, 2, 3, 4)
    report.passes.append(PassReport(0, False, 5, pages=6))
    assert pickle.loads(pickle.dumps(report)) == report == copy.deepcopy(report)
    assert report.to_dict()["passes"][0]["pages"] == 6 and SaveReport(1, True, 2, 3, 4).passes == []
