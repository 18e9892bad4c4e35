"""Limits as words: units, checks, contradictions, in Python and as text."""

from __future__ import annotations

from typing import Any

import pytest

import pyxcsr
from pyxcsr.limits.given import Given, from_environment
from pyxcsr.limits.words import WORDS, parse
from pyxcsr.units import format_seconds, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300ms", 0.3), ("0.3s", 0.3), ("2m", 120), ("2 min", 120), ("1.5h", 5400), ("250us", 0.00025), ("10 sec", 10)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)
    assert parse("timeout", text, "x") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["300", "300 pc", "ms", "", "-1s", "1e3s", "1,5s", "0x10s", "nan", "infs", "٣s", "2M"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(pyxcsr.UsageError, match=r"unit|is not a time"):
        parse_seconds(text)


@pytest.mark.parametrize("value", [True, None, [], b"1s"])
def test_what_is_no_time_at_all(value: Any) -> None:
    with pytest.raises(pyxcsr.UsageError, match="is not a time"):
        parse_seconds(value)


def test_times_for_people() -> None:
    assert [format_seconds(x) for x in (0.0123, 0.3, 1.5, 90, 0)] == ["12.3 ms", "300 ms", "1.5 s", "1.5 min", "0 ms"]


@pytest.mark.parametrize(
    ("word", "text", "value"),
    [
        ("policy", "libxc", "libxc"),
        ("max_downtime", "300ms", 0.3),
        ("on_timeout", "suspend", "suspend"),
        ("max_iterations", "12", 12),
        ("target_dirty", "0", 0),
        ("bandwidth", "500M", 500 << 20),
        ("bandwidth", "1.5GiB/s", 3 << 29),
        ("bandwidth", "100000", 100_000),
        ("bandwidth_while_paused", "yes", True),
        ("abort_if_busy", "0", False),
        ("abort_if_busy", "On", True),
        ("timeout", " none ", None),
    ],
)
def test_values(word: str, text: str, value: Any) -> None:
    assert parse(word, text, "x") == value


@pytest.mark.parametrize(
    ("word", "text", "why"),
    [
        ("policy", "best", "not adaptive or libxc"),
        ("max_downtime", "0ms", "more than 0"),
        ("max_downtime", "300", "no unit"),
        ("max_downtime", "300M", "unknown unit|not a time"),
        ("timeout", "soon", "not a time"),
        ("on_timeout", "resume", "not abort or suspend"),
        ("max_iterations", "0", "from 1 to"),
        ("max_iterations", "1e3", "from 1 to"),
        ("target_dirty", "-1", "from 0 to"),
        ("bandwidth", "1Gbit", "not a size"),
        ("bandwidth", "500X", "not a size"),
        ("bandwidth", "100", "at least 4096"),
        ("abort_if_busy", "maybe", "yes or no"),
    ],
)
def test_values_that_are_none(word: str, text: str, why: str) -> None:
    with pytest.raises(pyxcsr.UsageError, match=f"^HERE is .*({why})"):
        parse(word, text, "HERE")


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"max_downtime": 0}, "greater than 0"),
        ({"max_downtime": float("nan")}, "greater than 0"),
        ({"max_downtime": True}, "seconds"),
        ({"max_downtime": "300"}, "max_downtime is '300'.* no unit"),
        ({"timeout": -1.0}, "greater than 0"),
        ({"timeout": float("inf")}, "timeout is inf: that is longer than any save"),
        ({"max_downtime": 1e300}, "longer than any save"),
        ({"on_timeout": "abort"}, "there is no timeout"),
        ({"timeout": 1, "on_timeout": "resume"}, "not abort or suspend"),
        ({"max_iterations": 0}, "at least 1"),
        ({"max_iterations": "5"}, "no whole number"),
        ({"target_dirty": -1}, "at least 0"),
        ({"bandwidth": 1}, "at least 4096"),
        ({"bandwidth": "fast"}, "bandwidth is 'fast'"),
        ({"bandwidth": 1 << 64}, "more than any output takes"),
        ({"bandwidth_while_paused": True}, "there is no bandwidth"),
        ({"bandwidth": "1M", "bandwidth_while_paused": "yes"}, "True or False"),
        ({"abort_if_busy": 1}, "True or False"),
        ({"timeout": 1, "max_downtime": "1s"}, r"max_downtime \(1 s\) is not shorter than timeout"),
    ],
)
def test_limits_that_are_none(limits: dict[str, Any], why: str) -> None:
    with pytest.raises(pyxcsr.UsageError, match=why):
        pyxcsr.Limits(**limits)


def test_limits() -> None:
    limits = pyxcsr.Limits(max_downtime="300ms", timeout=60, bandwidth="1G/s", abort_if_busy=True)
    assert (limits.max_downtime, limits.timeout, limits.bandwidth) == (pytest.approx(0.3), 60.0, 1 << 30)
    assert limits.aborts_at_timeout and not limits.bandwidth_while_paused and limits.target_dirty is None
    assert repr(pyxcsr.Limits(max_iterations=3, target_dirty=0)) == "Limits(max_iterations=3, target_dirty=0)"
    with pytest.raises(AttributeError):
        limits.max_down_time = 1  # type: ignore[attr-defined]


def test_what_is_changed_is_checked_and_read_like_what_is_given() -> None:
    limits = pyxcsr.Limits()
    limits.max_downtime, limits.bandwidth = "300ms", "1G"  # type: ignore[assignment]
    assert (limits.max_downtime, limits.bandwidth) == (pytest.approx(0.3), 1 << 30)
    limits.bandwidth = None
    for name, value in {
        "max_downtime": 0, "timeout": "5", "on_timeout": "end", "max_iterations": "3", "target_dirty": -1,
        "bandwidth": 0, "throttle": "yes", "suspend_now": None, "abort_if_busy": 1, "bandwidth_while_paused": 0,
    }.items():  # fmt: skip
        before = getattr(limits, name)
        with pytest.raises(pyxcsr.UsageError, match=f"^{name} is "):
            setattr(limits, name, value)
        assert getattr(limits, name) == before


def test_every_word_is_a_limit_or_the_policy() -> None:
    assert {x.name for x in WORDS} - {"policy"} == set(pyxcsr.Limits.__slots__) - {"suspend_now"}


# -- together


def test_environment() -> None:
    environ = {"PYXCSR_MAX_DOWNTIME": "1s", "PYXCSR_TIMEOUT": "", "PYXCSR_POLICY": "adaptive", "OTHER": "x"}
    given = from_environment(environ)
    assert given.values == {"max_downtime": 1.0, "policy": "adaptive"} and given.policy == "adaptive"
    with pytest.raises(pyxcsr.UsageError, match=r"^PYXCSR_TIMEOUT is '3': '3' has no unit"):
        from_environment({"PYXCSR_TIMEOUT": "3"})


def test_what_goes_before_what() -> None:
    lower, upper = Given(), Given()
    lower.add("timeout", "10m", "FILE, line 2", "")
    lower.add("max_downtime", "1s", "FILE, line 3", "")
    upper.add("timeout", "none", "PYXCSR_TIMEOUT", "")
    both = upper.over(lower)
    limits = both.limits()
    assert (limits.timeout, limits.max_downtime) == (None, 1.0)
    assert lower.limits().timeout == 600.0, "neither of them is changed"


@pytest.mark.parametrize(
    ("one", "value", "other", "more"),
    [("timeout", "10m", "on_timeout", "suspend"), ("bandwidth", "1M", "bandwidth_while_paused", "yes")],
)
def test_what_says_something_about_a_limit_is_lifted_with_it(one: str, value: str, other: str, more: str) -> None:
    lower, upper = Given(), Given()
    lower.add(one, value, "FILE, line 2", "")
    lower.add(other, more, "FILE, line 3", "")
    upper.add(one, "none", "PYXCSR", "")
    both = upper.over(lower)
    assert getattr(both.limits(), one) is None and other not in both.where
    assert getattr(Given().over(both).limits(), one) is None and getattr(both.over(lower).limits(), one) is None
    assert getattr(lower.limits(), one) is not None, "it is not changed"
    upper.add(other, more, "PYXCSR_MORE", "")
    with pytest.raises(pyxcsr.UsageError, match=rf"{other}: PYXCSR_MORE"):
        upper.over(lower).limits()


def test_a_contradiction_names_both_places() -> None:
    lower, upper = Given(), Given()
    lower.add("policy", "libxc", "FILE, line 2", "")
    upper.add("max_downtime", "1s", "PYXCSR_MAX_DOWNTIME", "")
    with pytest.raises(pyxcsr.UsageError, match=r"policy: FILE, line 2; max_downtime: PYXCSR_MAX"):
        upper.over(lower).limits()


def test_of_a_save_that_is_not_live() -> None:
    given = from_environment(
        {"PYXCSR_MAX_DOWNTIME": "1s", "PYXCSR_BANDWIDTH": "1G", "PYXCSR_TIMEOUT": "9m", "PYXCSR_ABORT_IF_BUSY": "1"}
    )
    assert set(given.for_save(True).values) == set(given.values)
    assert set(given.for_save(False).values) == {"bandwidth", "timeout"}
    given = from_environment({"PYXCSR_TIMEOUT": "9m", "PYXCSR_ON_TIMEOUT": "suspend"})
    assert given.for_save(False).values == {}, "it is suspended already"
    given = from_environment({"PYXCSR_MAX_DOWNTIME": "1s", "PYXCSR_ON_TIMEOUT": "abort"})
    with pytest.raises(pyxcsr.UsageError, match="on_timeout: PYXCSR_ON_TIMEOUT"):
        given.for_save(False).limits()
