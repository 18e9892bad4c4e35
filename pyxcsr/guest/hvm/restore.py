"""Restoring HVM and PVH guests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional, final

from pyxcsr.errors import HypervisorError, IncompleteStream
from pyxcsr.guest import x86
from pyxcsr.guest.hvm.judging import HvmJudge, check_context, check_params
from pyxcsr.guest.hvm.limits import gfn_limit
from pyxcsr.guest.judging import no_place
from pyxcsr.guest.ops import RestoreContext, RestoredState
from pyxcsr.guest.x86 import PolicyAndTsc
from pyxcsr.hypervisor.interface import PageResult, RestoreHandle, SourceHandle
from pyxcsr.stream import hvm_params
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.records import HvmContext, HvmParams, Record

CONTEXT_LIMIT = 1 << 20
"""The most bytes that a context may have besides what each vcpu may add."""
CONTEXT_PER_VCPU = 1 << 16

BODY_LIMITS = {**x86.BODY_LIMITS, RecordType.HVM_PARAMS: 8 + 16 * hvm_params.INDEX_LIMIT}


@final
class HvmRestoreOps:
    """See :class:`pyxcsr.guest.ops.RestoreOps` for the contract of each method."""

    needed: frozenset[int] = frozenset({RecordType.HVM_CONTEXT, RecordType.HVM_PARAMS, RecordType.X86_TSC_INFO})

    def __init__(self, context: RestoreContext) -> None:
        self._hv, self._info, self._poll = context.hv, context.info, context.poll
        self._rings = context.options.rings
        self._domid = context.info.domid
        self._limit = gfn_limit(self._info)
        self._memory: Optional[RestoreHandle] = None
        self._common = PolicyAndTsc(self._hv, self._domid, context.origin)
        self._newer = context.origin.newer
        self._context: Optional[bytes] = None
        self._params: dict[int, int] = {}
        self._vcpus = 0

    @property
    def _guest(self) -> RestoreHandle:
        if self._memory is None:
            raise HypervisorError("the restore has not been set up", op="setup", errno=22)
        return self._memory

    def setup(self) -> None:
        self._memory = self._hv.new_restore(self._domid, self._limit, width=0)

    def static_data_complete(self) -> int:
        return self._common.set_policy()

    def body_limit(self, code: int) -> int:
        if code == RecordType.HVM_CONTEXT:
            return CONTEXT_LIMIT + CONTEXT_PER_VCPU * (self._info.max_vcpu_id + 1)
        return BODY_LIMITS.get(RecordType(code), 0)

    def process_record(self, record: Record) -> None:
        """State is held until the end: of several, the last one counts."""
        offset = record.offset or 0
        if self._common.take(record, offset):
            return
        if isinstance(record, HvmContext):
            self._context = bytes(record.blob)
            self._vcpus = check_context(record, self._info)
        elif isinstance(record, HvmParams):
            check_params(record, self._newer)
            self._params.update((x, value) for x, value in record.params if x not in hvm_params.DROPPED)
        else:
            raise no_place(record, "an HVM")

    def pages(self, source: SourceHandle, length: int, offset: int) -> PageResult:
        return self._guest.pages(source, length, self._poll, offset)

    def judge(self) -> HvmJudge:
        return HvmJudge(self._info, self._limit, self._newer)

    def checkpoint_complete(self) -> None:
        self._guest.give_back()

    def begin_checkpoint(self, pages: Iterable[Sequence[int]]) -> None:
        self._guest.make_room(pages)
        self._context, self._vcpus = None, 0
        self._params.clear()

    def compare(self, offset: int) -> None:
        self._guest.compare(True)

    # -- the end

    def stream_complete(self, offset: int) -> RestoredState:
        self._check_whole(offset)
        # Nothing of the stream is unchecked from here on; what fails now, Xen refuses.
        self._guest.give_back()
        self._clear_pages()
        self._set_params()
        self._hv.set_hvm_context(self._domid, self._context or b"")
        store, console = (self._params.get(x, 0) for x in (hvm_params.STORE_PFN, hvm_params.CONSOLE_PFN))
        self._hv.seed_grants(
            self._domid, console, store, self._rings.console_domid, self._rings.store_domid, hvm=True
        )
        return RestoredState(self._guest.nr_seen, self._vcpus, 0, store, console)

    def _check_whole(self, offset: int) -> None:
        """Everything that the guest refers to must have come."""
        wanted = {"HVM_CONTEXT": self._context, "HVM_PARAMS": self._params, "X86_TSC_INFO": self._common.tsc_settled}
        missing = [name for name, seen in wanted.items() if not seen]
        if missing:
            raise IncompleteStream(
                f"the stream is incomplete: it has no {missing[0]}", offset=offset, record="END", missing=len(missing)
            )
        for page in hvm_params.pages(self._params.items()):
            if page.param in hvm_params.NEEDED_PAGES and not self._guest.has_data(page.pfn):
                name = hvm_params.name(page.param)
                raise IncompleteStream(
                    f"the stream is incomplete: {name} names pfn {page.pfn:#x}, which it does not contain",
                    offset=offset,
                    record="END",
                    missing=1,
                    pfn=page.pfn,
                    field=name,
                )

    def _clear_pages(self) -> None:
        """Rings whose other end is new begin empty, as libxenguest leaves them."""
        for page in hvm_params.pages(self._params.items()):
            if page.param in CLEARED and self._guest.has_data(page.pfn):
                self._hv.clear_frames(self._domid, [page.pfn])

    def _set_params(self) -> None:
        for index, value in self._params.items():
            self._hv.set_hvm_param(self._domid, index, value)
        self._hv.set_hvm_param(self._domid, hvm_params.STORE_EVTCHN, self._rings.store_evtchn)
        self._hv.set_hvm_param(self._domid, hvm_params.CONSOLE_EVTCHN, self._rings.console_evtchn)

    def cleanup(self) -> None:
        if self._memory is not None:
            self._memory.close()


CLEARED = hvm_params.CLEARED | {hvm_params.CONSOLE_PFN}
