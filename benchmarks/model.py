"""The paused phase as a sum: a fixed time, a time for each pfn of the guest, and a time for each dirty page.

    seconds = fixed + pfn * (pfns of the guest) + page * (dirty pages)

fitted to what was measured (least squares of the relative error, so that small times count as much as large ones), and
used for a guest that does not fit here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.measure import Spread
from benchmarks.rows import Goal, Row, of_values

GOAL = Goal(75)
TIB = 1 << 28  # pages
DIRTY = 50


@dataclass(frozen=True)
class Sample:
    """One guest and dirty count: the seconds of each turn."""

    pfns: int
    dirty: int
    seconds: list[float]


@dataclass(frozen=True)
class Fit:
    """The model's three numbers, in seconds, and its largest relative error on what it was fitted to."""

    fixed: float
    pfn: float
    page: float
    error: float

    def seconds(self, pfns: float, dirty: float) -> float:
        """The time that the model predicts."""
        return self.fixed + self.pfn * pfns + self.page * dirty


def solve(rows: list[list[float]], right: list[float]) -> list[float]:
    """Solves linear equations by Gauss's elimination; the matrix is small and regular."""
    n = len(right)
    a = [[*row, value] for row, value in zip(rows, right)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(a[r][i]))
        a[i], a[pivot] = a[pivot], a[i]
        for r in range(n):
            if r != i:
                factor = a[r][i] / a[i][i]
                a[r] = [x - factor * y for x, y in zip(a[r], a[i])]
    return [a[i][n] / a[i][i] for i in range(n)]


def fit(points: Sequence[tuple[float, float, float]]) -> Fit:
    """Fits the model to points (pfns, dirty, seconds): at least three, which differ in both."""
    terms = [((1 / s, n / s, d / s)) for n, d, s in points]
    normal = [[sum(t[i] * t[j] for t in terms) for j in range(3)] for i in range(3)]
    fixed, pfn, page = solve(normal, [sum(t[i] for t in terms) for i in range(3)])
    found = Fit(fixed, pfn, page, 0.0)
    return Fit(fixed, pfn, page, max(abs(found.seconds(n, d) / s - 1) for n, d, s in points))


def fitted(samples: Sequence[Sample], turn: int | None = None) -> Fit:
    """Fits the model to the samples' medians, or to one of their turns."""
    return fit(
        [(x.pfns, x.dirty, Spread.of(x.seconds).median if turn is None else x.seconds[turn]) for x in samples]
    )


def _terms(who: str, found: Fit) -> Row:
    figures = {"fixed us": found.fixed * 1e6, "a dirty page us": found.page * 1e6}
    note = f"largest error of the fit {found.error * 100:.0f} %"
    value = found.pfn * TIB * 1e3
    return Row("paused", f"model, {who}: for the pfns of 1 TiB", value, value, value, "ms", None, figures, note)


def model(found: dict[str, list[Sample]]) -> Iterator[Row]:
    """Rows: the terms of both savers, and 1 TiB with 50 dirty pages. ``found``: by saver."""
    small = {by: [x for x in samples if x.dirty <= 1000] for by, samples in found.items()}
    fits = {by: fitted(samples) for by, samples in small.items()}
    for by, one in fits.items():
        yield _terms("ours" if by == "ours" else "libxenguest", one)
    if "theirs" not in fits:
        return
    turns = len(small["ours"][0].seconds)
    ratios = []
    for turn in range(turns):
        theirs, ours = (fitted(small[by], turn).seconds(TIB, DIRTY) for by in ("theirs", "ours"))
        ratios.append(theirs / ours)
    figures = {
        "libxenguest ms": fits["theirs"].seconds(TIB, DIRTY) * 1e3,
        "ours ms": fits["ours"].seconds(TIB, DIRTY) * 1e3,
    }
    what = f"1 TiB by the model, {DIRTY} pages dirty"
    yield of_values("paused", what, ratios, goal=GOAL, figures=figures)
