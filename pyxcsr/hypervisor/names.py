"""The names of the hypervisors that can be opened. Apart from what opens them, which takes time to load."""

from __future__ import annotations

from typing import Literal, get_args

BackendName = Literal["xen", "stub"]

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
