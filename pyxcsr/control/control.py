"""One save's control: whom it tells what it does, and who may steer it. For the saver, which asks when it has time."""

from __future__ import annotations

import errno
import time

from pyxcsr.control.names import DEFAULT, folder_name
from pyxcsr.errors import BeingSaved, UsageError, XcsrError
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import ExitStack

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional, Union

    from pyxcsr.control.feed import Feed
    from pyxcsr.control.outlet import EventsFile
    from pyxcsr.control.server import Client, Server
    from pyxcsr.control.steered import Steered
    from pyxcsr.report import Progress

BETWEEN = 0.05
"""Seconds between two looks at the socket."""

QUIET = 1.0
"""From the moment in which the guest is asked to suspend, nothing is done for anybody for so long: a guest waits for
the save. A pause that lasts longer than that is one that somebody may want to see, or to end."""


NOR_ANOTHER = ", and a second save of the guest would not be noticed"
"""Where there is no lock."""


class Control:
    """Makes a save visible to `pyxcsr watch`, and steerable by `pyxcsr tune` and `cancel`. An object serves one save.

    ``run_dir``: the folder for its socket and its lock. None: /run/pyxcsr for a guest of Xen; and nothing for one of
    the stub, which no other process can reach. "" or "none": neither socket nor lock. ``events``: a file that events
    are appended to, or a descriptor: lines of JSON (docs/control.md). Raises UsageError if it cannot be opened.

    If the folder cannot be used the save goes on without it, and has a warning in its report.

    As a context around a save that succeeds it keeps the lock until the context ends, or ``let_go`` is called: nobody
    else saves a guest of which it is yet to be decided what becomes of it. Else the lock ends with the save.
    """

    __slots__ = (
        "_cancel", "_claimed", "_entered", "_feed", "_file", "_held", "_locked", "_next", "_quiet_until", "_run_dir",
        "_save", "_seen", "_server",
    )  # fmt: skip

    def __init__(self, run_dir: Optional[str] = None, events: Union[str, int, None] = None) -> None:
        if not (run_dir is None or isinstance(run_dir, str)):
            raise UsageError(f"run_dir is {run_dir!r}: give a folder's path")
        self._run_dir, self._entered = run_dir, 0
        self._held, self._seen = ExitStack(), ExitStack()  # the lock, and by what others see the save
        self._file = None if events is None or events == "" else _opened(events)
        if self._file is not None:
            self._seen.callback(self._file.close)
        self._claimed = self._locked = False
        self._save: Optional[Steered] = None
        self._feed: Optional[Feed] = None
        self._server: Optional[Server] = None
        self._cancel, self._next, self._quiet_until = False, 0.0, 0.0

    # -- for the saver

    def claim(self) -> None:
        """Before all else: it is this save's from now on, to be begun and ended. Raises UsageError if it was another's.

        What it held is closed when that one ends: the number of its descriptor may be the next stream's.
        """
        if self._claimed:
            raise UsageError("this pyxcsr.Control has served a save already: make another one for each save")
        self._claimed = True

    def begin(self, save: Steered, backend: str, out: int) -> None:
        """The save is about to begin. Raises BeingSaved if there is another one of this guest; nothing else.

        ``backend``: the hypervisor's name; ``out``: the descriptor that the stream goes to in the end.
        """
        self._save = save
        name = folder_name(self._run_dir, DEFAULT if backend == "xen" else None)
        try:
            if name is not None:
                self._enter(name, save.report.domid)
        except BeingSaved:
            raise
        except Exception as problem:  # whatever it is: the save goes on without
            self._warn(f"`pyxcsr watch` does not see this save{'' if self._locked else NOR_ANOTHER}: {problem}")
        self._check_file(out)
        if self._server is not None or self._file is not None:
            from pyxcsr.control.feed import Feed

            self._feed = Feed(save, self._server, self._file)
            self._guarded(self._begun)

    @property
    def locked(self) -> bool:
        """Whether this save has its guest's lock: no other one of this guest begins through this package."""
        return self._locked

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the save to end. Never true once the stream is complete."""
        return self._cancel

    @property
    def listens(self) -> bool:
        """Whether anybody sees what is told."""
        return self._feed is not None

    def serve(self) -> None:
        """To be called often, at points where the save can bear it. Never raises, never waits."""
        if self._feed is None:
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + BETWEEN
            self._guarded(self._look)

    def told(self, now: Progress) -> None:
        """Takes what the save tells of its progress. Never raises, never waits."""
        if self._feed is None:
            return
        self._guarded(lambda: self._note(now))
        if now.phase == "suspend":
            self._next = self._quiet_until = time.monotonic() + QUIET

    def goes_on(self) -> None:
        """The guest runs again, and the save goes on: it can bear looks at the socket from now on. Never raises."""
        self._next = self._quiet_until = 0.0

    def asks_to_cancel(self) -> bool:
        """For whoever waits within the save: serves, and tells whether the wait is to end."""
        self.serve()
        return self._cancel

    def end(self, error: Optional[BaseException] = None) -> None:
        """The save has ended, by ``error`` if it failed: tells it, and takes the socket away. Never raises.

        The lock goes, too, unless the save has succeeded and this is the context of more. Again: nothing more is told.
        """
        self._claimed = True
        if self._feed is not None:
            self._guarded(lambda: self._last(error))
        self._feed = self._server = None
        self._close(self._seen)
        if self._entered == 0 or error is not None:
            self._close(self._held)

    def let_go(self) -> None:
        """The save is over, and so is what was yet to be done with the guest: the lock goes. Never raises."""
        self._close(self._held)

    def leave(self) -> None:
        """The save has succeeded, and the process ends without returning from it: the lock goes as well, in whatever
        context this is. One that is left behind is of a save that was killed. Never raises."""
        self.end()
        self.let_go()

    def __enter__(self) -> Control:
        self._entered += 1
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._entered -= 1
        self.end(error)

    # -- within

    def _close(self, held: ExitStack) -> None:
        try:
            held.close()
        except Exception as problem:  # the save has succeeded or failed before
            self._warn(f"the save's control could not be tidied up: {problem}")

    def _warn(self, text: str) -> None:
        if self._save is not None:
            self._save.report.warnings.append(text)

    def _guarded(self, act: Any) -> None:
        """Does it; if that fails nobody is told anything any more, and the save goes on."""
        try:
            act()
        except Exception as problem:
            server, self._feed, self._server = self._server, None, None
            self._warn(f"`pyxcsr watch` does not see this save any more: {type(problem).__name__}: {problem}")
            if server is not None:
                server.abandon()

    def _enter(self, name: str, domid: int) -> None:
        from pyxcsr.control.folder import Folder
        from pyxcsr.control.lock import GuestLock, Held, was_killed
        from pyxcsr.control.server import Server

        folder = Folder(name, make=True)
        self._held.callback(folder.close)
        try:
            lock = GuestLock(folder, domid)
        except Held as held:
            raise BeingSaved(
                f"domain {domid} is being saved by {held.holder} already: nothing was done",
                domid=domid, errno=errno.EBUSY, pid=held.holder.pid, program=held.holder.program,
            ) from None  # fmt: skip
        self._held.callback(lock.release)
        self._locked = True
        if lock.former.pid:
            self._warn(f"{was_killed(domid)}, once this save is over")
        self._server = Server(folder, domid, self._answer)
        self._seen.callback(self._server.abandon)

    def _check_file(self, out: int) -> None:
        if self._file is not None and self._file.is_same(out):
            file, self._file = self._file, None
            file.close()
            self._warn(f"events are not written to {file.name}: the stream goes there")

    def _begun(self) -> None:
        assert self._feed is not None
        self._feed.begin()
        self._feed.flush()

    def _note(self, now: Progress) -> None:
        assert self._feed is not None
        self._feed.progress(now)
        if time.monotonic() >= self._quiet_until:
            self._hand_on()

    def _hand_on(self) -> None:
        assert self._feed is not None
        self._feed.flush()
        if self._server is not None:
            self._server.flush()

    def _look(self) -> None:
        feed, save = self._feed, self._save
        assert feed is not None and save is not None
        feed.flush()
        if self._server is not None:
            self._server.serve()
        if feed.wanted:
            feed.progress(save.now())
        self._hand_on()

    def _last(self, error: Optional[BaseException]) -> None:
        assert self._feed is not None
        told = self._feed.end(error)
        self._feed.last(told)
        if self._server is not None:
            from pyxcsr.control import events

            self._server.close(lambda: events.line(told))

    # -- what clients ask

    def _answer(self, client: Client, data: bytes) -> None:
        from pyxcsr.control import events
        from pyxcsr.control.requests import BadRequest

        try:
            told = self._done(client, data)
        except BadRequest as problem:
            told = events.event("error", {"message": str(problem)})
        if told is not None:
            client.out.put(events.line(told))

    def _done(self, client: Client, data: bytes) -> Optional[dict[str, Any]]:
        """Does what is asked. Returns the answer, or None if the client gets it as an event. Raises BadRequest."""
        from pyxcsr.control import events
        from pyxcsr.control.requests import CANCEL, TUNE, WATCH, BadRequest, parsed

        feed, save = self._feed, self._save
        assert feed is not None and save is not None
        action, asked = parsed(data, events.VERSION)
        if action in (TUNE, CANCEL) and save.complete:
            raise BadRequest("the stream is complete already")
        if action == TUNE:
            self._tune(save, asked)
            told = feed.changed("tuned")
            return None if client.watches else told
        if action == CANCEL:
            self._cancel = client.watches = True  # who cancels is told of the end
            feed.changed("cancelling")
            return None
        client.watches = client.watches or action == WATCH
        return feed.status()

    def _tune(self, save: Steered, asked: dict[str, Any]) -> None:
        from pyxcsr.control.requests import SUSPEND_NOW, BadRequest, check_in_time, tuned

        goes_on = save.report.checkpoints
        over = save.suspended or (goes_on is not None and goes_on.count > 0)  # whether or not it runs between two
        if asked.get(SUSPEND_NOW) and over:
            raise BadRequest("the guest has been suspended already")
        new = tuned(
            asked, save.limits, save.policy, save.report.live, save.now().seconds, goes_on is not None, save.verify
        )
        check_in_time(asked, save.limits, new, decided=save.decided, suspended=over)
        if new.values["throttle"] and not (save.limits.throttle or save.suspended):
            _check_throttle(save)
        new.apply(save.limits)
        if new.policy is not None:
            save.change_policy(new.policy)


def _check_throttle(save: Steered) -> None:
    """As at the start of a save."""
    from pyxcsr.control.requests import BadRequest

    try:
        save.check_throttle()
    except XcsrError as problem:
        raise BadRequest(str(problem)) from None


def _opened(where: Union[str, int]) -> EventsFile:
    from pyxcsr.control.outlet import EventsFile

    try:
        return EventsFile(where)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"events cannot be written to {where}: {why}") from None
