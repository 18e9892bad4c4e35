"""What a client may ask for, and changed limits: all of it checked before anything is changed."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from pyxcsr.errors import UsageError
from pyxcsr.limits.limits import Limits, beyond_libxc, check_not_live, check_verified
from pyxcsr.limits.words import ABOUT, BY_NAME, parse
from pyxcsr.policies.named import policy_for
from pyxcsr.policy import Policy, SimplePolicy
from pyxcsr.units import format_seconds

STATUS, WATCH, TUNE, CANCEL = "status", "watch", "tune", "cancel"
ACTIONS = (STATUS, WATCH, TUNE, CANCEL)
SUSPEND_NOW = "suspend_now"
_NUMBERS = ("max_iterations", "target_dirty")


class BadRequest(Exception):
    """Not understood, or not to be had. Its text goes to the client; nothing was done."""


def parsed(data: bytes, version: int) -> tuple[str, dict[str, Any]]:
    """A request's line: what is to be done, and the words with it. Raises BadRequest."""
    import json

    try:
        asked = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRequest("this is not a line of JSON") from None
    if not isinstance(asked, dict):
        raise BadRequest("a request is an object")
    if asked.pop("pyxcsr", None) != version:
        raise BadRequest(f'a request has "pyxcsr": {version}, the version of this schema')
    action = asked.pop("do", None)
    if action not in ACTIONS:
        raise BadRequest(f'"do" is one of {", ".join(ACTIONS)}')
    if action != TUNE and asked:
        raise BadRequest(f'"{action}" takes nothing else')
    return action, asked


class Tuned(NamedTuple):
    """Limits as they are to be. ``policy``: a new one, or None if the old one stays."""

    values: dict[str, Any]
    policy: Optional[Policy]
    suspend_now: bool

    def apply(self, limits: Limits) -> None:
        """Makes the limits such."""
        for name, value in self.values.items():
            setattr(limits, name, value)
        if self.suspend_now:
            limits.suspend_now = True


def tuned(
    asked: dict[str, Any], limits: Limits, policy: Policy, live: bool, seconds: float, checkpointed: bool = False,
    verify: bool = False,
) -> Tuned:
    """What would become of the limits. ``seconds``: since the save began. Raises BadRequest, and changes nothing."""
    if not asked:
        raise BadRequest("nothing is to be changed")
    words = dict(asked)
    suspend_now = words.pop(SUSPEND_NOW, False)
    if not isinstance(suspend_now, bool):
        raise BadRequest(f"{SUSPEND_NOW} is true or false")
    try:
        new = {name: _value(name, value) for name, value in words.items()}
        chosen = new.pop("policy", None)
        values = _together(new, limits)
        wanted = Limits(**values)
        if not live:
            check_not_live(wanted)
        if verify:
            check_verified(wanted)
        changed = _policy(chosen, new, wanted, limits, policy)
    except UsageError as error:
        raise BadRequest(str(error)) from None
    _check_timeout(wanted, new, seconds)
    if checkpointed and wanted.timeout is not None:
        raise BadRequest("timeout does not go together with checkpointed: it would end the guest's protection")
    return Tuned(values, changed, suspend_now)


def check_in_time(asked: dict[str, Any], limits: Limits, new: Tuned, *, decided: bool, suspended: bool) -> None:
    """Raises BadRequest for what would change nothing any more, or nothing but the report.

    ``limits``: as they are; ``new``: what would become of them; ``decided``: it has been decided that the guest is
    suspended; ``suspended``: it has been.
    """
    late = [name for name in asked if name in BY_NAME and BY_NAME[name].only_live]
    if late and decided:
        what = "the guest has been suspended already" if suspended else "the guest is about to be suspended"
        raise BadRequest(
            f"{what}, and {', '.join(late)} {'says' if len(late) == 1 else 'say'} something about the time before "
            "that: leave it out. A timeout, or bandwidth together with bandwidth_while_paused, would still hold"
        )
    held = limits.bandwidth_while_paused or new.values["bandwidth_while_paused"]
    if suspended and "bandwidth" in asked and new.values["bandwidth"] is not None and not held:
        raise BadRequest(
            "the guest has been suspended already, and bandwidth says something about the time in which it runs: give "
            "bandwidth_while_paused as well"
        )


def _value(name: str, text: object) -> Any:
    if name not in BY_NAME or (name != "policy" and name not in Limits.__slots__):
        raise BadRequest(f"there is no limit {name!r} that can be changed")
    if not isinstance(text, str):
        raise BadRequest(f"{name} is given as text, as on a command line")
    return parse(name, text, name)


def _together(new: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The old limits with the new ones. One that only says something about another goes with it."""
    values = {x: getattr(limits, x) for x in BY_NAME if x in Limits.__slots__}
    values.update(new)
    for other, one in ABOUT.items():
        if values[one] is None and other not in new:
            values[other] = None
    for name, value in values.items():
        if value is None and isinstance(getattr(limits, name), bool):
            values[name] = False
    return values


def _policy(
    chosen: Optional[str], new: dict[str, Any], wanted: Limits, limits: Limits, policy: Policy
) -> Optional[Policy]:
    """The policy that the new limits call for, if it is another one. It will go by ``limits``, the save's own."""
    name = getattr(policy, "name", None)
    if chosen is None and name == "libxc" and beyond_libxc(wanted):
        chosen = "adaptive"
    if chosen is None and isinstance(policy, SimplePolicy):
        numbers = {x: getattr(SimplePolicy, x) if new[x] is None else new[x] for x in _NUMBERS if x in new}
        return SimplePolicy(**{**vars(policy), **numbers}) if numbers else None
    own = getattr(policy, "limits", None) is not limits  # it does not go by the save's, whatever its name
    if chosen is None and own:
        policy_for(policy, wanted)  # which refuses what is its own business
        return None
    if chosen is None or (chosen == name == "adaptive" and not own):
        return None
    return policy_for("adaptive", limits) if chosen == "adaptive" else policy_for("libxc", wanted)


def _check_timeout(wanted: Limits, new: dict[str, Any], seconds: float) -> None:
    if wanted.timeout is None or wanted.timeout > seconds:
        return
    timeout = format_seconds(wanted.timeout)
    if "timeout" in new:
        raise BadRequest(
            f"timeout is {timeout}, and counted from the save's beginning, {format_seconds(seconds)} ago: that would "
            "be over already. Give it more, or cancel the save"
        )
    if "on_timeout" in new and wanted.aborts_at_timeout:
        raise BadRequest(
            f"the timeout of {timeout} was over {format_seconds(seconds - wanted.timeout)} ago: the save would end at "
            "once. Give it more with this, or cancel the save"
        )
