"""What the number of a guest's pages, asked now and then, tells of pages that went and came back unseen.

A look at the physmap finds the gfns that have got a page, or lost theirs. It does not find a gfn that lost its page and
got another one between two looks. Such a page takes a decrease of the number and an increase, in either order: a page
that the guest has given back counts until nobody maps it any more, as this save may do, or the guest's device model.
So an increase for which no look finds a page that has come may be the first half of that.

All this goes by a number that is asked for every few milliseconds. After a stretch in which it was not, it may be what
it was although pages have come and others have gone; only a look finds these then.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, final

if TYPE_CHECKING:
    from typing import Optional


@final
class Moves:
    """Fed with the number of pages, it says when to look, and when every page has to be sent once more.

    The times that matter are those at which a dirty bitmap is fetched. What came before one is tracked by Xen from
    then on, so that it is right once it was sent after that. What is noted right after one may have come before or
    after it, and counts as both.
    """

    __slots__ = (
        "_down",
        "_down_before",
        "_first",
        "_hidden_up",
        "_once",
        "_owed",
        "_quiet",
        "_unsettled",
        "_unwatched",
        "_unwatched_before",
        "_up",
        "_up_before",
        "_was_quiet",
        "_whole",
        "count",
        "grew",
        "look_due",
        "moved_unwatched",
        "pages",
        "shrank",
    )

    def __init__(self, pages: int) -> None:
        self.pages = pages
        """The number, as it was told last."""
        self.count = 0
        """How often the number was seen to have changed."""
        self.grew = self.shrank = False
        self.look_due = False
        """The number has changed since the last look began, or was not watched."""
        self.moved_unwatched = False
        """Pages have come or gone in a stretch in which the number was not watched, or next to one: some may have done
        both."""
        self._first = True  # until the first bitmap: nothing is known of gfns that were not sent yet
        self._once = False  # all pages must be sent once after the next bitmap
        self._unsettled = False  # the same, until the number stands still from one bitmap to the next
        self._whole = False  # after the last bitmap all pages were marked
        self._quiet = self._was_quiet = True  # no change since the last bitmap; between the last two
        self._up = self._down = False  # the number went there since the last look began
        self._up_before = self._down_before = False  # during a look: since the look before it began
        self._owed = 0  # by so much the number went up, and no look has found a page for it yet
        self._hidden_up = False  # no look will
        self._unwatched = self._unwatched_before = False  # since the last look began; during a look: before it began

    @property
    def both_ways(self) -> bool:
        """Pages have come, and pages have gone, in whatever order."""
        return self.grew and self.shrank

    @property
    def settled(self) -> Optional[int]:
        """The number of pages, if nothing has to be done after the next bitmap unless it is another one by then."""
        return None if self.look_due or self._once or self._unsettled else self.pages

    def note(self, pages: int) -> None:
        if pages == self.pages:
            return
        change, self.pages = pages - self.pages, pages
        self.count += 1
        self.look_due = True
        self._quiet = False
        if change > 0:
            self.grew = self._up = True
            self._owed += change
            self._once |= self._first
            self._unsettled |= self._down or self._down_before
        else:
            self.shrank = self._down = True
            self._unsettled |= self._up or self._up_before or self._hidden_up

    def unwatched(self) -> None:
        """The number was not asked for during a while in which the guest ran."""
        self.look_due = self._unwatched = True

    def look_begins(self) -> None:
        self._unwatched_before, self._unwatched = self._unwatched, False
        self._up_before, self._down_before = self._up, self._down
        self._up = self._down = self.look_due = False

    def look_ends(self, pages: int, appeared: int, vanished: int) -> None:
        """``appeared``, ``vanished``: what the look found. If the number did not tell of it, it hides other things."""
        self.note(pages)
        moved = appeared or vanished or self._up_before or self._down_before
        self.moved_unwatched |= self._unwatched_before and bool(moved)
        self.grew |= bool(appeared)
        self.shrank |= bool(vanished)
        untold = bool(appeared) and not (self._up or self._up_before)
        untold |= bool(vanished) and not (self._down or self._down_before)
        self._unsettled |= untold
        self._quiet &= not untold
        self._owed = max(self._owed - appeared, 0)
        self._hidden_up |= self._owed > 0 and not self._up  # a page that has come during this look the next one finds
        self._up_before = self._down_before = False

    def bitmap_fetched(self, pages: int) -> None:
        quiet, self._quiet = self._quiet, True
        self.note(pages)
        self._was_quiet = quiet and self._quiet
        self._first = False

    def all_again(self) -> bool:
        """Whether all pages must be sent after the bitmap just fetched. Asked once for each, after the look."""
        if self._whole and self._was_quiet and self._quiet:
            self._unsettled = self._hidden_up = False
            self._owed = 0
        self._whole = self._unsettled or self._once
        self._once = self._once and not self._quiet
        return self._whole
