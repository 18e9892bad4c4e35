"""The save algorithm: from a running guest to a complete libxc migration stream.

It is handed an open hypervisor and an open output, and knows neither libxenctrl nor files.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Optional, Protocol, Union

from pyxcsr.errors import (
    Cancelled,
    DomainDying,
    GuestStateError,
    HypervisorError,
    NotSupported,
    OutputError,
    P2mChanged,
    PageError,
    PageTableError,
    SuspendError,
    UsageError,
    XcsrError,
)
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.guest.ops import SaveOps
from pyxcsr.guest.save_table import save_ops
from pyxcsr.hypervisor.interface import (
    BatchResult,
    DomainInfo,
    Hypervisor,
    SaveHandle,
    SinkHandle,
)
from pyxcsr.policy import (
    DEFAULT_MAP_AHEAD,
    DEFAULT_P2M_CHANGES,
    P2M_CHANGES,
    Decision,
    P2mLimits,
    Policy,
    PrecopyStats,
    SimplePolicy,
    map_ahead_here,
)
from pyxcsr.report import P2mReport, PassReport, Progress, ProgressCallback, SaveReport
from pyxcsr.stream.records import End, Record, StaticDataEnd, Verify, domain_header, frame, image_header
from pyxcsr.suspend import XenstoreSuspend
from pyxcsr.transfer.following import Following

END = frame(End())

Suspend = Callable[[], None]
Cancel = Callable[[], bool]
Complete = Callable[[SaveReport], None]


class HasFileno(Protocol):
    """An open file, pipe or socket object."""

    def fileno(self) -> int:
        """Its descriptor."""


def save(
    hv: Hypervisor,
    domid: int,
    out: Union[int, HasFileno],
    *,
    live: bool = True,
    verify: bool = False,
    policy: Optional[Policy] = None,
    suspend: Optional[Suspend] = None,
    progress: Optional[ProgressCallback] = None,
    cancel: Optional[Cancel] = None,
    complete: Optional[Complete] = None,
    durable: bool = False,
    p2m_changes: str = DEFAULT_P2M_CHANGES,
    p2m_limits: Optional[P2mLimits] = None,
    map_ahead: Optional[bool] = DEFAULT_MAP_AHEAD,
) -> SaveReport:
    """Saves a domain into ``out``, a descriptor or an object that has one, as a libxc v3 stream.

    ``live``: copy while the guest runs, suspend it only for the last pass; else suspend first.
    ``verify``: send all pages a second time, the guest still suspended, for the receiver to compare (VERIFY).
    ``policy``: when to stop copying (:class:`SimplePolicy` with libxenguest's numbers by default).
    ``suspend``: suspends the domain and returns, or raises; by default through xenstore. If it has a method
    ``resume``, that is called when the save fails after it suspended the domain; if it has a method ``check``, that is
    called before anything is copied, and may raise.
    ``progress``: called with a :class:`Progress` a few times a second at most, and at each change of phase.
    ``cancel``: polled at least ten times a second, also while the output is stalled; True ends the save.
    ``complete``: called with the report as soon as the stream is complete and log-dirty mode is off, before anything is
    unmapped, which takes its time: the guest may go on, or be destroyed, from there on.

    ``durable``: the caller makes a file durable afterwards (fsync): its pages go to the disk while others are copied.
    ``p2m_changes``: "follow": a guest that changes its p2m during the save, its structure or what is in it, is saved as
    it is when it is suspended; "abort": a change of structure ends the save, and ballooning is not looked for.
    ``p2m_limits``: how often a change is followed (:class:`P2mLimits`); beyond, the policy may suspend the guest.
    ``map_ahead``: a second thread maps the next pages and unmaps the last ones while this one writes: True, False, or
    None: if this process has a second processor, and once the pages so far have shown that mapping takes its time (300
    microseconds for 1024 pages) and writing a quarter of that at least. The stream is the same. What cannot be started
    is a warning in the report if True asked for it; ``mapped_ahead`` there says how much was done that way.

    On success the stream is complete and the guest is *suspended*: resume or destroy it. On failure the stream
    is incomplete (it has no END record), log-dirty mode is off, nothing is mapped, and the guest runs if it ran
    before and ``suspend`` can resume it. (Should ``complete`` raise, or ``progress`` at "done", the stream is complete
    all the same, and the guest stays suspended: whoever has the stream may go on with it.) Raises XcsrError:
    DomainNotFound, DomainDying, NotSupported, LogDirtyUnsupported, P2mError, P2mChanged, PageTableError, PageError,
    GuestStateError, SuspendError, OutputError, Cancelled, HypervisorError.
    """
    if p2m_changes not in P2M_CHANGES:
        raise UsageError(f"p2m_changes is {p2m_changes!r}, not one of {', '.join(P2M_CHANGES)}")
    if not (map_ahead is None or isinstance(map_ahead, bool)):
        raise UsageError(f"map_ahead is {map_ahead!r}, not True, False or None")
    p2m = P2mReport(changes=p2m_changes)
    limits = p2m_limits or P2mLimits()
    policy = policy or SimplePolicy()
    calls = (suspend, progress, cancel, complete)
    saver = _Saver(hv, domid, live, verify, policy, *calls, durable, p2m, limits, map_ahead)
    return saver.run(out)


class _Saver:
    """One save."""

    def __init__(
        self,
        hv: Hypervisor,
        domid: int,
        live: bool,
        verify: bool,
        policy: Policy,
        suspend: Optional[Suspend],
        progress: Optional[ProgressCallback],
        cancel: Optional[Cancel],
        complete: Optional[Complete],
        durable: bool,
        p2m: P2mReport,
        limits: P2mLimits,
        map_ahead: Optional[bool],
    ) -> None:
        self._hv, self._domid, self._live, self._verify, self._policy = hv, domid, live, verify, policy
        self._suspend: Suspend = suspend or XenstoreSuspend(hv, domid, cancel=cancel)
        self._progress, self._cancel, self._complete, self._durable = progress, cancel, complete, durable
        self._p2m, self._limits, self._map_ahead = p2m, limits, map_ahead
        self._following: Optional[Following] = None
        self._began = time.monotonic()
        self._shown = 0.0
        self._suspended_at: Optional[float] = None
        self._seconds_suspending = 0.0
        self._complete_at: Optional[int] = None  # the offset at which the stream has its END
        self._ops: SaveOps
        self._save: SaveHandle
        self._sink: SinkHandle
        self._report: SaveReport

    # -- the way through

    def run(self, out: Union[int, HasFileno]) -> SaveReport:
        info = self._check_domain(self._hv.domain_info(self._domid))
        self._new_ops(info).check()
        check: Optional[Callable[[], None]] = getattr(self._suspend, "check", None)
        if check is not None and not info.suspended:
            check()
        with ExitStack() as stack:
            self._sink = self._hv.open_sink(_descriptor(out))
            self._release_by(stack, self._sink.close)
            if self._durable:
                self._sink.durable(info.tot_pages * PAGE_SIZE)
            if self._p2m.changes == "follow" and not self._live:
                with self._guest_goes_on_if_this_fails(info):
                    self._suspend_guest(info)  # now, so that nothing of its p2m can change after it was looked at
                    self._set_up(stack, self._hv.domain_info(self._domid))
                    self._stream(info)
            else:
                self._set_up(stack, info)
                with self._guest_goes_on_if_this_fails(info):
                    self._stream(info)
        self._report.seconds = time.monotonic() - self._began
        return self._report

    def _new_ops(self, info: DomainInfo) -> SaveOps:
        return save_ops(self._hv, info, self._poll, self._p2m, self._limits.settle_seconds)

    def _set_up(self, stack: ExitStack, info: DomainInfo) -> None:
        self._ops = self._new_ops(info)
        self._release_by(stack, self._ops.cleanup)
        self._tell("setup")
        self._ops.setup()
        self._report = self._new_report(info)
        self._save = self._hv.new_save(self._domid, self._ops.nr_pfns, self._ops.p2m)
        self._release_by(stack, self._save.close)
        self._begin_ahead()
        if self._p2m.changes == "follow" and self._live:  # else the guest is suspended by now, and nothing can change
            self._following = Following(self._ops, self._save, self._write, self._limits, self._p2m)

    def _begin_ahead(self) -> None:
        try:
            self._save.map_ahead(map_ahead_here(self._map_ahead))
        except HypervisorError as problem:
            self._report.warnings.append(f"no pages are mapped ahead: {problem}")

    def _release_by(self, stack: ExitStack, release: Callable[[], None]) -> None:
        """Has the stack call ``release``. Should that fail, it does not hide an earlier error, nor undo a success."""

        def at_exit(kind: object, error: Optional[BaseException], trace: object) -> None:
            try:
                release()
            except Exception as problem:
                if error is not None:
                    _note(error, f"besides: {problem}")
                else:
                    self._report.warnings.append(str(problem))

        stack.push(at_exit)

    def _new_report(self, info: DomainInfo) -> SaveReport:
        return SaveReport(
            domid=self._domid,
            live=self._live,
            nr_pfns=self._ops.nr_pfns,
            nr_vcpus=info.nr_online_vcpus,
            p2m_generation=self._ops.p2m_generation,
            p2m=self._p2m,
        )

    def _stream(self, info: DomainInfo) -> None:
        major, minor = self._hv.xen_version()
        self._put(image_header() + domain_header(self._ops.domain_type, major, minor))
        self._write(self._ops.static_data())
        self._write([StaticDataEnd()])
        self._write(self._ops.start_of_stream())
        self._write(self._ops.start_of_checkpoint())
        with self._logdirty():
            if self._live:
                self._precopy()
                self._rehearse()
            if self._suspended_at is None:
                self._suspend_guest(info)
            self._last_pass()
            if self._verify:
                self._verify_pass()
            self._tell("tail")
            self._poll()
            tail = self._tail()
            self._complete_at = self._sink.offset + len(tail)
            self._put(tail)
            now = time.monotonic()
        self._report.bytes = self._sink.offset
        self._report.nr_pfns = self._ops.nr_pfns
        self._report.seconds_suspending = self._seconds_suspending
        self._report.seconds_paused = now - (self._suspended_at or now)
        self._report.seconds = time.monotonic() - self._began
        if self._complete is not None:
            self._complete(self._report)
        self._tell("done")

    def _check_domain(self, info: DomainInfo) -> DomainInfo:
        if info.dying:
            raise DomainDying(f"domain {info.domid} is being destroyed", domid=info.domid)
        if info.shutdown and not info.suspended:
            text = f"domain {info.domid} has shut down ({info.shutdown_name}); there is nothing to save"
            raise DomainDying(text, domid=info.domid)
        if info.suspended and self._live:
            raise UsageError(f"domain {info.domid} is suspended already: save it non-live", domid=info.domid)
        return info

    def _tail(self) -> bytes:
        """All that follows the pages, gathered: a paused guest waits for one write and not for several a vcpu."""
        resumed = "has not stayed suspended while it was being saved: somebody resumed it"
        try:
            tail = self._ops.end_of_checkpoint() + END
        except XcsrError:  # of a guest that runs anything may be said
            self._check_suspended(resumed)
            raise
        self._check_suspended(resumed)
        return tail

    # -- memory

    @contextmanager
    def _logdirty(self) -> Iterator[None]:
        """Log-dirty mode around a live save. Left on once the stream is complete it is a warning, no failure."""
        if self._live:
            self._report.logdirty_retried = self._save.logdirty_enable()
            if self._following:
                self._following.tracked()
        try:
            yield
        except BaseException as error:
            try:
                self._logdirty_off()
            except Exception as problem:
                _note(error, f"besides: {problem}")
            raise
        try:
            self._logdirty_off()
        except HypervisorError as problem:
            self._report.warnings.append(str(problem))

    def _logdirty_off(self) -> None:
        """Tried twice: a guest whose writes are tracked for ever is a slow guest."""
        try:
            self._save.logdirty_disable()
        except HypervisorError:
            self._save.logdirty_disable()

    def _precopy(self) -> None:
        """Copies until the policy says that the rest may be copied while the guest is suspended."""
        self._save.mark_all()
        dirty, decision = self._ops.nr_pfns, Decision.CONTINUE
        while True:
            self._report.passes.append(self._pass("pass", dirty, suspended=False))
            if self._following and self._following.restless:
                self._stop_restless(self._following.restless)
                return
            if decision is not Decision.CONTINUE or self._ask(None) is not Decision.CONTINUE:
                return
            dirty = self._fetch_dirty(final=False)
            decision = self._ask(dirty)

    def _fetch_dirty(self, *, final: bool) -> int:
        """Marks what the next pass has to send; returns how many pfns that is."""
        dirty = self._save.logdirty_clean(final)
        if self._following is None:
            return dirty + self._save.merge_deferred()
        self._following.fetched()
        if final:
            self._following.settle()
        else:
            self._following.look()
        return dirty + self._save.merge_deferred() + self._following.sweep(whole=not final)

    def _stop_restless(self, why: str) -> None:
        """The guest cannot be followed while it runs: may it be suspended now?"""
        if self._ask(None, restless=True) is not Decision.STOP_AND_COPY:
            raise P2mChanged(
                f"domain {self._domid}: {why}. The policy does not let it be suspended for that",
                field="p2m_generation",
                value=self._ops.p2m_generation,
                follows=self._p2m.follows,
            )

    def _ask(self, dirty: Optional[int], restless: bool = False) -> Decision:
        passes = self._report.passes
        stats = PrecopyStats(
            iteration=len(passes),
            dirty_count=dirty,
            nr_pfns=self._ops.nr_pfns,
            pages_sent=self._report.pages,
            bytes_sent=self._sink.offset,
            seconds=time.monotonic() - self._began,
            last_bytes=passes[-1].bytes,
            last_seconds=passes[-1].seconds,
            p2m_restless=restless,
        )
        decision = self._policy(stats)
        if decision is Decision.ABORT:
            raise Cancelled(
                f"the policy ended the save of domain {self._domid} after {stats.iteration} passes, with "
                f"{'an unknown number of' if dirty is None else dirty} pages dirty",
                domid=self._domid,
            )
        return decision

    def _last_pass(self) -> None:
        if self._live:
            dirty = self._fetch_dirty(final=True)
        else:
            self._save.mark_all()
            dirty = self._ops.nr_pfns
        self._report.passes.append(self._pass("final", dirty, suspended=True))
        self._write(self._ops.end_of_pages())

    def _verify_pass(self) -> None:
        """All pages once more, for the receiver to compare with what it has."""
        self._write([Verify()])
        self._save.mark_all()
        self._report.verify = self._pass("verify", self._ops.nr_pfns, suspended=True)
        self._write(self._ops.end_of_pages())

    def _pass(self, phase: str, dirty: int, *, suspended: bool) -> PassReport:
        done = PassReport(len(self._report.passes), suspended, dirty)
        began, offset, looked_at = time.monotonic(), self._sink.offset, 0
        if self._following:
            self._following.begin_pass()
        self._check_iteration(suspended)
        self._save.pass_begin(suspended)
        more = dirty > 0
        while more:
            self._poll()
            batch = self._batches(suspended)
            _add(done, batch)
            self._report.mapped_ahead += batch.nr_ahead
            looked_at += batch.nr_pfns
            self._tell(phase, done, looked_at, often=True)
            more = not batch.done
            if self._following and not suspended:
                self._following.look()
        self._check_iteration(suspended)
        done.seconds, done.bytes = time.monotonic() - began, self._sink.offset - offset
        self._tell(phase, done, looked_at)
        return done

    def _batches(self, suspended: bool) -> BatchResult:
        """A page that cannot be sent of a suspended guest: because its p2m has changed? Then that is the error."""
        try:
            return self._save.batches(self._sink, self._poll)
        except (PageError, PageTableError):
            if suspended:
                self._write(self._ops.check_iteration())
            raise

    def _check_iteration(self, suspended: bool) -> None:
        if self._following and not suspended:
            self._following.look()
        else:
            self._write(self._ops.check_iteration())

    # -- the guest

    def _rehearse(self) -> None:
        """Goes through the guest's state once while it still runs.

        What Xen refuses to tell is so found out before the guest has been stopped for it, and code and memory that the
        paused guest would wait for are there: the first time takes several times as long as the second.
        """
        with suppress(GuestStateError):  # vcpu 0 names its start_info only when it is suspended
            self._ops.end_of_checkpoint()

    def _suspend_guest(self, info: DomainInfo) -> None:
        self._tell("suspend")
        asked = time.monotonic()
        if not info.suspended:
            self._suspend()
        self._suspended_at = time.monotonic()
        self._seconds_suspending = self._suspended_at - asked
        self._check_suspended("has not been suspended")

    def _check_suspended(self, otherwise: str) -> None:
        now = self._hv.domain_info(self._domid)
        if now.dying:
            raise DomainDying(f"domain {self._domid} was destroyed while it was being saved", domid=self._domid)
        if not now.suspended:
            raise SuspendError(f"domain {self._domid} {otherwise}", domid=self._domid, reason=now.shutdown_reason)

    @contextmanager
    def _guest_goes_on_if_this_fails(self, before: DomainInfo) -> Iterator[None]:
        """Resumes a guest that was running before, if ``suspend`` knows how; the first error is the one raised.

        Not once the stream is complete: whoever reads it may have the guest running already.
        """
        try:
            yield
        except BaseException as error:
            if self._complete_at is not None and self._sink.offset >= self._complete_at:
                _note(error, f"the stream is complete, and domain {self._domid} stays suspended")
                raise
            resume: Optional[Callable[[], None]] = getattr(self._suspend, "resume", None)
            if resume is not None and not before.suspended:
                self._resume(resume, error)
            raise

    def _resume(self, resume: Callable[[], None], error: BaseException) -> None:
        problem: Optional[Exception] = None
        for _ in range(2):  # a guest left suspended is lost to its users: once more is worth it
            try:
                if self._hv.domain_info(self._domid).suspended:
                    resume()
                elif problem is not None:  # it runs, but not all of the resume succeeded
                    _note(error, f"besides: {problem}")
                return
            except Exception as again:
                problem = again
        _note(
            error,
            f"besides, domain {self._domid} may still be suspended: {problem}; let it go on with "
            f"pyxcsr.open_hypervisor({self._hv.backend!r}).domain_resume({self._domid})",
        )

    # -- output, progress, cancellation

    def _write(self, records: Iterable[Record]) -> None:
        for record in records:
            self._put(frame(record))

    def _put(self, data: bytes) -> None:
        self._sink.write(data, self._poll)

    def _poll(self) -> None:
        if self._cancel is not None and self._cancel():
            raise Cancelled(f"the save of domain {self._domid} was cancelled", domid=self._domid)

    def _tell(self, phase: str, done: Optional[PassReport] = None, looked_at: int = 0, often: bool = False) -> None:
        now = time.monotonic()
        if self._progress is None or (often and now - self._shown < 0.1):
            return
        self._shown = now
        dirty = done.dirty if done else 0
        iteration = done.iteration if done else len(self._report.passes) if hasattr(self, "_report") else 0
        sent, seconds = self._sink.offset, now - self._began
        p2m = self._p2m
        self._progress(Progress(phase, iteration, looked_at, dirty, sent, dirty, seconds, p2m.follows, p2m.resent))


def _add(done: PassReport, batch: BatchResult) -> None:
    done.pages += batch.nr_pages
    done.holes += batch.nr_holes
    done.deferred += batch.nr_deferred
    done.tables += batch.nr_tables


def _descriptor(out: Union[int, HasFileno]) -> int:
    if isinstance(out, int):
        return out
    flush: Any = getattr(out, "flush", None)
    try:
        if flush is not None:
            flush()  # what Python still holds must come first
    except OSError as error:
        raise OutputError(f"cannot write the stream: {error}", errno=error.errno or 0, offset=0) from error
    except ValueError as error:  # a closed file
        raise OutputError(f"cannot write the stream: {error}", errno=errno.EBADF, offset=0) from error
    try:
        return out.fileno()
    except (AttributeError, OSError) as error:
        raise NotSupported(f"a stream is written to a file descriptor; {type(out).__name__} has none") from error


def _note(error: BaseException, text: str) -> None:
    """Adds to an error what went wrong besides, on every Python."""
    if hasattr(error, "add_note"):
        error.add_note(text)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}; {text}", *error.args[1:])
