"""What passes cost, told apart by what they have cost: with made-up passes."""

from __future__ import annotations

import random

import pytest

from pyxcsr.stream.format import BATCH_PAGES
from pyxcsr.transfer.costs import DIRTY_PAGE, FIXED, HANDFUL, KEPT, Costs

ALL = 1 << 16
"""Pages of the guest."""


def runs_of(pages: int) -> int:
    """Of so many pages by chance."""
    return round(pages * (1 - pages / ALL))


def seconds(pages: int, fixed: float, page: float, run: float) -> float:
    return fixed + page * pages + run * runs_of(pages)


def seen(passes: list[int], fixed: float, page: float, run: float, noise: float = 0.0) -> Costs:
    chance, costs = random.Random(1), Costs()
    costs.whole(ALL, ALL * page)
    for pages in passes:
        costs.add(pages, runs_of(pages), seconds(pages, fixed, page, run) * chance.uniform(1 - noise, 1 + noise))
    return costs


def predicted(costs: Costs, pages: int) -> float:
    return costs.fixed(pages) + costs.page(pages) * pages


def test_before_any_pass() -> None:
    costs = Costs()
    assert costs.fixed(100) == FIXED and costs.page(100) == DIRTY_PAGE
    costs.whole(ALL, ALL * 1e-6)
    assert costs.page(100) == pytest.approx(DIRTY_PAGE)
    costs.whole(ALL, ALL * 4e-5)
    assert costs.page(100) == pytest.approx(4e-5), "a slow output"


SHAPES = [(1.5e-4, 1e-6, 3.4e-6), (5e-5, 4e-5, 0.0), (3e-4, 6e-6, 0.0), (1e-5, 5e-7, 8e-6)]


@pytest.mark.parametrize(("fixed", "page", "run"), SHAPES)
def test_dense_passes_tell_what_a_scattered_one_costs(fixed: float, page: float, run: float) -> None:
    costs = seen([50_000, 30_000, 15_000, 6_000, 2_000], fixed, page, run, noise=0.05)
    for pages in 200, 1_000, 5_000, 40_000:
        meant = seconds(pages, fixed, page, run)
        assert predicted(costs, pages) == pytest.approx(meant, rel=0.3, abs=5e-5), pages


@pytest.mark.parametrize(("fixed", "page", "run"), SHAPES)
def test_small_passes_tell_the_fixed_part(fixed: float, page: float, run: float) -> None:
    costs = seen([300, 100, 40, 10, 3, 10], fixed, page, run, noise=0.05)
    for pages in 0, 5, 50, 500:
        meant = seconds(pages, fixed, page, run)
        assert predicted(costs, pages) == pytest.approx(meant, rel=0.3, abs=5e-5), pages


def test_a_pass_of_a_single_batch_has_nothing_to_do_while_it_waits() -> None:
    """What larger passes do meanwhile makes their pages cheaper; theirs only."""
    costs = Costs()
    costs.whole(ALL, ALL * 2e-6)
    for _ in range(3):
        costs.add(5 * BATCH_PAGES, 5 * BATCH_PAGES, 5 * BATCH_PAGES * 2.5e-6)
    assert predicted(costs, 500) < 500 * 3.5e-6, "nothing else is known yet"
    costs.add(BATCH_PAGES // 2, BATCH_PAGES // 2, BATCH_PAGES // 2 * 5e-6)
    assert predicted(costs, 200) == pytest.approx(200 * 5e-6, rel=0.15)
    assert predicted(costs, 6 * BATCH_PAGES) == pytest.approx(6 * BATCH_PAGES * 3e-6, rel=0.2)


def test_an_output_that_becomes_slower() -> None:
    costs = seen([1000] * 10, 1e-4, 5e-6, 0.0)
    for _ in range(3):
        costs.add(1000, 1000, 0.05)
    assert predicted(costs, 1000) > 0.02
    for _ in range(KEPT):
        costs.add(1000, 1000, 0.05)
    assert predicted(costs, 1000) == pytest.approx(0.05, rel=0.1)


def test_nothing_is_ever_taken_to_cost_less_than_nothing() -> None:
    chance = random.Random(2)
    for _ in range(300):
        costs = Costs()
        costs.whole(ALL, 10 ** chance.uniform(-4, 1))
        for _ in range(chance.randrange(1, 30)):
            pages = chance.randrange(0, ALL)
            costs.add(pages, chance.randrange(0, pages + 1), 10 ** chance.uniform(-6, 1))
            assert all(costs.fixed(x) >= 0 and costs.page(x) >= 0 for x in (0, 1, 100, ALL))
            assert any(predicted(costs, x) > 0 for x in (1, ALL))


def test_pages_in_a_row_are_few_runs() -> None:
    costs = seen([], 1e-4, 1e-6, 7e-6)
    for _ in range(5):
        costs.add(1000, 4, 1e-4 + 1e-3)
    assert predicted(costs, 1000) == pytest.approx(1.1e-3, rel=0.1)


def test_a_handful_of_pages_costs_what_a_trial_says() -> None:
    """And the larger passes what they have cost: the trial tells nothing of these."""
    costs = seen([2000, 700, 300], 5e-5, 5e-6, 0.0)
    before = {pages: predicted(costs, pages) for pages in (8, HANDFUL, HANDFUL + 1, 1000)}
    costs.tried(16, 2.5e-4)
    assert predicted(costs, 16) == pytest.approx(2.5e-4, rel=0.01) and predicted(costs, 16) > 1.5 * before[8]
    assert before[8] < predicted(costs, 8) < 2.5e-4 < predicted(costs, 20) < 2.5e-4 * 20 / 16
    assert predicted(costs, HANDFUL) > 1.5 * before[HANDFUL]
    assert [predicted(costs, x) for x in (HANDFUL + 1, 1000)] == [before[x] for x in (HANDFUL + 1, 1000)]
    costs.tried(16, 1e-4)
    assert predicted(costs, 16) == pytest.approx(1e-4, rel=0.01), "the last one counts"
    costs.add(300, 300, seconds(300, 5e-5, 5e-6, 0.0))
    assert predicted(costs, 8) == pytest.approx(before[8], rel=0.1), "it was made before this pass"
