"""From what a caller gives as the policy, a name or a function, to the policy."""

from __future__ import annotations

from pyxcsr.arguments import check_callback
from pyxcsr.errors import UsageError
from pyxcsr.limits.limits import check_libxc, check_own
from pyxcsr.limits.words import POLICIES
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.policy import SimplePolicy

if TYPE_CHECKING:
    from typing import Union

    from pyxcsr.limits.limits import Limits
    from pyxcsr.limits.words import PolicyName
    from pyxcsr.policy import Policy

DEFAULT_POLICY: PolicyName = "adaptive"
"""docs/convergence.md has what it and libxenguest's numbers come to."""


def policy_for(chosen: Union[Policy, PolicyName, None], limits: Limits) -> Policy:
    """The policy. Raises UsageError if there is none of that name, or if it has no use for one of the limits."""
    if chosen is None:
        chosen = DEFAULT_POLICY
    if chosen == "adaptive":
        from pyxcsr.policies.adaptive import AdaptivePolicy

        return AdaptivePolicy(limits)
    if chosen == "libxc":
        check_libxc(limits)
        default = SimplePolicy()
        return SimplePolicy(
            default.max_iterations if limits.max_iterations is None else limits.max_iterations,
            default.target_dirty if limits.target_dirty is None else limits.target_dirty,
        )
    if isinstance(chosen, str):
        raise UsageError(f"policy is {chosen!r}: give {', '.join(POLICIES)}, or a function of pyxcsr.PrecopyStats")
    if isinstance(chosen, type):
        raise UsageError(f"policy is the class {chosen.__name__}: give an object of it, {chosen.__name__}()")
    check_callback("policy", chosen, "a function of pyxcsr.PrecopyStats, a pyxcsr.SimplePolicy, or a policy's name")
    if getattr(chosen, "limits", None) is not limits:
        check_own(limits)
    return chosen
