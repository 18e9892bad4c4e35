"""The mean of what was measured last."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional


class Recent:
    """Amounts, each of so many units; of the last measurements as many as it takes to make ``enough`` units.

    One alone may be too short to tell anything; all of them would hide what has changed meanwhile. For the same reason
    the oldest of them counts only for as many units as the others lack.
    """

    __slots__ = ("_enough", "_kept")

    def __init__(self, enough: float) -> None:
        self._enough = enough
        self._kept: list[tuple[float, float]] = []

    def add(self, units: float, amount: float) -> None:
        """The newest one. Older ones that are not needed any more are forgotten."""
        self._kept.append((units, amount))
        while sum(x for x, _ in self._kept[1:]) >= self._enough:
            del self._kept[0]

    def mean(self, units: float = 0.0, amount: float = 0.0, enough: Optional[float] = None) -> Optional[float]:
        """The amount for each unit, with one more measurement that is not over yet; None if nothing was measured.
        ``enough``: so many units, and not as many as are kept."""
        enough = self._enough if enough is None else enough
        for more, its in reversed(self._kept):
            if units >= enough:
                break
            share = min(1.0, (enough - units) / more) if more > 0 else 1.0
            units, amount = units + share * more, amount + share * its
        return amount / units if units > 0 else None
