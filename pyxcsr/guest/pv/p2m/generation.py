"""p2m_generation: tells when the p2m's structure may be relied on (arch-x86/xen.h, struct arch_shared_info)."""

from __future__ import annotations

import time

from pyxcsr.errors import P2mChanged, P2mError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.guest.pv.p2m.shared_info import SharedInfo

SETTLE_SECONDS = 1.0
"""How long a running guest may take for one change of its p2m's structure, unless the caller says otherwise."""


def read_even(
    shared: SharedInfo, running: bool, cancel: Callable[[], None], seconds: Optional[float] = None
) -> int:
    """The generation, as soon as it is even: no change is in progress. Raises P2mError if it stays odd.

    A guest that is not ``running`` is not waited for. ``cancel``: called while waiting; may raise Cancelled.
    ``seconds``: how long to wait at most (None: SETTLE_SECONDS).
    """
    deadline = time.monotonic() + (SETTLE_SECONDS if seconds is None else seconds)
    value = shared.generation()
    while value & 1:
        if not running or time.monotonic() > deadline:
            raise P2mError(
                f"the guest is in the middle of a change of its p2m (p2m_generation {value} is odd) and does not "
                "finish it; try again later",
                field="p2m_generation",
                value=value,
            )
        cancel()
        time.sleep(0.0005)
        value = shared.generation()
    return value


def check_same(shared: SharedInfo, before: int) -> None:
    """Raises P2mChanged if the generation is not ``before`` any more."""
    after = shared.generation()
    if after != before:
        raise P2mChanged(
            f"p2m generation count changed. Migration aborted. (It was {before}, now it is {after}: the guest has "
            "changed the structure of its p2m; it goes on running, try again later.)",
            field="p2m_generation",
            value=after,
            before=before,
            after=after,
        )
