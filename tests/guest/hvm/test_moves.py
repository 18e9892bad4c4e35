"""When the number of a guest's pages tells that pages may have gone and come back unseen."""

from __future__ import annotations

import pytest

from pyxcsr.guest.hvm.moves import Moves


def after_first_bitmap(pages: int = 100) -> Moves:
    moves = Moves(pages)
    moves.bitmap_fetched(pages)
    assert not moves.all_again()
    return moves


def look(moves: Moves, during: tuple[int, ...] = (), after: int = 100, appeared: int = 0, vanished: int = 0) -> None:
    moves.look_begins()
    for pages in during:
        moves.note(pages)
    moves.look_ends(after, appeared, vanished)


def fetched(moves: Moves, pages: int) -> bool:
    moves.bitmap_fetched(pages)
    return moves.all_again()


def test_a_number_that_stands_still_asks_for_nothing() -> None:
    moves = after_first_bitmap()
    moves.note(100)
    assert not moves.look_due and moves.count == 0 and not fetched(moves, 100)


@pytest.mark.parametrize("numbers", [(90, 80, 70), (110, 120)])
def test_one_way_needs_a_look_only(numbers: tuple[int, ...]) -> None:
    moves = after_first_bitmap()
    for pages in numbers:
        moves.note(pages)
    assert moves.look_due and moves.count == len(numbers)
    assert not fetched(moves, numbers[-1])


@pytest.mark.parametrize("first", [90, 110])
def test_both_ways_needs_all_until_a_bitmap_later_nothing_has_moved(first: int) -> None:
    """Up and then down, too: a page that was given back counts for as long as somebody maps it."""
    moves = after_first_bitmap()
    moves.note(first)
    moves.note(100)
    assert fetched(moves, 100)
    assert not fetched(moves, 100)
    assert moves.both_ways


def test_a_page_that_came_unseen_and_one_that_goes_later() -> None:
    """The look in between finds nothing: the gfn has a page before and after. What goes is the page that was there."""
    moves = after_first_bitmap()
    moves.note(101)
    look(moves, after=101)
    assert not fetched(moves, 101)
    moves.note(100)
    assert fetched(moves, 100)
    assert not fetched(moves, 100)


def test_a_page_that_came_unseen_among_others_that_are_found() -> None:
    moves = after_first_bitmap()
    moves.note(103)
    look(moves, after=103, appeared=2)
    assert not fetched(moves, 103)
    moves.note(102)
    assert fetched(moves, 102)
    assert not fetched(moves, 102)


def test_a_page_that_comes_during_a_look_is_left_to_the_next() -> None:
    moves = after_first_bitmap()
    moves.note(102)
    look(moves, during=(103,), after=103, appeared=2)
    look(moves, after=103, appeared=1)
    assert not fetched(moves, 103)
    moves.note(102)
    look(moves, after=102, vanished=1)
    assert not fetched(moves, 102)


def test_what_moves_right_after_a_bitmap_counts_for_the_next_one_too() -> None:
    moves = after_first_bitmap()
    moves.note(90)
    assert fetched(moves, 100)
    assert fetched(moves, 100), "that it stood still was not seen from before the last bitmap"
    assert not fetched(moves, 100)


def test_a_look_in_between_tells_them_apart() -> None:
    moves = after_first_bitmap()
    moves.note(90)
    look(moves, after=90, vanished=10)
    moves.note(100)
    look(moves, after=100, appeared=10)
    assert not fetched(moves, 100)


def test_a_page_that_comes_during_a_look_may_have_gone_before_it() -> None:
    moves = after_first_bitmap()
    moves.note(90)
    look(moves, after=100)
    assert fetched(moves, 100)


def test_a_page_that_goes_during_a_look_may_come_back_after_it() -> None:
    moves = after_first_bitmap()
    look(moves, during=(90,), after=90)
    moves.note(100)
    assert fetched(moves, 100)


def test_before_the_first_bitmap_nothing_is_known_of_what_comes() -> None:
    moves = Moves(100)
    moves.note(101)
    assert fetched(moves, 101)
    assert not fetched(moves, 101), "once is enough: it went one way"


def test_what_is_found_although_the_number_said_nothing_of_it() -> None:
    moves = after_first_bitmap()
    moves.note(99)
    look(moves, after=99, appeared=1, vanished=2)
    assert fetched(moves, 99)
    assert not fetched(moves, 99)


def test_one_that_never_rests_is_sent_whole_each_time() -> None:
    moves, number = after_first_bitmap(), 100
    for _ in range(5):
        moves.note(90)
        moves.note(number := number + 1)
        assert fetched(moves, number)


def test_after_a_stretch_without_watching_a_look_is_due_though_the_number_is_the_same() -> None:
    moves = after_first_bitmap()
    moves.unwatched()
    assert moves.look_due and moves.settled is None
    look(moves)
    assert not moves.look_due and not fetched(moves, 100)
    assert not moves.moved_unwatched and not moves.both_ways


def test_a_look_after_it_finds_that_pages_came_and_others_went() -> None:
    """It may hide a gfn that did both, so that all is sent again: until a bitmap later nothing has moved."""
    moves = after_first_bitmap()
    moves.unwatched()
    look(moves, appeared=3, vanished=3)
    assert moves.both_ways and moves.moved_unwatched
    assert fetched(moves, 100)
    assert not fetched(moves, 100)


@pytest.mark.parametrize(("pages", "found"), [(97, {"vanished": 3}), (103, {"appeared": 3}), (103, {})])
def test_what_moved_one_way_in_it_may_have_gone_both(pages: int, found: dict[str, int]) -> None:
    moves = after_first_bitmap()
    moves.unwatched()
    moves.note(pages)
    look(moves, after=pages, **found)
    assert moves.moved_unwatched and not moves.both_ways
    assert not fetched(moves, pages), "a balloon driver moves one way until it is at its target"


def test_a_stretch_without_watching_during_a_look_needs_another() -> None:
    moves = after_first_bitmap()
    moves.look_begins()
    moves.unwatched()
    moves.look_ends(100, 0, 0)
    assert moves.look_due and not moves.moved_unwatched


def test_a_look_that_finds_an_exchange_says_that_the_bitmap_was_not_quiet() -> None:
    moves = after_first_bitmap()
    moves.bitmap_fetched(100)
    moves.unwatched()
    look(moves, appeared=1, vanished=1)  # after the bitmap, and perhaps of after it, too
    assert moves.all_again()
    assert fetched(moves, 100)
    assert not fetched(moves, 100)
