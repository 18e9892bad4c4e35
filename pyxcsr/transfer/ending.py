"""The end of a live save in one call: prepared while the guest runs, and afterwards put into the report.

What the call does is what the saver does step by step where this is not possible. So an error of a step is told apart
here as the saver does it there.
"""

from __future__ import annotations

from pyxcsr.errors import HypervisorError, OutputError, PageError, PageTableError, XcsrError
from pyxcsr.hypervisor.interface.results import SENT
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.report import PassReport
from pyxcsr.switches import ENDING, is_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.guest.ops import Following, SaveOps
    from pyxcsr.hypervisor.interface import SaveHandle, SinkHandle, Trial


class Ending:
    """The end of one live save. ``ready``: whether it has been prepared."""

    def __init__(self, ops: SaveOps, save: SaveHandle, following: Optional[Following]) -> None:
        self._ops, self._save, self._following = ops, save, following
        self.ready = False

    def prepare(self, last: bytes) -> None:
        """While the guest runs. ``last``: what follows the guest's state. Where this fails, the save ends step by step.
        """
        if not is_on(ENDING):
            return
        try:
            plan = self._ops.plan_end(self._save, last)
            if plan is not None:
                self._save.prepare_end(plan)
                self.ready = True
        except HypervisorError:  # the single steps ask the same, and what they are refused is the error to raise
            self.ready = False

    def rehearse(self, again: Callable[[], None], with_bitmap: bool, pages: int, to_pipe: bool) -> Optional[Trial]:
        """What :meth:`run` does, but for what it sends, while the guest runs. None: nothing can be learnt from it.

        ``again``: called where the pass would be over, and what it raises is raised; ``with_bitmap``: the dirty bitmap
        is read, too; ``pages``: how many are tried in the pass's place, some dozens at most; ``to_pipe``: by writing
        them to one.
        """
        raised: list[HypervisorError] = []

        def look() -> None:
            try:
                again()
            except HypervisorError as error:
                raised.append(error)
                raise

        try:
            return self._save.rehearse_end(look, with_bitmap, pages, to_pipe) if self.ready else None
        except HypervisorError:  # the end asks the same, and tells what it is refused
            if raised:
                raise
            return None

    def run(self, sink: SinkHandle, again: Callable[[], None], check_iteration: Callable[[], None],
            check_lasts: Callable[[], None]) -> int:  # fmt: skip
        """The guest has been suspended. Returns how far the end has come; less than COMPLETE: the saver goes on.

        ``check_iteration``, ``check_lasts``: raise the reason for an error in the pass, in the guest's state, if they
        find one.
        """
        try:
            return self._save.end(sink, again)
        except OutputError:
            raise
        except (PageError, PageTableError):
            self.note()
            check_iteration()
            raise
        except XcsrError:
            if self.is_over():
                check_lasts()
            raise

    @property
    def complete_at(self) -> Optional[int]:
        """The stream's length once it is complete, as soon as that is known."""
        return (self._save.end_complete_at or None) if self.ready else None

    def is_over(self) -> bool:
        """Whether the pass is over."""
        return self._save.end_reached >= SENT

    def dirty(self) -> int:
        """How many pfns are marked for the last pass so far: those that the last bitmap named, at least."""
        return self._save.ending.marked

    def note(self) -> None:
        """Tells who follows the guest what was found."""
        if self._following is not None:
            self._following.ended(self._save.ending.sweep)

    def last_pass(self, iteration: int, seconds_until: Callable[[float], float]) -> PassReport:
        """The last pass, as far as it has come. ``seconds_until``: of the save, until that time.monotonic()."""
        now = self._save.ending
        done = PassReport(iteration, True, now.marked, began=seconds_until(now.began + now.fetching))
        done.pages, done.holes = now.batches.nr_pages, now.batches.nr_holes
        done.deferred, done.tables = now.batches.nr_deferred, now.batches.nr_tables
        done.bytes = now.batches.nr_bytes
        if now.reached >= SENT:
            done.seconds, done.seconds_held = now.passing, now.held
        return done

    def looked_at(self) -> int:
        """How many pfns the last pass has looked at."""
        return self._save.ending.batches.nr_pfns

    def mapped_ahead(self) -> int:
        """Batches of the last pass whose pages were mapped while the one before was written."""
        return self._save.ending.batches.nr_ahead
