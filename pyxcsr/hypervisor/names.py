"""The names of the hypervisors that can be opened, and of the stub's kinds of guests.

They stand apart from what opens and makes these, which takes time to load.
"""

from __future__ import annotations

from typing import Literal, get_args

BackendName = Literal["xen", "stub"]

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)

KINDS = ("pv64", "pvh", "hvm")
"""What a guest of the stub can be, in the order of enum stub_domain_kind."""
