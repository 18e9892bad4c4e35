"""Rules on what an HVM stream has besides its memory: parameters, Xen's context, and the pages that both name."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from pyxcsr.stream import hvm_context, hvm_params
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.origin import Origin
from pyxcsr.stream.rules.complaints import Complaints

PAGES_MAX = 1 << 14
"""Pages that are looked up besides the needed ones, of which there are few; a guest of 4096 vcpus names fewer."""


class PageReference(NamedTuple):
    """A page to be looked up when all pages are known; ``needed``: no guest runs without it."""

    offset: int
    record: RecordType
    what: str
    pfn: int
    needed: bool


class HvmRules:
    """Looks at parameters and context. ``vcpu_end``: one more than the highest vcpu id in the context."""

    def __init__(self, origin: Origin, complaints: Complaints) -> None:
        self.vcpu_end = 0
        self._newer = origin.newer
        self._complaints = complaints
        self._params: dict[int, int] = {}
        self._pages: list[PageReference] = []

    def params(self, record: rec.HvmParams) -> None:
        """One HVM_PARAMS record."""
        offset = record.offset or 0
        for index, value in record.params:
            if index in self._params:
                self._complain("hvm-param", RecordType.HVM_PARAMS, offset, f"{hvm_params.name(index)} comes twice")
                continue
            if index in hvm_params.NAMES:  # so that a made-up record of millions takes no memory
                self._params[index] = value
            self._param(offset, index, value)

    def _param(self, offset: int, index: int, value: int) -> None:
        problem = hvm_params.problem(index, value)
        if problem is not None:
            unknown = self._newer and hvm_params.may_be_newer(index, value)
            self._complain("hvm-param", RecordType.HVM_PARAMS, offset, problem, note=unknown)
        elif index not in hvm_params.RESTORED | hvm_params.DROPPED:
            text = (
                f"{hvm_params.describe(index, value)} is one that no saver sends: libxenguest would set it, and "
                "pyxcsr refuses to"
            )
            self._complain("hvm-param", RecordType.HVM_PARAMS, offset, text, note=True)
        for page in hvm_params.pages([(index, value)]):
            needed = index in hvm_params.NEEDED_PAGES
            what = f"the page of {hvm_params.name(index)}"
            self._refer(PageReference(offset, RecordType.HVM_PARAMS, what, page.pfn, needed))

    def context(self, record: rec.HvmContext) -> None:
        """The HVM_CONTEXT record."""
        offset = record.offset or 0
        if not len(record.blob):
            self._complain("length", RecordType.HVM_CONTEXT, offset, "an HVM context cannot be empty")
            return
        facts, problems = hvm_context.look(record.blob)
        for problem in problems:
            text = f"{problem.text} (at byte {problem.at} of the context)"
            note = problem.unknown and self._newer
            self._complain("hvm-context", RecordType.HVM_CONTEXT, offset, text, note=note)
        self.vcpu_end = max(self.vcpu_end, facts.vcpu_end)
        for page in hvm_context.pages(record.blob, facts):
            self._refer(PageReference(offset, RecordType.HVM_CONTEXT, page.what, page.pfn, False))

    def _refer(self, page: PageReference) -> None:
        if page.needed or len(self._pages) < PAGES_MAX:
            self._pages.append(page)

    def finish(self, end: int, why_missing: Optional[Callable[[int], Optional[str]]]) -> None:
        """At END, whose offset is ``end``. ``why_missing``: what is amiss with a pfn; None if that is not known."""
        if not any(self._params.get(index) for index in (hvm_params.STORE_PFN, hvm_params.CONSOLE_PFN)):
            text = "no HVM_PARAMS name the pages of xenstore and console: the restored guest has neither"
            if not self._params:
                text += ", and pyxcsr refuses to restore a stream without any parameter"
            self._complain("hvm-param", RecordType.END, end, text, note=True)
        if why_missing is None:
            return
        for page in self._pages:
            problem = why_missing(page.pfn)
            if problem is not None:
                text = f"{page.what} is pfn 0x{page.pfn:x}, which {problem}"
                self._complain("hvm-page", page.record, page.offset, text, note=not page.needed)

    def _complain(self, rule: str, record: RecordType, offset: int, text: str, *, note: bool = False) -> None:
        self._complaints.add(rule, text, offset=offset, record=record.name, note=note)
