"""What a pass over dirty pages costs: a fixed time, a time for each page, and a time for each run of pages in a row.

    seconds = fixed + page * pages + run * runs

Mapping and writing cost less for a page that follows the one before. So a dense set of dirty pages costs less for each
page than a scattered one, and the last pass of a save is more scattered than the first ones. The three numbers are
fitted to the passes of this save, by least squares of the error in relation to what a pass was expected to take. Few
passes cannot tell all three apart: then what was assumed before counts, a little.

A pass of more than one batch has the next batch's pages mapped while it waits for the output, so that a page costs less
than in a pass of a single batch, which has nothing to map meanwhile. So for a pass of a single batch the larger ones
count as little as what was assumed, once there was one of a single batch.

A handful of pages costs more still: each of the first ones does, in any pass, as long as what they need is in no cache.
So a trial of as many pages as are expected (csrc/save/trial.c) tells how much more they cost than these numbers say.

What is wanted is the cost of a pass over a guest that stands still. One that runs takes processors, caches and locks
from the saver at times, never the other way round. So a pass that took longer than the others say weighs less than a
short one.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.stream.format import BATCH_PAGES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    Pass = tuple[int, int, float]
    """Pages, runs of them, seconds."""

FIXED = 0.00002
"""Seconds for a pass that sends hardly anything, until passes have told more: what it needs is in no cache any more."""

FIXED_MAY_BE_OFF = 0.0001
"""By how many seconds that is wrong on some machines."""

DIRTY_PAGE = 0.000007
"""Seconds for a page that is a run of its own, until then. In a pass over all of memory pages cost less."""

HANDFUL = 64
"""Pages of the largest trial: XCSR_TRIAL of C."""

TRUST = 0.1
"""How much these assumptions weigh beside one pass, and a pass of another kind."""

LONGER = 0.15
"""How much a pass weighs that took longer than the others say, if a shorter one weighs as much as is left of 1."""

ROUNDS = 4
"""Fits, each of which goes by what the one before calls longer."""

FADING = 0.6
"""How much a pass weighs beside the one after it: the output, and the machine, become slower and faster."""

KEPT = 16
"""Passes. What older ones weigh is next to nothing."""


class Costs:
    """What the passes of one save have cost so far."""

    __slots__ = ("_dense", "_few", "_fit", "_handful", "_passes")

    def __init__(self) -> None:
        self._passes: list[Pass] = []
        self._dense = 0.0  # for a page in the pass over all of memory
        self._fit = [FIXED, 0.0, DIRTY_PAGE]
        self._few: Optional[list[float]] = None  # the same, of passes of a single batch
        self._handful = 1.0  # by how much more a handful of pages cost than that

    def whole(self, pages: int, seconds: float) -> None:
        """The pass over all of memory."""
        self._dense = seconds / pages
        self._fit = self._assumed()

    def add(self, pages: int, runs: int, seconds: float) -> None:
        """A pass over dirty pages."""
        self._passes = [*self._passes, (pages, runs, seconds)][-KEPT:]
        self._fit = self._fitted([1.0] * len(self._passes))
        single = [x[0] <= BATCH_PAGES for x in self._passes]
        self._few = self._fitted([1.0 if x else TRUST for x in single]) if any(single) else None
        self._handful = 1.0

    def tried(self, pages: int, seconds: float) -> None:
        """A trial of a handful of pages, none beside another: what the pass to come costs if it has no more."""
        expected = _seconds(self._fit_of(pages), (pages, pages, seconds))
        if expected > 0:
            self._handful = seconds / expected

    def fixed(self, pages: float) -> float:
        """Seconds for a pass over so many pages, without those for each page."""
        return self._fit_of(pages)[0] * self._factor(pages)

    def page(self, pages: float) -> float:
        """Seconds for each page of so many dirty ones, without the fixed part."""
        fit = self._fit_of(pages)
        return (fit[1] + fit[2] * self._share_of_runs(pages)) * self._factor(pages)

    def _fit_of(self, pages: float) -> list[float]:
        return self._fit if self._few is None or pages > BATCH_PAGES else self._few

    def _factor(self, pages: float) -> float:
        return self._handful if pages <= HANDFUL else 1.0

    def _share_of_runs(self, pages: float) -> float:
        """How many runs there are for each of so many pages: as in the last pass, if pages lie by chance.

        If ``pages`` of ``among`` are dirty by chance, a dirty one begins a run if the one before is not.
        """
        for before, runs, _ in reversed(self._passes):
            if 0 < runs < before:
                among = before * before / (before - runs)
                return max(1.0 - pages / among, 1.0 / max(pages, 1.0))
        return 1.0

    # -- the fit

    def _assumed(self) -> list[float]:
        return [FIXED, self._dense, max(DIRTY_PAGE - self._dense, 0.0)]

    def _fitted(self, trust: Sequence[float]) -> list[float]:
        """``trust``: how much each pass weighs, besides what it weighs by its time."""
        found, weights = [0.0, 0.0, 0.0], list(trust)
        for _ in range(ROUNDS):
            found = self._fitted_with(weights)
            longer = [done[2] > _seconds(found, done) for done in self._passes]
            weights = [2 * x * (LONGER if late else 1 - LONGER) for x, late in zip(trust, longer)]
        return found

    def _fitted_with(self, weights: Sequence[float]) -> list[float]:
        """The three numbers; one that would be below zero is taken to be zero."""
        which, scales, found = [0, 1, 2], self._scales(), [0.0, 0.0, 0.0]
        equations, right = self._equations(weights)
        while which:
            values = _solve([[equations[i][j] for j in which] for i in which], [right[i] for i in which])
            found = [0.0, 0.0, 0.0]
            for i, value in zip(which, values):
                found[i] = value
            if min(values) >= 0:
                break
            which.remove(min(which, key=lambda i: found[i] / scales[i]))
        return [max(x, 0.0) for x in found]

    def _scales(self) -> tuple[float, float, float]:
        page = max(self._dense, DIRTY_PAGE)
        return FIXED_MAY_BE_OFF, page, page

    def _equations(self, weights: Sequence[float]) -> tuple[list[list[float]], list[float]]:
        """The normal equations: what was assumed, and each pass."""
        assumed, scales = self._assumed(), self._scales()
        right = [TRUST * x / scale**2 for x, scale in zip(assumed, scales)]
        equations = [[TRUST / scale**2 if i == j else 0.0 for j in range(3)] for i, scale in enumerate(scales)]
        newer = 1.0
        for done, weight in zip(reversed(self._passes), reversed(weights)):
            expected = _seconds(assumed, done)
            terms = [x / expected for x in (1, done[0], done[1])]
            for i in range(3):
                right[i] += newer * weight * terms[i] * done[2] / expected
                for j in range(3):
                    equations[i][j] += newer * weight * terms[i] * terms[j]
            newer *= FADING
        return equations, right


def _seconds(numbers: Sequence[float], done: Pass) -> float:
    """What a pass takes by these numbers."""
    return numbers[0] + numbers[1] * done[0] + numbers[2] * done[1]


def _solve(equations: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solves linear equations whose matrix is positive definite, by elimination."""
    rows = [[*row, value] for row, value in zip(equations, right)]
    for i, pivot in enumerate(rows):
        for other in rows[:i] + rows[i + 1 :]:
            factor = other[i] / pivot[i]
            other[:] = [x - factor * y for x, y in zip(other, pivot)]
    return [row[-1] / row[i] for i, row in enumerate(rows)]
