"""What a case reports: one row for each thing measured, with its goal if it has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from benchmarks.measure import Spread, ratios


@dataclass(frozen=True)
class Goal:
    """A limit for a row's value."""

    limit: float
    least: bool = True  # True: the value must be at least the limit; False: at most

    def met_by(self, value: float) -> bool:
        """Whether a value is within it."""
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One thing measured. ``value``: the median; ``low`` and ``high``: its quartiles; ``unit``: ``x`` for a ratio."""

    case: str
    what: str
    value: float
    low: float
    high: float
    unit: str = "x"
    goal: Optional[Goal] = None
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> Optional[bool]:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else self.goal.met_by(self.value)

    def to_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return {**asdict(self), "goal": None if self.goal is None else str(self.goal), "met": self.met}


def of_values(
    case: str, what: str, values: Sequence[float], *, unit: str = "x", goal: Optional[Goal] = None, **more: Any
) -> Row:
    """A row of values, one for each turn."""
    spread = Spread.of(values)
    return Row(case, what, spread.median, spread.low, spread.high, unit, goal, **more)


def compared(
    case: str,
    what: str,
    reference: Sequence[float],
    ours: Sequence[float],
    *,
    goal: Optional[Goal] = None,
    scale: float = 1e6,
    unit: str = "us",
    names: tuple[str, str] = ("reference", "ours"),
    note: str = "",
) -> Row:
    """A row that says how many times faster ours is; its figures are the medians of both, times ``scale``."""
    figures = {
        f"{name} {unit}": Spread.of(x).median * scale for name, x in zip(names, (reference, ours))
    }
    return of_values(case, what, ratios(reference, ours), goal=goal, figures=figures, note=note)
