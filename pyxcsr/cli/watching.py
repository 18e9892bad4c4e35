"""The saves that `pyxcsr watch` watches: connections that come and go, and the events that they bring."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Optional

from pyxcsr.control.client import JUST_BEGUN, RunningSave, running, running_save
from pyxcsr.control.connection import Event, NoAnswer
from pyxcsr.control.lock import is_being_saved, was_killed
from pyxcsr.control.requests import WATCH
from pyxcsr.errors import UsageError, XcsrError, note

LOOKED = 0.5
"""Seconds between two looks for new saves."""

SILENT = 2.0
"""Seconds without a word after which a save counts as one that does not answer."""


def facts_of(save: RunningSave) -> dict[str, Any]:
    """What is known of a save that has not said anything."""
    return {"domid": save.domid, "pid": save.pid, "program": save.program}


class Watched:
    """One save. ``state``: all that its events have said so far; ``heard``: when the last one came.

    ``over``: nothing more will come; ``lost``: because it has hung up, and not because the save is over.
    """

    def __init__(self, save: RunningSave, patience: float = JUST_BEGUN) -> None:
        self.save, self.state = save, facts_of(save)
        self.heard = time.monotonic()
        self.answered, self.over, self.lost = False, False, False
        self.connection = save.connect(patience)
        self.connection.ask(WATCH)

    @property
    def silent(self) -> bool:
        """Whether it has not said anything for a while."""
        return time.monotonic() - self.heard > SILENT

    def read(self) -> list[Event]:
        """What has come. ``over`` afterwards: there will be nothing more."""
        try:
            told = self.connection.events()
        except NoAnswer:
            told, self.over = [], True
        self.over = self.over or self.connection.at_end
        for event in told:
            self.heard, self.answered = time.monotonic(), event["event"] != "error"
            self.state.update({x: value for x, value in event.items() if x != "event"})
        self.lost = self.over and "result" not in self.state and self.save.is_running()
        return told


class Watching:
    """All saves of this machine, or one. ``guest``: a domid or name. Raises UsageError if it is not being saved.

    ``unreachable``: those that have a lock and no socket, because there could be none, or it broke. ``killed``: guests
    whose saves were found killed, for who shows it to take out.
    """

    def __init__(self, run_dir: Optional[str], guest: Optional[str]) -> None:
        self._run_dir, self._only = run_dir, guest is not None
        self.saves: dict[int, Watched] = {}
        self.unreachable: dict[int, RunningSave] = {}
        self.killed: list[int] = []
        self._looked = time.monotonic()
        if guest is not None:
            self._add_one(guest)
        for save in running(run_dir, self.killed.append) if guest is None else ():
            self._add(save)

    @property
    def settled(self) -> bool:
        """Whether each of them has said where it stands, or does not answer."""
        return all(x.answered or x.silent for x in self.saves.values())

    @property
    def ended(self) -> bool:
        """Whether the one save is over."""
        return self._only and not self.saves

    def close(self) -> None:
        """Lets go of all."""
        for one in self.saves.values():
            one.connection.close()

    def step(self, seconds: float) -> Iterator[tuple[Watched, Event]]:
        """Waits so long at most, and gives what has come. A save that is over is not in ``saves`` any more."""
        self._look()
        poll = select.poll()
        for one in self.saves.values():
            poll.register(one.connection, select.POLLIN)
        poll.poll(seconds * 1000)
        for domid, one in list(self.saves.items()):
            for event in one.read():
                yield one, event
            if one.over:
                one.connection.close()
                del self.saves[domid]
            if one.lost:
                self.unreachable[domid] = one.save
            elif one.over and "result" not in one.state:
                self._look_why()

    def _look_why(self) -> None:
        """A save has ended without a word: it may have been killed."""
        with suppress(XcsrError):  # the folder has gone, and tells nothing any more
            running(self._run_dir, self.killed.append)

    def _look(self) -> None:
        now = time.monotonic()
        if self._only or now - self._looked < LOOKED:
            return
        self._looked = now
        known, self.unreachable = self.unreachable, {}
        for save in running(self._run_dir, self.killed.append):
            if save.domid not in self.saves:
                self._add(save, 0.0 if save.domid in known else JUST_BEGUN)

    def _add_one(self, guest: str) -> None:
        save = running_save(guest, self._run_dir, self.killed.append)
        try:
            self.saves[save.domid] = self._watched(save)
        except XcsrError as error:  # then nobody takes them out
            for domid in self.killed:
                note(error, was_killed(domid))
            raise

    @staticmethod
    def _watched(save: RunningSave) -> Watched:
        try:
            return Watched(save)
        except NoAnswer as problem:
            raise UsageError(str(problem)) from None

    def _add(self, save: RunningSave, patience: float = JUST_BEGUN) -> None:
        try:
            self.saves[save.domid] = Watched(save, patience)
        except NoAnswer:  # it is over by now
            return
        except XcsrError:
            if is_being_saved(save.domid, self._run_dir):
                self.unreachable[save.domid] = save
