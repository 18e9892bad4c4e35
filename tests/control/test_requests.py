"""What may be asked of a save, and what becomes of its limits and its policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyxcsr.control.requests import BadRequest, check_in_time, parsed, tuned
from pyxcsr.limits.limits import Limits
from pyxcsr.policies.adaptive import AdaptivePolicy
from pyxcsr.policy import Decision, Policy, PrecopyStats, SimplePolicy


def own(stats: PrecopyStats) -> Decision:
    return Decision.CONTINUE


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "not a line of JSON"), (b"{", "not a line of JSON"), (b"\xff\xfe", "not a line of JSON"),
        (b"[" * 4000, "not a line of JSON"), (b"[]", "an object"), (b"1", "an object"), (b"{}", "version"),
        (b'{"pyxcsr": 2, "do": "status"}', "version"), (b'{"pyxcsr": "1", "do": "status"}', "version"),
        (b'{"pyxcsr": 1}', "is one of"), (b'{"pyxcsr": 1, "do": "destroy"}', "is one of"),
        (b'{"pyxcsr": 1, "do": []}', "is one of"), (b'{"pyxcsr": 1, "do": "cancel", "domid": 5}', "nothing else"),
    ],
)  # fmt: skip
def test_what_is_no_request(line: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        parsed(line, 1)


def test_requests() -> None:
    assert parsed(b'{"pyxcsr": 1, "do": "cancel"}', 1) == ("cancel", {})
    line = json.dumps({"pyxcsr": 1, "do": "tune", "timeout": "5m"}).encode()
    assert parsed(line, 1) == ("tune", {"timeout": "5m"})


def changed(asked: dict[str, Any], policy: Policy, live: bool = True, seconds: float = 1.0, **limits: Any) -> Any:
    old = Limits(**limits)
    before = repr(old)
    new = tuned(asked, old, policy, live, seconds)
    assert repr(old) == before, "nothing is changed before all is known to be right"
    new.apply(old)
    return old, new.policy


def test_values_are_as_on_a_command_line() -> None:
    limits, policy = changed({"bandwidth": "64M", "timeout": "2m"}, SimplePolicy(), bandwidth="1M")
    assert (limits.bandwidth, limits.timeout, policy, limits.suspend_now) == (64 << 20, 120.0, None, False)
    assert changed({"suspend_now": True}, SimplePolicy())[0].suspend_now


def test_a_limit_that_libxc_does_not_know_brings_adaptive() -> None:
    limits, policy = changed({"max_downtime": "500ms"}, SimplePolicy())
    assert isinstance(policy, AdaptivePolicy) and policy.limits is limits, "it goes by the save's own"
    assert limits.max_downtime == 0.5


def test_adaptive_stays_as_it_is() -> None:
    old = Limits()
    assert tuned({"max_downtime": "1s"}, old, AdaptivePolicy(old), True, 0.0).policy is None


@pytest.mark.parametrize("asked", [{"max_downtime": "1s"}, {"target_dirty": "9"}, {"throttle": "yes"}])
def test_an_adaptive_policy_of_ones_own_goes_by_its_own_limits(asked: dict[str, str]) -> None:
    """As at the start: what nobody would go by is refused."""
    with pytest.raises(BadRequest, match="a policy of your own decides about"):
        changed(asked, AdaptivePolicy(Limits(max_downtime=5)))
    assert changed({"timeout": "9h"}, AdaptivePolicy(Limits(max_downtime=5)))[1] is None
    limits, policy = changed({**asked, "policy": "adaptive"}, AdaptivePolicy(Limits(max_downtime=5)))
    assert isinstance(policy, AdaptivePolicy) and policy.limits is limits, "the save's own, if that is asked for"


def test_a_policy_of_ones_own_that_goes_by_the_saves_limits() -> None:
    class Mine(AdaptivePolicy):
        name = "mine"

    old = Limits()
    assert tuned({"max_downtime": "1s"}, old, Mine(old), True, 0.0).policy is None


def test_numbers_for_libxc() -> None:
    _, policy = changed({"max_iterations": "9"}, SimplePolicy(3, 10))
    assert policy == SimplePolicy(9, 10)
    _, policy = changed({"target_dirty": "none"}, SimplePolicy(3, 10))
    assert policy == SimplePolicy(3, 50)
    _, policy = changed({"policy": "libxc", "target_dirty": "7"}, AdaptivePolicy())
    assert policy == SimplePolicy(5, 7)
    assert isinstance(changed({"policy": "adaptive"}, own)[1], AdaptivePolicy)


def test_what_says_something_about_a_limit_goes_with_it() -> None:
    limits, _ = changed({"timeout": "none", "bandwidth": "none"}, SimplePolicy(), timeout=60, on_timeout="suspend",
                        bandwidth="1M", bandwidth_while_paused=True)  # fmt: skip
    assert (limits.timeout, limits.on_timeout) == (None, None)
    assert (limits.bandwidth, limits.bandwidth_while_paused) == (None, False)


def test_what_says_something_about_a_limit_that_is_gone_refuses_nothing() -> None:
    old = Limits(timeout=60, on_timeout="suspend", bandwidth="1M", bandwidth_while_paused=True)
    old.timeout = old.bandwidth = None
    values = tuned({"max_downtime": "1s"}, old, AdaptivePolicy(old), True, 1.0).values
    assert (values["on_timeout"], values["bandwidth_while_paused"]) == (None, False)


@pytest.mark.parametrize(
    ("asked", "policy", "why"),
    [
        ({}, SimplePolicy(), "nothing is to be changed"),
        ({"max_downtime": "500"}, SimplePolicy(), "no unit"),
        ({"max_downtime": 500}, SimplePolicy(), "given as text"),
        ({"speed": "1"}, SimplePolicy(), "no limit 'speed'"),
        ({"suspend_now": "yes"}, SimplePolicy(), "true or false"),
        ({"max_downtime": "1s", "policy": "libxc"}, SimplePolicy(), "not by max_downtime"),
        ({"max_downtime": "5m", "timeout": "2m"}, SimplePolicy(), "not shorter than timeout"),
        ({"on_timeout": "abort"}, SimplePolicy(), "there is no timeout"),
        ({"max_iterations": "4"}, own, "a policy of your own"),
        ({"bandwidth": "99999999999T"}, SimplePolicy(), "more than any output takes"),
        ({"bandwidth": "9" * 4000}, SimplePolicy(), "more than any output takes"),
        ({"timeout": "9" * 4000 + "h"}, SimplePolicy(), "longer than any save"),
        ({"timeout": "1s"}, SimplePolicy(), "that would be over already"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], policy: Policy, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        changed(asked, policy, seconds=2.0)


@pytest.mark.parametrize("asked", [{"on_timeout": "abort"}, {"on_timeout": "none"}])
def test_the_end_of_a_time_that_is_over(asked: dict[str, str]) -> None:
    """The guest is about to be suspended, or is: the save would end there, and nobody has asked for that."""
    over = {"timeout": 60.0, "on_timeout": "suspend"}
    with pytest.raises(BadRequest, match=r"the timeout of 1 min was over 10 s ago: .*or cancel the save"):
        changed(asked, SimplePolicy(), seconds=70.0, **over)
    limits, _ = changed(asked, SimplePolicy(), seconds=50.0, **over)
    assert limits.aborts_at_timeout and limits.timeout == 60.0
    limits, _ = changed({**asked, "timeout": "5m"}, SimplePolicy(), seconds=70.0, **over)
    assert limits.aborts_at_timeout and limits.timeout == 300.0
    assert changed({"bandwidth": "1M"}, SimplePolicy(), seconds=70.0, **over)[0].bandwidth == 1 << 20


def test_a_save_that_goes_on_and_on() -> None:
    """Its end would be the end of the guest's protection."""
    old = Limits()
    with pytest.raises(BadRequest, match="timeout does not go together with checkpointed"):
        tuned({"timeout": "9h"}, old, AdaptivePolicy(old), True, 1.0, checkpointed=True)
    assert tuned({"timeout": "none"}, old, AdaptivePolicy(old), True, 1.0, checkpointed=True).values["timeout"] is None
    assert tuned({"bandwidth": "1M"}, old, AdaptivePolicy(old), True, 1.0, checkpointed=True).suspend_now is False


def test_a_save_with_verify() -> None:
    old = Limits()
    with pytest.raises(BadRequest, match="verify sends all memory while the guest is paused"):
        tuned({"max_downtime": "1s"}, old, AdaptivePolicy(old), True, 1.0, verify=True)
    assert tuned({"bandwidth": "1M"}, old, AdaptivePolicy(old), True, 1.0, verify=True).values["bandwidth"] == 1 << 20


LATE = ["max_downtime", "max_iterations", "target_dirty", "abort_if_busy", "throttle", "policy"]
VALUES = {"max_downtime": "9s", "max_iterations": "9", "target_dirty": "9", "policy": "adaptive"}


def check(asked: dict[str, Any], decided: bool, suspended: bool, **limits: Any) -> None:
    old = Limits(**limits)
    new = tuned(asked, old, AdaptivePolicy(old), True, 1.0)
    check_in_time(asked, old, new, decided=decided, suspended=suspended)


@pytest.mark.parametrize("value", ["yes", "none"])
@pytest.mark.parametrize("name", LATE)
def test_what_would_change_nothing_but_the_report(name: str, value: str) -> None:
    """Also what lifts a limit: what was asked for has been missed then, and that is to be told."""
    asked = {name: VALUES.get(name, value) if value != "none" or name == "policy" else value}
    check(asked, False, False)
    with pytest.raises(BadRequest, match=f"the guest is about to be suspended, and {name} says something about"):
        check(asked, True, False)
    with pytest.raises(BadRequest, match=r"the guest has been suspended already, and .* would still hold"):
        check({**asked, "timeout": "9h"}, True, True)


def test_what_is_about_the_pause_can_be_changed_in_it() -> None:
    for asked in ({"timeout": "9h"}, {"timeout": "9h", "on_timeout": "abort"}, {"bandwidth": "none"},
                  {"bandwidth": "1M", "bandwidth_while_paused": "yes"}):  # fmt: skip
        check(asked, True, True)


def test_a_bandwidth_limit_that_does_not_hold_in_the_pause() -> None:
    with pytest.raises(BadRequest, match=r"already, and bandwidth says something .*: give bandwidth_while_paused as"):
        check({"bandwidth": "1M"}, True, True, bandwidth="2M")
    check({"bandwidth": "1M"}, True, False, bandwidth="2M")
    check({"bandwidth": "1M"}, True, True, bandwidth="2M", bandwidth_while_paused=True)
    check({"bandwidth": "1M", "bandwidth_while_paused": "no"}, True, True, bandwidth="2M", bandwidth_while_paused=True)


def test_a_save_of_a_suspended_guest() -> None:
    with pytest.raises(BadRequest, match="save the guest live"):
        changed({"max_downtime": "1s"}, SimplePolicy(), live=False)
    assert changed({"timeout": "1m"}, SimplePolicy(), live=False)[0].timeout == 60.0
