"""The restore algorithm: from a libxc migration stream to a complete, paused domain.

It is given an open hypervisor and an open input, and knows neither libxenctrl nor files. Nothing that the stream says
is used before it is checked, and the memory needed is bounded by what Xen lets the domain own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyxcsr.arguments import check_domain
from pyxcsr.errors import (
    Cancelled,
    DomainDying,
    NotSupported,
    StreamError,
    UsageError,
    VerifyMismatch,
    touched_by_now,
    untouched_so_far,
)
from pyxcsr.guest.ops import RestoreContext, RestoreOps
from pyxcsr.guest.restore_table import RESTORE_OPS
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, SourceHandle
from pyxcsr.options import RestoreOptions
from pyxcsr.report import Phase, Progress, RestoreReport
from pyxcsr.stream.format import IMAGE_HEADER, RECORD_OPTIONAL, DomainType, RecordType
from pyxcsr.stream.incoming import Head, IncomingStream
from pyxcsr.stream.source import Source
from pyxcsr.transfer.descriptor import input_descriptor
from pyxcsr.transfer.releasing import release_by
from pyxcsr.transfer.telling import Telling

if TYPE_CHECKING:
    from pyxcsr.transfer.descriptor import Stream


class SourceFile:
    """The source as a file object, for the reader of headers and records."""

    def __init__(self, source: SourceHandle, again: Callable[[], None]) -> None:
        self._source, self._again = source, again

    def readinto(self, view: memoryview) -> int:
        got = self._source.read(len(view), self._again)
        view[: len(got)] = got
        return len(got)


class Restorer:
    """One restore."""

    def __init__(self, hv: Hypervisor, domid: int, options: RestoreOptions) -> None:
        check_domain(hv, domid)
        self._hv, self._domid, self._options = hv, domid, options
        self._telling = Telling(options.progress)
        self._static_done = self._comparing = False
        self._differing, self._first_differing = 0, 0
        self._source: SourceHandle
        self._stream: IncomingStream
        self._ops: RestoreOps
        self._report: RestoreReport

    def run(self, in_: Stream) -> RestoreReport:
        """Restores the stream ``in_``; see :func:`pyxcsr.transfer.restore.restore`."""
        warnings: list[str] = []
        with ExitStack() as stack:
            with untouched_so_far():
                info = self._check_domain(self._hv.domain_info(self._domid))
                self._source = self._hv.open_source(input_descriptor(in_))
                release_by(stack, self._source.close, warnings)
                self._stream = IncomingStream(self._entered(SourceFile(self._source, self._poll)))
                self._report = RestoreReport(self._domid, self._stream.image_header.version, warnings=warnings)
                self._ops = self._find_ops(info)
                release_by(stack, self._ops.cleanup, warnings)
                self._ops.setup()
            with touched_by_now():
                self._tell("pass")
                self._take_all()
        self._report.seconds = self._telling.seconds()
        with touched_by_now():
            self._tell("done")
        return self._report

    def _entered(self, file: SourceFile) -> Source:
        """The input, at the beginning of the libxc stream."""
        source = Source(file)  # type: ignore[arg-type]
        if self._options.enter is not None:
            self._options.enter(source)
        return source

    def _check_domain(self, info: DomainInfo) -> DomainInfo:
        if info.dying or info.shutdown:
            raise DomainDying(f"domain {info.domid} is shut down or being destroyed", domid=info.domid)
        if not info.paused:
            raise UsageError(
                f"domain {info.domid} runs; a stream is restored into a new, paused domain", domid=info.domid
            )
        if info.tot_pages:  # Xen would put other pages in the place of those that a guest without a p2m of its own has
            raise UsageError(
                f"domain {info.domid} has {info.tot_pages} pages of memory already; a stream is restored into a new "
                "domain, which has none",
                domid=info.domid,
            )
        return info

    def _find_ops(self, info: DomainInfo) -> RestoreOps:
        kind = DomainType(self._stream.domain_header.type)
        if (kind is DomainType.HVM) != info.hvm:
            stream, domain = ("an HVM or PVH", "a PV") if kind is DomainType.HVM else ("a PV", "an HVM or PVH")
            raise StreamError(
                f"the stream is {stream} guest's, and domain {info.domid} is {domain} domain: restore it into a new "
                "domain of the stream's kind",
                offset=self._stream.start + IMAGE_HEADER.size,
                record="domain header",
            )
        return RESTORE_OPS[kind](RestoreContext(self._hv, info, self._options, self._poll, self._stream.origin))

    # -- records

    def _take_all(self) -> None:
        while self._record(self._stream.head()):
            self._poll()

    def _record(self, head: Head) -> bool:
        """Takes one record; False after END."""
        if head.code == RecordType.PAGE_DATA:
            self._pages(head)
            return True
        if head.code & RECORD_OPTIONAL:
            self._stream.skip(head)  # an optional record of a type that this release does not know
            return True
        if head.code not in RecordType._value2member_map_ or head.code in (RecordType.TOOLSTACK,):
            raise self._wrong(head, "is a mandatory record that this release does not know")
        if head.code == RecordType.CHECKPOINT:
            raise self._wrong(head, "belongs to a checkpointed stream (Remus): such a one has to be asked for, by "
                              "checkpointed=True or `pyxcsr restore --checkpointed`")  # fmt: skip
        if head.code == RecordType.CHECKPOINT_DIRTY_PFN_LIST:
            raise NotSupported(f"{head.name} at offset {head.offset}: COLO is not supported", domid=self._domid)
        self._check_length(head)
        return self._known(head)

    def _check_length(self, head: Head) -> None:
        limit = self._ops.body_limit(head.code)
        if head.length > limit:
            raise self._wrong(head, f"has {head.length} bytes; for this domain it can have {limit}")

    def _known(self, head: Head) -> bool:
        record = self._stream.record(head)
        if head.code == RecordType.END:
            self._end(head)
            return False
        if head.code == RecordType.STATIC_DATA_END:
            if self._report.version < 3 or self._static_done:
                raise self._wrong(head, "must come once, in a stream of version 3")
            self._static_data_end()
        elif head.code == RecordType.VERIFY:
            self._before_guest_state(head)
            self._ops.compare(head.offset)
            self._comparing = True
        else:
            self._before_guest_state(head)
            self._report.p2m_records += head.code == RecordType.X86_PV_P2M_FRAMES
            self._ops.process_record(record)
        return True

    def _before_guest_state(self, head: Head) -> None:
        """Before the first record that is no static data: version 3 has marked their end, version 2 never does."""
        static = (RecordType.X86_PV_INFO, RecordType.X86_CPUID_POLICY, RecordType.X86_MSR_POLICY)
        if self._static_done or head.code in static:
            return
        if self._report.version >= 3:
            raise self._wrong(head, "comes before STATIC_DATA_END")
        self._static_data_end()

    def _static_data_end(self) -> None:
        self._static_done = True
        self._report.missing_policy = self._ops.static_data_complete()
        if self._options.static_data_done is not None:
            self._options.static_data_done(self._report.missing_policy)

    def _pages(self, head: Head) -> None:
        self._before_guest_state(head)
        if head.length % 8 or head.length < 16:
            raise self._wrong(head, f"cannot have {head.length} bytes")
        done = self._ops.pages(self._source, head.length, head.offset)
        self._note_taken(head)
        if self._comparing:
            self._report.compared += done.nr_pages
            if done.differing and not self._differing:
                self._first_differing = done.first_differing
            self._differing += done.differing
        else:
            self._report.pages += done.nr_pages
            self._report.tables += done.nr_tables
        self._report.populated += done.nr_populated
        self._tell("pass", often=True)

    def _note_taken(self, head: Head) -> None:
        """C has read the body past the stream's reader, whose offsets must count it nevertheless."""
        self._stream.skipped(head.length)

    def _end(self, head: Head) -> None:
        if self._differing:
            raise VerifyMismatch(
                f"{self._differing} pages sent a second time differ from those restored (the first is pfn "
                f"{self._first_differing:#x}): the saver or the receiver is wrong",
                offset=head.offset,
                record="VERIFY",
                differing=self._differing,
                pfn=self._first_differing,
            )
        self._tell("tail")
        state = self._ops.stream_complete(head.offset)
        report = self._report
        report.nr_pfns, report.nr_vcpus, report.pinned = state.nr_pfns, state.nr_vcpus, state.nr_pinned
        report.store_gfn, report.console_gfn = state.store_gfn, state.console_gfn
        report.warnings.extend([state.warning] if state.warning else [])
        report.bytes = self._source.offset - self._stream.start

    def _wrong(self, head: Head, what: str) -> StreamError:
        return StreamError(f"{head.name} at offset {head.offset} {what}", offset=head.offset, record=head.name)

    # -- progress, cancellation

    def _poll(self) -> None:
        if self._options.cancel is not None and self._options.cancel():
            raise Cancelled(f"the restore of domain {self._domid} was cancelled", domid=self._domid)

    def _tell(self, phase: Phase, often: bool = False) -> None:
        def progress(seconds: float) -> Progress:
            at = self._report.bytes or self._source.offset
            return Progress(phase, 0, self._report.pages, 0, at, 0, seconds)

        self._telling.tell(progress, often)
