"""The save algorithm: from a running guest to a complete libxc migration stream.

It is given an open hypervisor and an open output, and knows neither libxenctrl nor files. docs/design.md has the steps.
"""

from __future__ import annotations

import time

from pyxcsr.arguments import check_domain
from pyxcsr.control.control import Control
from pyxcsr.errors import (
    Cancelled,
    DomainDying,
    HypervisorError,
    P2mChanged,
    PageError,
    PageTableError,
    UsageError,
    XcsrError,
    touched_by_now,
    untouched_so_far,
)
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.guest.ops import SaveContext
from pyxcsr.guest.save_table import save_ops
from pyxcsr.hypervisor.interface.results import COMPLETE, FETCHED, NOTHING, SENT
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import ExitStack, contextmanager
from pyxcsr.policy import Decision, map_ahead_here
from pyxcsr.report import PassReport, Progress, SaveReport
from pyxcsr.stream.records import End, StaticDataEnd, Verify, domain_header, frame, framed, image_header
from pyxcsr.suspend.base import as_suspend
from pyxcsr.transfer.deadline import Bandwidth, Deadline
from pyxcsr.transfer.deciding import Deciding, name_of
from pyxcsr.transfer.descriptor import Written, output_descriptor, through
from pyxcsr.transfer.ending import Ending
from pyxcsr.transfer.outlook import Outlook
from pyxcsr.transfer.pause import Pause
from pyxcsr.transfer.releasing import ended_by, release_by
from pyxcsr.transfer.steering import Steering
from pyxcsr.transfer.telling import Telling
from pyxcsr.transfer.throttling import Throttling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Optional

    from pyxcsr.guest.ops import Following, SaveOps
    from pyxcsr.hypervisor.interface import BatchResult, DomainInfo, Hypervisor, SaveHandle, SinkHandle
    from pyxcsr.options import SaveOptions
    from pyxcsr.policy import Policy
    from pyxcsr.report import Phase
    from pyxcsr.stream.records import Record
    from pyxcsr.suspend.base import Suspend
    from pyxcsr.transfer.descriptor import Stream, Through
    from pyxcsr.transfer.others import Others

END = frame(End())

LEFT_ON = (
    "log-dirty mode was on already, and was begun anew. A save or a measurement that was killed leaves it on, and "
    "`pyxcsr dirty-rate` leaves it to a save; but if another save uses it that cannot be seen from here, that one's "
    "image and this one are wrong"
)
"""A warning."""

LEFT_ON_HVM = (
    "log-dirty mode was on already, and was begun anew: on a Xen without the fix of XSA-397, QEMU may have it on for "
    "the display; or a save that was killed has left it on"
)
"""The same for an HVM guest, whose QEMU uses log-dirty mode for itself."""

REST = 0.005
"""Seconds between two looks for wishes while the next pass is put off."""


WAIT = 0.001
"""Seconds of sleep before the end is rehearsed: it will come after the wait for the guest to suspend, and code that has
slept runs slower than code that has not."""


class Saver:
    """One save."""

    _ends_at_once = True
    """Whether its last pass may be ended by one call, whose last record is END."""

    def __init__(self, hv: Hypervisor, domid: int, options: SaveOptions) -> None:
        check_domain(hv, domid)
        self._hv, self._domid, self._options = hv, domid, options
        self._control = options.control or Control()
        self._telling = Telling(options.progress, self._control.told, lambda: self._control.listens)
        self._deadline = Deadline(options.limits, domid)
        self._report = SaveReport(domid, options.live, bandwidth_limit=options.limits.bandwidth)
        self._throttling = Throttling(hv, domid, options.limits, self._report)
        self._following: Optional[Following] = None
        self._where: tuple[Phase, Optional[PassReport], int] = ("setup", None, 0)
        self._decided = False
        self._told_of_broken = ""
        self._max_downtime: Optional[float] = None  # as it was when the guest was asked to suspend
        self._left = 0  # pfns of the pass under way that have still to be sent
        self._ending: Optional[Ending] = None
        self._reached = NOTHING
        self._complete_at: Optional[int] = None  # the offset of the stream's last byte, plus 1, once it is known
        self._whole = False
        self._info: DomainInfo
        self._outlook: Outlook
        self._deciding: Deciding
        self._pause: Pause
        self._bandwidth: Optional[Bandwidth] = None
        self._through: Optional[Through] = None
        self._others: Optional[Others] = None
        self._ops: SaveOps
        self._save: SaveHandle
        self._sink: SinkHandle

    def _find_device_model(self, info: DomainInfo) -> None:
        """Without its device model the image of a guest that has one would lack what that writes."""
        if info.hvm and self._options.device_model is None:
            from pyxcsr.transfer.device_model import device_model_found

            self._options.device_model = device_model_found(self._hv, self._domid)

    def _who_suspends(self, info: DomainInfo) -> Suspend:
        options = self._options
        if options.suspend is not None:
            return as_suspend(options.suspend)
        from pyxcsr.suspend.default import default_suspend

        return default_suspend(self._hv, self._domid, info.hvm, options.device_model, self._wants_to_cancel)

    def _forget_wish(self) -> None:
        """The next save that is given the same limits is not to be suspended because it was wished for in this one."""
        self._options.limits.suspend_now = False

    # -- the steps

    def run(self, out: Stream) -> SaveReport:
        """Saves the domain into ``out``; see :func:`pyxcsr.transfer.save.save`."""
        with ExitStack() as stack:
            stack.callback(self._forget_wish)
            with untouched_so_far():
                self._control.claim()
            stack.enter_context(self._control)
            with untouched_so_far():
                info = self._info = self._check_domain(self._hv.domain_info(self._domid))
                self._find_device_model(info)
                self._outlook = Outlook(info.nr_online_vcpus)
                self._pause = Pause(self._hv, self._domid, self._who_suspends(info))
                ops = self._new_ops(info)
                ops.check()
                self._pause.check(info)
                self._report.policy = name_of(self._options.policy)  # which the first event tells
                fd, self._through = output_descriptor(out), through(out)
                goes_to = fd if self._through is None else self._through.out
                self._control.begin(self._steering(), self._hv.backend, goes_to)
                self._refuse_beside_others(info)
                self._throttling.check()  # may give time back: not before it is known that nobody else has taken it
                self._sink = self._hv.open_sink(fd)
            stack.enter_context(touched_by_now())
            release_by(stack, self._sink.close, self._report.warnings)
            self._outlook.room = self._sink.room
            release_by(stack, self._throttling.release, self._report.warnings)
            self._bandwidth = Bandwidth(self._options.limits, self._sink)
            self._outlook.held = self._bandwidth.held
            self._heed_bandwidth(info.suspended)
            if self._options.durable:
                self._sink.durable(info.tot_pages * PAGE_SIZE)
            if ops.suspend_first and not self._options.live:
                with self._pause.ends_if_this_fails(info, self._is_complete):
                    self._suspend_guest()
                    self._set_up(stack, self._hv.domain_info(self._domid))
                    self._stream()
            else:
                self._set_up(stack, info)
                with self._pause.ends_if_this_fails(info, self._is_complete):
                    self._stream()
        self._report.seconds = self._telling.seconds()
        return self._report

    def _refuse_beside_others(self, info: DomainInfo) -> None:
        """After the lock has been taken: of two saves through this package one goes on."""
        if self._hv.backend != "stub":
            from pyxcsr.transfer.others import Others

            self._others = Others(self._hv, self._domid, self._control, self._report.warnings)
            self._others.refuse(info.suspended)

    def _look_for_others(self, often: bool = False) -> None:
        """While the guest runs, and log-dirty mode is on."""
        if self._others is not None:
            self._others.look(often)

    def _steering(self) -> Steering:
        mine = self._now, self._is_complete, self._is_decided, self._new_policy
        return Steering(self._hv, self._report, self._options, self._pause, *mine)

    def _is_decided(self) -> bool:
        return self._decided

    def _new_policy(self, policy: Policy) -> None:
        self._options.policy = policy
        self._report.policy = name_of(policy)
        deciding: Optional[Deciding] = vars(self).get("_deciding")
        if deciding is not None:  # else it will be made with this one
            deciding.change(policy)

    def _new_ops(self, info: DomainInfo) -> SaveOps:
        return save_ops(SaveContext(self._hv, info, self._options, self._poll, self._report))

    def _set_up(self, stack: ExitStack, info: DomainInfo) -> None:
        self._ops = self._new_ops(info)
        release_by(stack, self._ops.cleanup, self._report.warnings)
        self._tell("setup")
        self._ops.setup()
        self._report.nr_pfns, self._report.p2m_generation = self._ops.nr_pfns, self._ops.p2m_generation
        self._report.nr_vcpus = info.nr_online_vcpus
        self._save = self._hv.new_save(self._domid, self._ops.nr_pfns, self._ops.p2m)
        release_by(stack, self._save.close, self._report.warnings)
        self._deciding = Deciding(
            self._options.policy, self._report, self._outlook, self._save.logdirty_count, self._throttling
        )
        self._begin_ahead()
        if self._options.live:
            self._following = self._ops.following(self._save, self._write)
            if self._physmap is not None:
                self._pause.watched_by(self._watch)
                stack.callback(self._pause.watched_by, lambda: None)

    @property
    def _physmap(self) -> Optional[Following]:
        """What follows an HVM or PVH guest's physmap in a live save. A PV guest's p2m tells later what has changed."""
        return self._following if self._following is not None and self._ops.p2m is None else None

    def _begin_ahead(self) -> None:
        try:
            self._save.map_ahead(map_ahead_here(self._options.map_ahead))
        except HypervisorError as problem:
            self._report.warnings.append(f"no pages are mapped ahead: {problem}")

    def _is_complete(self) -> bool:
        at = self._complete_at
        if at is None and self._ending is not None:
            at = self._ending.complete_at
        if at is not None and not self._whole:
            self._whole = self._sink.offset >= at and (self._through is None or self._through.finished)
        return self._whole

    def _stream(self) -> None:
        major, minor = self._hv.xen_version()
        self._put(image_header() + domain_header(self._ops.domain_type, major, minor))
        self._write(self._ops.static_data())
        self._write([StaticDataEnd()])
        self._write(self._ops.start_of_stream())
        self._write(self._ops.start_of_checkpoint())
        with self._logdirty():
            if self._options.live:
                self._logdirty_on()
                self._precopy()
                self._decided = True
            if not self._pause.begun:
                self._rehearse()
                self._suspend_guest()
            self._while_suspended()
        if self._reached == COMPLETE:
            self._note_end()
        self._report.bytes = self._sink.offset
        self._report.nr_pfns = self._ops.nr_pfns
        self._report.seconds_suspending = self._pause.seconds_suspending
        self._report.seconds = self._telling.seconds()
        if self._options.complete is not None:
            self._throttling.release_at_end()
            self._options.complete(self._report)
        self._tell("done")

    def _while_suspended(self) -> None:
        """From the guest's suspension to the stream's last byte."""
        self._reached = self._end_at_once()
        if self._reached < COMPLETE:
            self._end_step_by_step(self._reached)
        else:
            self._finish()
        self._paused(self._pause.seconds())
        self._warn_of_broken()

    def _warn_of_broken(self) -> None:
        """A warning of lost pages. It replaces the one of an earlier checkpoint."""
        nr, first = self._save.broken(4)
        warnings, told = self._report.warnings, self._told_of_broken
        if told in warnings:
            warnings.remove(told)
        if nr:
            pfns = ", ".join(hex(x) for x in first) + (", ..." if nr > len(first) else "")
            self._told_of_broken = (
                f"the hardware has lost the content of {nr} of the guest's pages, which the stream does not have "
                f"(BROKEN: pfn {pfns}); a restored guest finds them empty, or gone, and may not run on"
            )
            warnings.append(self._told_of_broken)

    def _end_at_once(self) -> int:
        """The last pass, the guest's state and END in one call, if that was prepared. Returns how far it has come."""
        ending = self._ending
        if ending is None or not ending.ready or (self._following is not None and self._following.moving):
            return NOTHING
        self._poll()
        return ending.run(self._sink, self._again_at_end, lambda: self._check_iteration(True), self._check_lasts)

    def _again_at_end(self) -> None:
        """Called now and then, and once when the pass is over."""
        ending = self._ending
        assert ending is not None
        if self._where[0] != "tail":
            is_over = ending.is_over()
            if self._telling.is_due(often=not is_over):
                done = ending.last_pass(len(self._report.passes), self._telling.until)
                self._tell("final", done, ending.looked_at(), often=not is_over)
            if is_over:
                self._tell("tail")
        self._poll()

    def _end_step_by_step(self, reached: int) -> None:
        """The same, from where ``reached`` says on; what has been done is not done again."""
        if reached == NOTHING and self._ending is not None and self._ending.ready:
            self._pause.check_begun()
        self._last_pass(reached)
        if self._options.verify:
            self._verify_pass()
        self._tell("tail")
        self._poll()
        self._put_last(self._tail(END))

    def _put_last(self, tail: bytes) -> None:
        """Writes the end of the stream. Once its last byte is out the guest stays suspended, whatever happens."""
        self._complete_at = self._sink.offset + len(tail)
        self._put(tail)
        self._finish()

    def _note_end(self) -> None:
        """What the one call has done, put into the report."""
        assert self._ending is not None
        self._ending.note()
        self._report.passes.append(self._ending.last_pass(len(self._report.passes), self._telling.until))
        self._report.mapped_ahead += self._ending.mapped_ahead()
        self._deciding.finish()

    def _check_domain(self, info: DomainInfo) -> DomainInfo:
        if info.dying:
            raise DomainDying(f"domain {info.domid} is being destroyed", domid=info.domid)
        if info.shutdown and not info.suspended:
            text = f"domain {info.domid} has shut down ({info.shutdown_name}); there is nothing to save"
            raise DomainDying(text, domid=info.domid)
        if info.suspended and self._options.live:
            raise UsageError(f"domain {info.domid} is suspended already: save it non-live", domid=info.domid)
        return info

    def _rehearse(self) -> None:
        if self._options.live:
            began = time.monotonic()
            try:
                self._ops.rehearse(self._save)
            except HypervisorError:  # of a domain that is being destroyed Xen tells nothing more
                self._pause.check_alive()
                raise
            self._outlook.rehearsed(time.monotonic() - began, at_once=False)
            if self._ends_at_once and not self._options.verify:
                self._ending = Ending(self._ops, self._save, self._following)
                self._ending.prepare(END)
                self._rehearse_end()

    def _rehearse_end(self) -> None:
        """Learns how long the suspended guest will wait for what is not its pages."""
        assert self._ending is not None
        outlook = self._outlook
        with_bitmap, to_pipe = outlook.reads_bitmap, outlook.room is not None
        pages = outlook.pages_to_try(self._ops.nr_pfns)
        time.sleep(WAIT)
        began = time.monotonic()
        self._poll()
        trial = self._ending.rehearse(self._poll, with_bitmap, pages, to_pipe)
        if trial is not None:
            took = time.monotonic() - began - trial.whole
            outlook.rehearsed(took + self._telling.took, at_once=True, with_bitmap=with_bitmap)
            outlook.tried(trial.pages, trial.seconds)

    def _suspend_guest(self) -> None:
        self._decided = True
        if self._options.live:
            if self._through is not None:
                self._report.seconds_settling = self._through.settle(self._watching(self._poll))
            self._look_for_others()
            self._last_look()
            self._deciding.look()
            self._report.predicted_pause = self._predicted_pause()
            self._max_downtime = self._options.limits.max_downtime
            self._deciding.suspends(self._left)
        self._tell("suspend")
        self._throttling.release_early()  # without processor time it would take long
        self._last_look()
        self._pause.begin(self._info, look=self._ending is None or not self._ending.ready)
        if self._following is not None:
            self._following.suspended(self._pause.suspended_at)
        if self._bandwidth is not None:
            self._bandwidth.apply(paused=True)

    def _last_look(self) -> None:
        """A suspended guest would wait for a look that is due now."""
        if self._physmap is not None:
            self._physmap.look(now=True)

    def _finish(self) -> None:
        """A program that the stream goes through has to end well, unless that is somebody else's affair."""
        if self._through is not None and self._through.whole:
            sink, self._bandwidth = self._sink, None
            self._sink = Written(sink.offset, sink.seconds_held)  # type: ignore[assignment]  # nothing will be written
            sink.close()  # it has the pipe open as well: the program would not see its end
            self._through.finish(self._poll)

    def _paused(self, seconds: float) -> None:
        """The stream's last byte has been written, and the guest has been suspended for so long."""
        self._report.seconds_paused = seconds
        most = self._max_downtime
        if most is not None:
            self._report.max_downtime, self._report.downtime_kept = most, seconds <= most

    def _tail(self, last: bytes) -> bytes:
        """All that follows the pages, ``last`` included, for one write: the suspended guest waits for it."""
        try:
            tail = self._ops.end_of_checkpoint(self._save) + last
        except XcsrError:  # if the guest runs again, that is the reason, and the error to raise
            self._check_lasts()
            raise
        self._check_lasts()
        return tail

    def _check_lasts(self) -> None:
        self._pause.check_lasts("has not stayed suspended while it was being saved: somebody resumed it")

    # -- memory

    @contextmanager
    def _logdirty(self) -> Iterator[None]:
        """Ends log-dirty mode after a live save. If that cannot be done after the stream is complete, it is a warning.

        It has ended before ``complete`` is called: whoever is told then may end this process.
        """
        if not self._options.live:
            yield
            return
        with ended_by((self._save.logdirty_disable, self._switch_device_model_off), self._report.warnings):
            yield

    def _logdirty_on(self) -> None:
        self._ops.switch_device_model(True)
        self._report.logdirty_retried = self._save.logdirty_enable()
        self._look_for_others()
        if self._report.logdirty_retried:
            has_display = self._info.hvm and self._options.device_model is not None
            self._report.warnings.append(LEFT_ON_HVM if has_display else LEFT_ON)
        self._outlook.begin()
        if self._following:
            self._following.tracked()

    def _switch_device_model_off(self) -> None:
        # a save that is complete has had log-dirty mode for itself until its last bitmap
        self._ops.switch_device_model(False, alone=self._is_complete())

    def _precopy(self) -> None:
        """The live passes: until the policy says that the rest may be copied while the guest is suspended."""
        self._save.mark_all()
        dirty, decision = self._ops.nr_pfns, Decision.CONTINUE
        while True:
            self._report.passes.append(self._pass("pass", dirty, suspended=False))
            if self._is_over():
                return
            if self._following and self._following.restless:
                self._stop_restless(self._following.restless)
                return
            if decision is not Decision.CONTINUE or self._ask(None) is not Decision.CONTINUE:
                return
            self._rest(self._deciding.rest)
            if self._is_over():
                return
            self._look_for_others(often=True)
            dirty = self._fetch_dirty(final=False)
            decision = self._ask(dirty)
            self._decided = decision is not Decision.CONTINUE

    def _rest(self, seconds: float) -> None:
        """A further pass would win nothing now. A wish to end the save, or to suspend the guest, is heard."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._is_over():
            time.sleep(min(left, REST))
            self._watch()
            self._poll_live()

    def _is_over(self) -> bool:
        """Whether the guest is to be suspended whatever the policy says, or has been already."""
        why = self._deadline.suspends()
        if why and not self._pause.begun:
            self._report.stopped = why
        return self._pause.begun or why is not None

    def _fetch_dirty(self, *, final: bool) -> int:
        """Fetches Xen's dirty bitmap, and marks what else the next pass has to send. Returns how many are marked."""
        began = time.monotonic()
        dirty = self._save.logdirty_clean(final)
        took = time.monotonic() - began
        dirty = self._mark_more(dirty, final)
        self._outlook.fetched(dirty, began, took)
        if not final:
            self._outlook.marked(self._save.count_runs())
        return dirty

    def _mark_more(self, dirty: int, final: bool) -> int:
        if self._following is None:
            return dirty + self._save.merge_deferred()
        had = self._save.nr_pfns
        self._following.fetched(final)
        dirty += self._save.nr_pfns - had  # new ones are all marked, whatever the bitmap says
        return dirty + self._save.merge_deferred() + self._following.sweep(final)

    def _stop_restless(self, why: str) -> None:
        """The guest cannot be followed while it runs. Raises P2mChanged unless the policy lets it be suspended."""
        if self._ask(None, restless=True) is not Decision.STOP_AND_COPY:
            raise P2mChanged(
                f"domain {self._domid}: {why}. The policy does not let it be suspended for that",
                field="p2m_generation",
                value=self._ops.p2m_generation,
                follows=self._report.p2m.follows,
            )

    def _ask(self, dirty: Optional[int], restless: bool = False) -> Decision:
        self._heed_bandwidth(paused=False)
        return self._deciding.ask(
            dirty,
            nr_pfns=self._ops.nr_pfns,
            bytes_sent=self._sink.offset,
            seconds=self._telling.seconds(),
            restless=restless,
        )

    def _last_pass(self, reached: int = NOTHING) -> None:
        if reached < SENT:
            self._report.passes.append(self._pass("final", self._last_dirty(reached), suspended=True))
            if self._options.live:
                self._deciding.finish()
        else:
            self._note_end()
            self._check_iteration(suspended=True)
        self._write(self._ops.end_of_pages())

    def _last_dirty(self, reached: int) -> int:
        if reached == FETCHED:
            assert self._ending is not None
            return self._mark_more(self._ending.dirty(), final=True)
        if self._options.live:
            return self._fetch_dirty(final=True)
        self._save.mark_all()
        return self._ops.nr_pfns

    def _verify_pass(self) -> None:
        """Sends all pages once more, for the receiver to compare with those that it has."""
        self._write([Verify()])
        self._save.mark_all()
        self._report.verify = self._pass("verify", self._ops.nr_pfns, suspended=True)
        self._write(self._ops.end_of_pages())

    @property
    def _nr_passes(self) -> int:
        """How many passes have been made: the next one's number."""
        return len(self._report.passes)

    def _pass(self, phase: Phase, dirty: int, *, suspended: bool) -> PassReport:
        done = PassReport(self._nr_passes, suspended, dirty, began=self._telling.seconds())
        began, offset, held = time.monotonic(), self._sink.offset, self._sink.seconds_held
        waited, looked_at, busy, unmapping = self._sink.seconds_waited, 0, 0.0, 0.0
        self._left, poll = self._left_of(done, 0), self._poll if suspended else self._poll_live
        self._where = (phase, done, 0)
        if self._following:
            self._following.begin_pass()
        self._check_iteration(suspended)
        self._save.pass_begin(suspended)
        more = dirty > 0
        while more:
            poll()
            batch = self._batches(suspended, poll)
            _add(done, batch)
            self._report.mapped_ahead += batch.nr_ahead
            looked_at, busy, unmapping = looked_at + batch.nr_pfns, busy + batch.busy, unmapping + batch.unmapping
            self._left = self._left_of(done, looked_at)
            self._tell(phase, done, looked_at, often=True)
            more = not batch.done
            if self._following and more and not suspended:
                self._following.look()
        self._check_iteration(suspended)
        done.seconds, done.bytes = time.monotonic() - began, self._sink.offset - offset
        done.seconds_held, self._left = self._sink.seconds_held - held, 0
        if phase == "pass":
            self._outlook.passed(done, busy, unmapping, self._sink.seconds_waited - waited)
            done.predicted_pause = self._predicted_pause()
        self._tell(phase, done, looked_at)
        return done

    def _left_of(self, done: PassReport, looked_at: int) -> int:
        """Pages that a pass has still to send, at most. An HVM guest has many gfns that have none."""
        return max(min(done.dirty - looked_at, self._info.tot_pages - done.pages), 0)

    def _batches(self, suspended: bool, poll: Callable[[], None]) -> BatchResult:
        """If a page of a suspended guest cannot be sent because the p2m has changed, that is the error raised."""
        try:
            return self._save.batches(self._sink, self._watching(poll))
        except (PageError, PageTableError):
            if suspended:
                self._write(self._ops.check_iteration())
            raise

    def _check_iteration(self, suspended: bool) -> None:
        if self._following and not suspended:
            self._following.look()
        else:
            self._write(self._ops.check_iteration())

    # -- output, progress, cancellation

    def _write(self, records: Iterable[Record]) -> None:
        for record in records:
            for piece in framed(record):
                self._put(piece)

    def _put(self, data: bytes) -> None:
        began = time.monotonic()
        self._sink.write(data, self._poll)
        if len(data) <= PAGE_SIZE:
            self._outlook.wrote(time.monotonic() - began)

    def _poll(self) -> None:
        self._control.serve()
        if self._control.cancelled:
            text = f"the save of domain {self._domid} was cancelled by somebody else: `pyxcsr cancel`"
            raise Cancelled(text, domid=self._domid, by="control")
        if self._options.cancel is not None and self._options.cancel():
            raise Cancelled(f"the save of domain {self._domid} was cancelled", domid=self._domid)
        self._deadline.check()
        self._throttling.heed()
        self._heed_bandwidth(self._pause.begun)

    def _heed_bandwidth(self, paused: bool) -> None:
        limits = self._options.limits
        if self._bandwidth is not None:
            self._bandwidth.apply(paused)
            self._outlook.limited(limits.bandwidth)
            if not paused or limits.bandwidth_while_paused:
                self._report.bandwidth_limit = limits.bandwidth

    def _watching(self, poll: Callable[[], None]) -> Callable[[], None]:
        """What is called again and again where the save waits: for an output that stalls, or for a compressor."""

        def again() -> None:
            self._watch()
            poll()

        return again

    def _watch(self) -> None:
        """The save waits for something: what a guest that runs does meanwhile, and Xen tells of now only, is noted."""
        if self._following is not None and not self._pause.lasts:
            self._following.watch()

    def _wants_to_cancel(self) -> bool:
        cancel = self._options.cancel
        return self._control.asks_to_cancel() or (cancel is not None and cancel())

    def _poll_live(self) -> None:
        """The same in a live pass. If the guest is to be suspended at once, the rest of the pass is sent then."""
        self._poll()
        if not self._pause.begun and self._is_over():
            self._suspend_guest()
            self._save.paused()

    def _tell(self, phase: Phase, done: Optional[PassReport] = None, looked_at: int = 0, often: bool = False) -> None:
        self._where = (phase, done, looked_at)
        self._telling.tell(lambda seconds: self._progress(phase, done, looked_at, seconds), often)

    def _now(self) -> Progress:
        return self._progress(*self._where, self._telling.seconds())

    def _progress(self, phase: Phase, done: Optional[PassReport], looked_at: int, seconds: float) -> Progress:
        dirty = done.dirty if done else 0
        iteration = done.iteration if done else self._nr_passes
        p2m, outlook = self._report.p2m, self._outlook
        predicted = self._report.predicted_pause if self._pause.begun else self._predicted_pause()
        return Progress(
            phase, iteration, looked_at, dirty, self._sink.offset, dirty, seconds, p2m.follows, p2m.resent,
            outlook.dirty_rate, outlook.bandwidth, predicted, self._throttling.taken,
            self._left_of(done, looked_at) if done else None,
        )  # fmt: skip

    def _predicted_pause(self) -> Optional[float]:
        """If the guest were suspended now. What is left of a pass has to be sent, too, if that is to be at once."""
        if self._outlook.dirty_rate is None:  # perhaps it is not even known how many pfns there are
            return None
        left = self._left if self._deadline.suspends() else 0
        return self._outlook.pause(self._outlook.dirty_now(self._ops.nr_pfns) + left)


def _add(done: PassReport, batch: BatchResult) -> None:
    done.pages += batch.nr_pages
    done.holes += batch.nr_holes
    done.deferred += batch.nr_deferred
    done.tables += batch.nr_tables
