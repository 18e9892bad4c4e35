"""What a guest writes, interval by interval, measured without saving it."""

from __future__ import annotations

from typing import Literal, Protocol

How = Literal["copy", "add", "common"]


class MeterHandle(Protocol):
    """Log-dirty mode, and sets of pfns made of the bitmaps: set 0 is the one read last. All are empty at first."""

    nr_sets: int
    """How many sets there are; they have numbers from 0."""

    def begin(self) -> None:
        """Log-dirty mode on. Raises LogDirtyUnsupported: with errno EINVAL if it is on already, by whomever, or the
        domain has PCI devices."""

    def end(self) -> None:
        """Log-dirty mode off, if this meter switched it on."""

    def leave(self) -> None:
        """Log-dirty mode is somebody else's from now on: this meter does not end it any more."""

    def fetch(self) -> int:
        """Fetches and clears Xen's dirty bitmap; returns how many pfns it names. Raises HypervisorError with errno
        ENODATA if somebody else has ended log-dirty mode; it is on again then, and this meter's. Raises DomainNotFound
        if the domain is being destroyed."""

    def peek(self) -> int:
        """Reads Xen's dirty bitmap, which stays as it is, into set 0. If log-dirty mode is off, nothing is dirty."""

    def join(self, source: int, into: int, how: How = "add") -> int:
        """Puts set ``source`` in the place of ``into``, adds it, or leaves in ``into`` what is in both. Returns how
        many pfns ``into`` has then."""

    def clear(self, number: int) -> None:
        """Empties a set."""

    def spread(self, number: int, per_range: int) -> list[int]:
        """How many pfns a set has in each range of ``per_range`` pfns (a multiple of 64), from pfn 0 on."""

    def close(self) -> None:
        """Log-dirty mode off if it is still on, and memory gone; harmless when done before."""


class Measuring(Protocol):
    """Measures."""

    def new_meter(self, domid: int, nr_pfns: int) -> MeterHandle:
        """What measuring the writes of a domain with so many pfns needs."""
