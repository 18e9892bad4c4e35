"""Rules on which records may come, how often, and in which order."""

from __future__ import annotations

from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.origin import Origin
from pyxcsr.stream.reader import RawRecord
from pyxcsr.stream.records import DomainHeader
from pyxcsr.stream.rules.complaints import Complaints

_T = RecordType

VCPU_RECORDS = frozenset(
    {_T.X86_PV_VCPU_BASIC, _T.X86_PV_VCPU_EXTENDED, _T.X86_PV_VCPU_XSAVE, _T.X86_PV_VCPU_MSRS}
)
PV_ONLY = VCPU_RECORDS | {_T.X86_PV_INFO, _T.X86_PV_P2M_FRAMES, _T.SHARED_INFO}
HVM_ONLY = frozenset({_T.HVM_CONTEXT, _T.HVM_PARAMS})
VERSION_3 = frozenset({_T.STATIC_DATA_END, _T.X86_CPUID_POLICY, _T.X86_MSR_POLICY})
STATIC = frozenset({_T.X86_PV_INFO, _T.X86_CPUID_POLICY, _T.X86_MSR_POLICY})
MEMORY = frozenset({_T.X86_PV_P2M_FRAMES, _T.PAGE_DATA, _T.VERIFY})
TAIL = VCPU_RECORDS | HVM_ONLY | {_T.X86_TSC_INFO, _T.SHARED_INFO}
ONCE = (STATIC | HVM_ONLY) | {_T.STATIC_DATA_END, _T.X86_TSC_INFO, _T.SHARED_INFO, _T.VERIFY}

FORBIDDEN = {
    int(_T.TOOLSTACK): "was withdrawn before any release; receivers refuse it",
    int(_T.CHECKPOINT): "belongs to a checkpointed stream (Remus, COLO), not to a plain one",
    int(_T.CHECKPOINT_DIRTY_PFN_LIST): "belongs to COLO's back channel, not to a stream",
}

_LAST_DEFINED = max(RecordType)
_BEFORE_TAIL = MEMORY | STATIC | {_T.STATIC_DATA_END}
_AFTER_STATIC = MEMORY | TAIL
_NEEDED = (_T.PAGE_DATA, _T.X86_TSC_INFO)
_NEEDED_PV = (_T.X86_PV_INFO, _T.X86_PV_P2M_FRAMES, _T.SHARED_INFO)
_NEEDED_HVM = (_T.HVM_CONTEXT,)


class OrderRules:
    """Follows the sequence of records of one stream."""

    def __init__(self, domain: DomainHeader, origin: Origin, complaints: Complaints) -> None:
        self._domain = domain
        self._origin = origin
        self._version = origin.version
        self._complaints = complaints
        self._seen: dict[int, int] = {}
        self._noted_tsc = False

    def check(self, raw: RawRecord) -> bool:
        """Checks the place of the next record; True if its body means anything in this stream."""
        meaningful = self._check_allowed(raw)
        if meaningful:
            self._check_once(raw)
            self._check_place(raw)
            self._seen.setdefault(raw.code, raw.offset)
        return meaningful

    def finish(self, end: int) -> None:
        """Asks for what must have come by END, whose offset is ``end``."""
        needed = [*_NEEDED, *(_NEEDED_PV if self._domain.is_pv else _NEEDED_HVM)]
        if self._version > 2:
            needed.append(_T.STATIC_DATA_END)
        for kind in needed:
            if kind not in self._seen:
                # Xen before 4.0 did not write the TSC, and receivers leave it as the toolstack has made it.
                usual = self._origin.converted and kind == _T.X86_TSC_INFO
                text = f"there is no {kind.name} record"
                self._complaints.add("missing-record", text, offset=end, record=_T.END.name, note=usual)

    def checkpoint(self, at: int) -> None:
        """At a CHECKPOINT record, of a stream that may have such. What was said once is said anew behind it."""
        self.finish(at)
        self._seen = {code: offset for code, offset in self._seen.items() if code not in TAIL}

    def _check_allowed(self, raw: RawRecord) -> bool:
        problem = self._why_not(raw.code)
        if problem is None:
            return True
        self._complain(raw, *problem)
        return False

    def _why_not(self, code: int) -> tuple[str, str] | None:
        """(rule, text) if no such record may be in this stream."""
        if code in FORBIDDEN:
            return "forbidden-record", FORBIDDEN[code]
        if code & fmt.RECORD_OPTIONAL:
            return (
                "unknown-record",
                "no optional record is defined; Xen's verifier refuses them, receivers skip them",
            )
        if code > _LAST_DEFINED:
            return (
                "unknown-record",
                "no such record type is defined, and it is mandatory: receivers refuse it",
            )
        if code in PV_ONLY and not self._domain.is_pv:
            return "wrong-guest", "a record of PV guests in an HVM stream"
        if code in HVM_ONLY and self._domain.is_pv:
            return "wrong-guest", "a record of HVM guests in a PV stream"
        if code in VERSION_3 and self._version < 3:
            return "wrong-version", f"a version 3 record in a version {self._version} stream"
        return None

    def _check_once(self, raw: RawRecord) -> None:
        if raw.code in ONCE and raw.code in self._seen:
            first = self._seen[raw.code]
            # A legacy image has its magic pages apart from the other parameters, and the converter leaves it at that.
            usual = self._origin.converted and raw.code == _T.HVM_PARAMS
            text = f"comes once in a stream; the first was at offset 0x{first:x}"
            self._complain(raw, "once", text, note=usual)

    def _check_place(self, raw: RawRecord) -> None:
        seen = self._seen
        if raw.code in STATIC and _T.STATIC_DATA_END in seen:
            self._complain(raw, "order", "belongs ahead of STATIC_DATA_END")
        if raw.code in _AFTER_STATIC and self._version > 2 and _T.STATIC_DATA_END not in seen:
            self._complain(raw, "order", "comes ahead of STATIC_DATA_END")
        if raw.code == _T.STATIC_DATA_END and self._domain.is_pv and _T.X86_PV_INFO not in seen:
            self._complain(raw, "order", "comes ahead of X86_PV_INFO")
        if raw.code in (_T.X86_PV_P2M_FRAMES, _T.SHARED_INFO) and _T.X86_PV_INFO not in seen:
            self._complain(raw, "order", "comes ahead of X86_PV_INFO")
        if raw.code == _T.PAGE_DATA and self._domain.is_pv and _T.X86_PV_P2M_FRAMES not in seen:
            self._complain(raw, "order", "comes ahead of X86_PV_P2M_FRAMES")
        if raw.code == _T.VERIFY and _T.PAGE_DATA not in seen:
            self._complain(raw, "order", "comes ahead of any PAGE_DATA")
        if raw.code in _BEFORE_TAIL:
            self._check_tail_has_not_begun(raw)

    def _check_tail_has_not_begun(self, raw: RawRecord) -> None:
        begun = [(offset, code) for code, offset in self._seen.items() if code in TAIL]
        if begun:
            offset, code = min(begun)
            # Xen 4.5 and older wrote the TSC ahead of the last pass (not live: of all pages). One note is enough.
            usual = self._origin.converted and all(seen == _T.X86_TSC_INFO for _, seen in begun)
            if usual and self._noted_tsc:
                return
            self._noted_tsc = usual
            text = f"comes after {fmt.record_name(code)}, which is at offset 0x{offset:x}"
            self._complain(raw, "order", text, note=usual)

    def _complain(self, raw: RawRecord, rule: str, text: str, *, note: bool = False) -> None:
        self._complaints.add(rule, text, offset=raw.offset, record=raw.name, note=note)
