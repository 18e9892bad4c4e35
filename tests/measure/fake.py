"""A meter made of Python's sets, and a clock that nobody waits for."""

from __future__ import annotations

from pyxcsr.hypervisor.interface.measuring import How


class SetMeter:
    """See :class:`pyxcsr.hypervisor.interface.MeterHandle`; a test puts into ``sets[0]`` what is to be fetched."""

    nr_sets = 32

    def __init__(self, nr_pfns: int) -> None:
        self._nr_pfns = nr_pfns
        self.sets: dict[int, set[int]] = {}

    def begin(self) -> None:
        """Nothing is on."""

    def leave(self) -> None:
        """Nothing is on."""

    def end(self) -> None:
        """Nothing is on."""

    def close(self) -> None:
        """Nothing is held."""

    def fetch(self) -> int:
        return len(self.sets.get(0, ()))

    def peek(self) -> int:
        return self.fetch()

    def join(self, source: int, into: int, how: How = "add") -> int:
        one, two = self.sets.get(source, set()), self.sets.get(into, set())
        self.sets[into] = set(one) if how == "copy" else one | two if how == "add" else one & two
        return len(self.sets[into])

    def clear(self, number: int) -> None:
        self.sets[number] = set()

    def spread(self, number: int, per_range: int) -> list[int]:
        found = [0] * -(-self._nr_pfns // per_range)
        for pfn in self.sets.get(number, ()):
            found[pfn // per_range] += 1
        return found


class Clock:
    """Time goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """At once."""
        self.now += seconds
