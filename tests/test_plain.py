"""The plain classes beside the real ones: whatever the package's own plain classes are asked, both answer alike."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import inspect
import pickle
import subprocess
import sys
import typing
from typing import Any, Callable

import pytest

import pyxcsr
from pyxcsr import plain, plain_contexts, plain_enum
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.names import BACKENDS
from pyxcsr.limits import words
from pyxcsr.policy import P2M_CHANGES


def made(dataclass: Any, field: Any) -> dict[str, Any]:
    """The same classes by one of the two."""

    @dataclass(frozen=True)
    class Frozen:
        """Documented."""

        first: int
        second: str = "two"
        hidden: Any = field(default=None, compare=False, repr=False)

    @dataclass
    class Open:
        number: int
        items: list[int] = field(default_factory=list)

    @dataclass(frozen=True)
    class Derived(Frozen):
        third: float = 3.0

    @dataclass
    class Checked:
        number: int = 0

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

    return {"Frozen": Frozen, "Open": Open, "Derived": Derived, "Checked": Checked}


REAL, PLAIN = made(dataclasses.dataclass, dataclasses.field), made(plain.dataclass, plain.field)
BOTH: list[dict[str, Any]] = [REAL, PLAIN]


def answer(question: Callable[..., object], *args: Any) -> object:
    """What is answered, or the kind of error."""
    try:
        return question(*args)
    except Exception as error:
        return type(error)


CALLS: list[Callable[[dict[str, Any]], object]] = [
    lambda by: repr(by["Frozen"](1)).rpartition(".")[2],
    lambda by: repr(by["Derived"](1, third=2.0)).rpartition(".")[2],
    lambda by: by["Frozen"](1) == by["Frozen"](1, hidden=5),
    lambda by: by["Frozen"](1) == by["Frozen"](2),
    lambda by: by["Frozen"](1) == by["Derived"](1),
    lambda by: by["Frozen"](1) == 1,
    lambda by: hash(by["Frozen"](1)) == hash(by["Frozen"](1, hidden=5)),
    lambda by: hash(by["Open"](1)),
    lambda by: by["Frozen"](),
    lambda by: by["Frozen"](1, 2, 3, 4),
    lambda by: by["Frozen"](1, first=1),
    lambda by: by["Frozen"](1, other=1),
    lambda by: setattr(by["Frozen"](1), "first", 2),
    lambda by: delattr(by["Frozen"](1), "first"),
    lambda by: by["Open"](1).items is by["Open"](1).items,
    lambda by: by["Open"].items,
    lambda by: by["Frozen"].second,
    lambda by: by["Checked"](-1),
    lambda by: [(x.name, x.type, x.compare, x.repr) for x in dataclasses.fields(by["Derived"])],
    lambda by: dataclasses.asdict(by["Open"](1, [2])),
    lambda by: dataclasses.replace(by["Derived"](1), third=5.0).third,
    lambda by: dataclasses.is_dataclass(by["Open"]),
    lambda by: vars(copy.deepcopy(by["Derived"](1, "x"))),
    lambda by: [str(x) for x in inspect.signature(by["Derived"]).parameters.values()],
    lambda by: by["Derived"].__match_args__,
    lambda by: by["Frozen"].__doc__,
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_a_plain_class_answers_as_a_dataclass(number: int) -> None:
    real, ours = (answer(CALLS[number], by) for by in BOTH)
    assert ours == real and (real is not TypeError or number in (7, 8, 9, 10, 11))


def test_a_real_dataclass_can_be_made_of_a_plain_one() -> None:
    base: Any = PLAIN["Frozen"]

    @dataclasses.dataclass(frozen=True)
    class More(base):  # type: ignore[misc]
        more: int = 4

    assert dataclasses.asdict(More(1)) == {"first": 1, "second": "two", "hidden": None, "more": 4}


class RealPair(typing.NamedTuple):
    left: int
    right: str = "r"

    def both(self) -> str:
        return f"{self.left}{self.right}"


class PlainPair(plain.NamedTuple):
    left: int
    right: str = "r"

    def both(self) -> str:
        return f"{self.left}{self.right}"


TUPLES: list[Callable[[Any], object]] = [
    lambda cls: repr(cls(1)).partition("(")[2],
    lambda cls: tuple(cls(1, right="x")),
    lambda cls: cls(1) == (1, "r"),
    lambda cls: cls(1).both(),
    lambda cls: cls(1)._replace(right="y").right,
    lambda cls: cls(1)._replace(other="y"),
    lambda cls: cls(1)._asdict(),
    lambda cls: cls._make([1, "z"]).right,
    lambda cls: (cls._fields, cls._field_defaults, cls.__match_args__),
    lambda cls: cls(),
    lambda cls: cls(1, 2, 3),
    lambda cls: setattr(cls(1), "left", 2),
    lambda cls: pickle.loads(pickle.dumps(cls(1))) == cls(1),
    lambda cls: list(inspect.signature(cls).parameters),
    lambda cls: issubclass(cls, tuple),
]


@pytest.mark.parametrize("number", range(len(TUPLES)))
def test_a_plain_tuple_answers_as_a_named_tuple(number: int) -> None:
    real, ours = answer(TUPLES[number], RealPair), answer(TUPLES[number], PlainPair)
    if real is ValueError:  # _replace with a wrong name: TypeError since Python 3.13
        real = TypeError
    assert ours == real


class RealColour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class PlainColour(plain_enum.Enum):
    RED = "red"
    BLUE = "blue"


class RealSize(enum.IntEnum):
    SMALL = 1
    LARGE = 2

    @property
    def is_small(self) -> bool:
        return self < 2


class PlainSize(plain_enum.IntEnum):
    SMALL = 1
    LARGE = 2

    @property
    def is_small(self) -> bool:
        return self < 2


ENUMS: list[Callable[[Any, Any], object]] = [
    lambda colour, size: [(x.name, x.value) for x in (*colour, *size)],
    lambda colour, size: colour("red") is colour.RED is colour["RED"],
    lambda colour, size: colour("none"),
    lambda colour, size: size(3),
    lambda colour, size: colour["NONE"],
    lambda colour, size: (repr(size.SMALL).partition(".")[2], repr(colour.RED).partition(".")[2]),
    lambda colour, size: str(colour.RED).partition(".")[2],
    lambda colour, size: (size.SMALL == 1, size.SMALL + 1, f"{size.LARGE:d}", size.LARGE.is_small, size(1).is_small),
    lambda colour, size: {colour.RED: 1}[colour.RED],
    lambda colour, size: {1: "one"}[size.SMALL],
    lambda colour, size: setattr(colour, "RED", 1),
    lambda colour, size: delattr(colour, "RED"),
    lambda colour, size: setattr(size.SMALL, "value", 1),
    lambda colour, size: setattr(colour.RED, "name", 1),
    lambda colour, size: (len(colour), colour.RED in colour, size.SMALL in list(size)),
    lambda colour, size: pickle.loads(pickle.dumps(colour.RED)) is colour.RED,
    lambda colour, size: copy.deepcopy([size.SMALL])[0] is size.SMALL,
    lambda colour, size: list(colour.__members__),
    lambda colour, size: isinstance(size.SMALL, int),
    lambda colour, size: bool(colour.RED),
]


@pytest.mark.parametrize("number", range(len(ENUMS)))
def test_a_plain_enumeration_answers_as_an_enum(number: int) -> None:
    assert answer(ENUMS[number], PlainColour, PlainSize) == answer(ENUMS[number], RealColour, RealSize)


def told_by(library: Any, fails: tuple[str, ...], error: str) -> tuple[list[str], object]:
    """What an exit stack of a library does with contexts of which some fail, and one that may stop an error."""
    told: list[str] = []

    @library.contextmanager
    def context(name: str) -> Any:
        told.append(f"enter {name}")
        try:
            yield name
        except KeyError as caught:
            told.append(f"{name} sees {caught}")
            if name == "stops":
                return
            raise
        finally:
            told.append(f"leave {name}")
            if name in fails:
                raise KeyError(name)

    def leave(kind: object, error: object, trace: object) -> None:
        told.append(f"pushed sees {error!r}")

    def run() -> object:
        with library.ExitStack() as stack:
            stack.enter_context(context("first"))
            stack.push(leave)
            stack.enter_context(context("stops"))
            stack.callback(told.append, "called")
            stack.enter_context(context("last"))
            with library.suppress(IndexError):
                raise IndexError
            if error:
                raise (KeyError if error == "key" else OSError)(error)
        return "done"

    try:
        return told, run()
    except Exception as raised:
        return told, (repr(raised), repr(raised.__context__))


@pytest.mark.parametrize("error", ["", "key", "os"])
@pytest.mark.parametrize("fails", [(), ("last",), ("stops",), ("first",), ("first", "last"), ("first", "stops")])
def test_plain_contexts_do_what_contextlib_does(fails: tuple[str, ...], error: str) -> None:
    assert told_by(plain_contexts, fails, error) == told_by(contextlib, fails, error)


def test_array_is_loaded_without_collections_and_nothing_is_left() -> None:
    code = (
        "import sys\nfrom pyxcsr.plain_array import array\nassert array('Q', [1]).tolist() == [1]\n"
        "assert not {'collections', 'collections.abc'} & set(sys.modules)\n"
        "import collections.abc, threading\n"
        "assert isinstance(array('Q'), collections.abc.MutableSequence) and collections.deque\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_types_can_be_asked_for_at_run_time() -> None:
    assert typing.get_args(pyxcsr.BackendName) == BACKENDS
    assert typing.get_args(pyxcsr.P2mChanges) == P2M_CHANGES
    assert "final" in typing.get_args(pyxcsr.Phase)
    assert typing.get_args(pyxcsr.Policy)[1] is pyxcsr.Decision
    assert {"abort", "suspend"} == set(words.ON_TIMEOUT)
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        plain.late("m")("Other")


def test_the_package_s_own_can_be_taken_apart_and_sent() -> None:
    report = pyxcsr.SaveReport(1, True, warnings=["w"])
    assert pickle.loads(pickle.dumps(report)) == report and report.to_dict()["warnings"] == ["w"]
    assert pickle.loads(pickle.dumps(pyxcsr.Decision.ABORT)) is pyxcsr.Decision.ABORT
    assert [PageType(x.value) for x in PageType] == list(PageType)
    limits = pyxcsr.P2mLimits(per_pass=3)
    assert dataclasses.replace(limits, in_all=7) == pyxcsr.P2mLimits(3, 7)
    assert str(inspect.signature(pyxcsr.SimplePolicy)).startswith("(max_iterations: 'int' = 5, target_dirty")
