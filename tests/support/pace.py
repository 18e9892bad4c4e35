"""Bounds of processor time in seconds of an ordinary machine: the one that runs the tests may be slower, or busy."""

from __future__ import annotations

import time

STEPS = 150_000
ORDINARY = 0.035
"""Seconds that so many steps take on a processor of about 3 GHz that has nothing else to do."""


def slowness() -> float:
    """How many times an ordinary machine's processor time the same work takes here just now; 1 if this is faster."""
    began, numbers = time.process_time(), {}
    for step in range(STEPS):
        numbers[step & 0xFFF] = (step, bytes(8), str(step))
    return max(1.0, (time.process_time() - began) / ORDINARY)


def too_long(seconds: float, most: float) -> bool:
    """Whether ``seconds`` of processor time are more than ``most`` of an ordinary machine's."""
    return seconds > most and seconds > most * slowness()
