"""Saves that run on this machine, from any other process: seen, changed, ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Optional, Union

from pyxcsr.arguments import check_callback
from pyxcsr.control.connection import Connection, Event, NoAnswer, listeners
from pyxcsr.control.folder import Folder, Unusable
from pyxcsr.control.lock import Holder, holder, holder_of, is_being_saved, sweep, was_killed
from pyxcsr.control.names import folder_name
from pyxcsr.control.requests import CANCEL, STATUS, SUSPEND_NOW, TUNE, WATCH
from pyxcsr.errors import ControlError, UsageError, XcsrError, note, untouched_so_far
from pyxcsr.limits.words import BY_NAME, NONE

PATIENCE = 5.0
"""Seconds that a save has for an answer: it gives none in the first second of its pause, nor while libxl suspends."""

PATIENT_CANCEL = 120.0

JUST_BEGUN = 0.5
"""Seconds: a save that begins has its lock first, and then its socket."""


class RunningSave:
    """A save that another process makes. ``domid``, ``pid`` and ``program``: of what, and by whom.

    Its methods raise ControlError if the save does not answer in time (it does not while its guest is being suspended,
    nor in the first second of the pause), or is over.
    """

    def __init__(self, run_dir: str, domid: int, holder: Holder) -> None:
        self._run_dir, self.domid = run_dir, domid
        self.pid, self.program = holder.pid, holder.program

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of domain {self.domid} by process {self.pid} ({self.program})>"

    def status(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Where it stands, and its limits: the event "status" of docs/control.md."""
        with self._connected() as save:
            return self._while_it_runs(self._answer(save, STATUS, {}, timeout))

    def events(self, timeout: Optional[float] = None) -> Iterator[dict[str, Any]]:
        """Its events, from "status" to "end". ``timeout``: seconds that may pass between two of them."""
        with self._connected() as save:
            told = self._answer(save, WATCH, {}, PATIENCE if timeout is None else timeout)
            yield told
            while told["event"] != "end":
                told = self._next(save, time.monotonic() + (float("inf") if timeout is None else timeout))
                yield told

    def tune(self, *, suspend_now: bool = False, timeout_for_answer: float = PATIENCE, **limits: Any) -> dict[str, Any]:
        """Changes limits: those of :class:`pyxcsr.Limits`, and ``policy``; None lifts one. ``suspend_now``: the guest
        is suspended at once. Returns the event "tuned" with all of them. Raises UsageError if the save refuses."""
        words: dict[str, Any] = {x: as_text(x, value) for x, value in limits.items()}
        if suspend_now:
            words[SUSPEND_NOW] = True
        with self._connected() as save:
            return self._while_it_runs(self._answer(save, TUNE, words, timeout_for_answer))

    def cancel(self, timeout: float = PATIENT_CANCEL) -> dict[str, Any]:
        """Ends it, so that the guest runs on. Returns the event "end": its ``result`` is "cancelled", or what came
        before that; its ``guest_is`` what the save saw of the guest in the end. If libxl had suspended the guest, that
        is "suspended": libxl resumes it after that. Raises UsageError if the stream is complete already."""
        with self._connected() as save:
            until = time.monotonic() + timeout
            told = self._answer(save, CANCEL, {}, timeout)
            while told["event"] != "end":
                told = self._next(save, until)
            return told

    def _connected(self) -> Connection:
        with untouched_so_far():
            return self.connect()

    def connect(self, patience: float = JUST_BEGUN) -> Connection:
        """A connection to it. Raises ControlError if it cannot be reached: it is over, or has no socket."""
        until = time.monotonic() + patience
        while True:
            try:
                with opened_folder(self._run_dir) as folder:
                    return Connection(folder, self.domid)
            except OSError as error:
                if time.monotonic() >= until:
                    raise _unreachable(self.domid, self.pid, error) from None
                time.sleep(0.02)

    def _next(self, save: Connection, until: float) -> Event:
        try:
            return save.next(until)
        except NoAnswer as problem:
            raise ControlError(self._why(problem), domid=self.domid, pid=self.pid) from None

    def is_running(self) -> bool:
        """Whether it goes on, by its lock, which a save that ends has a moment longer than its socket: that moment is
        waited for."""
        until = time.monotonic() + JUST_BEGUN
        while self._has_lock():
            if time.monotonic() >= until:
                return True
            time.sleep(0.02)
        return False

    def _has_lock(self) -> bool:
        try:
            now = holder(self.domid, self._run_dir)
        except OSError:  # it is not known, and a lock that cannot be asked for keeps nobody waiting
            return False
        return now is not None and now.pid == self.pid

    def _why(self, problem: NoAnswer) -> str:
        """A connection that ends is no save that does: it may have had no room, or have lost its socket."""
        if not problem.hung_up:
            return str(problem)
        if self.is_running():
            return f"the save of domain {self.domid} has hung up, but runs"
        return f"{problem}; {was_killed(self.domid)}" if self._is_swept_up() else str(problem)

    def _is_swept_up(self) -> bool:
        """Whether it was killed, and what it has left is removed."""
        try:
            with opened_folder(self._run_dir) as folder:
                return sweep(folder, self.domid)
        except (OSError, Unusable, UsageError):
            return False

    def _while_it_runs(self, told: Event) -> Event:
        """The answer. A save that ends tells that instead, and has not looked at the request: nothing was done."""
        if told["event"] == "end":
            text = f"the save of domain {self.domid} is over ({told.get('result')}): it has not looked at the request"
            raise ControlError(text, domid=self.domid, pid=self.pid, untouched=True)
        return told

    def _answer(self, save: Connection, action: str, words: dict[str, Any], timeout: float) -> Event:
        try:
            save.ask(action, words)
            told = save.next(time.monotonic() + timeout)
        except NoAnswer as problem:
            raise ControlError(f"{self._why(problem)} (process {self.pid})", domid=self.domid, pid=self.pid) from None
        if told["event"] == "error":
            raise UsageError(f"the save of domain {self.domid} refuses: {told.get('message')}", domid=self.domid)
        return told


def _unreachable(domid: int, pid: int, error: OSError) -> ControlError:
    text = f"domain {domid} is being saved by process {pid}, but that cannot be reached: {error.strerror}"
    return ControlError(text, domid=domid, pid=pid, errno=error.errno, untouched=True)


def as_text(name: str, value: object) -> str:
    """A limit's value as on a command line. Raises UsageError for a word that there is not."""
    if name not in BY_NAME:
        raise UsageError(f"there is no limit {name!r}: there are {', '.join(BY_NAME)}")
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    is_time = BY_NAME[name].metavar == "TIME"
    return f"{value:.9f}s" if is_time and isinstance(value, (int, float)) else str(value)


def opened_folder(run_dir: Optional[str] = None) -> Folder:
    """The folder of sockets and locks. Raises UsageError if it cannot be used, FileNotFoundError if there is none."""
    name = folder_name(run_dir)
    if name is None:
        raise UsageError("saves have no sockets: PYXCSR_RUN_DIR, or the settings file, says so")
    try:
        return Folder(name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"the folder {name} cannot be used: {error.strerror}", errno=error.errno) from None
    except Unusable as problem:
        raise UsageError(str(problem)) from None


def running(
    run_dir: Optional[str] = None, killed: Optional[Callable[[int], object]] = None
) -> list[RunningSave]:
    """The saves that pyxcsr makes on this machine now, by domid.

    ``run_dir``: where they have their sockets, if not in /run/pyxcsr. ``killed``: is called with the domid of each
    guest whose save was killed outright, by SIGKILL for example: `pyxcsr recover` undoes what that has left in the
    guest. The socket and the lock of that save are then removed, so that it is told once; without ``killed`` they stay.
    Raises UsageError if that folder cannot be used.
    """
    if killed is not None:
        check_callback("killed", killed, "a function of a domid")
    found = []
    try:
        with opened_folder(run_dir) as folder:
            for domid in sorted({*folder.domids(), *listeners(folder)}):
                holder = _holder(folder, domid, killed)
                if holder is not None:
                    found.append(RunningSave(folder.path, domid, holder))
    except FileNotFoundError:
        pass
    return found


def _holder(folder: Folder, domid: int, killed: Optional[Callable[[int], object]]) -> Optional[Holder]:
    try:
        holder = holder_of(folder, domid)
        if holder is not None and not holder.pid:  # it has its lock, and is about to write who it is
            time.sleep(0.02)
            holder = holder_of(folder, domid)
        dead = holder is None and killed is not None and sweep(folder, domid)
    except (OSError, Unusable):  # what is not ours is no save of ours
        return None
    if dead and killed is not None:
        killed(domid)
    return holder


def running_save(
    guest: Union[int, str], run_dir: Optional[str] = None, killed: Optional[Callable[[int], object]] = None
) -> RunningSave:
    """The save of one guest, by domid or name. Raises UsageError if it is not being saved, and ControlError if that
    is not known, because a save does not say its guest's name now. An error says by notes of saves that were killed;
    otherwise ``killed`` is told, as by :func:`running`."""
    dead: list[int] = []
    try:
        found = _found(guest, run_dir, running(run_dir, dead.append))
    except XcsrError as error:
        for domid in dead:
            note(error, was_killed(domid))
        raise
    for domid in dead:
        if killed is not None:
            killed(domid)
    return found


def _found(guest: Union[int, str], run_dir: Optional[str], saves: list[RunningSave]) -> RunningSave:
    for save in saves:
        if str(save.domid) == str(guest):
            return save
    silent = []
    for save in saves:
        try:
            if save.status()["guest"] == guest:
                return save
        except XcsrError:
            if is_being_saved(save.domid, run_dir):  # else it is over
                silent.append(save)
    if silent and not str(guest).isdigit():
        raise _nameless(guest, silent)
    others = ", ".join(str(x.domid) for x in saves)
    text = f"{guest!r} is not being saved by pyxcsr on this machine" + (f" (domain {others} is)" if others else "")
    raise UsageError(text, **({"domid": guest} if isinstance(guest, int) else {}))


def _nameless(guest: Union[int, str], silent: list[RunningSave]) -> ControlError:
    domains = " and ".join(str(x.domid) for x in silent)
    return ControlError(
        f"it is not known whether {guest!r} is being saved: the save of domain {domains} does not answer now, as while "
        "its guest is being suspended. Name the guest by its id, or try again",
        domid=silent[0].domid, pid=silent[0].pid, untouched=True,
    )  # fmt: skip
