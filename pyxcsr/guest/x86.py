"""What all x86 guests have in common, PV or HVM: the CPU policy and the TSC."""

from __future__ import annotations

from pyxcsr.errors import StreamError
from pyxcsr.hypervisor.interface import TscInfo
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.stream.format import CPUID_LEAF, MSR_POLICY_ENTRY, RecordType
from pyxcsr.stream.records import CpuidPolicy, MsrPolicy
from pyxcsr.stream.records import TscInfo as TscRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Union

    from pyxcsr.hypervisor.interface import Hypervisor
    from pyxcsr.stream.origin import Origin
    from pyxcsr.stream.records import Record

MISSING_CPUID, MISSING_MSR = 1, 2

BODY_LIMITS = {
    RecordType.END: 0,
    RecordType.STATIC_DATA_END: 0,
    RecordType.VERIFY: 0,
    RecordType.X86_TSC_INFO: 24,
    RecordType.X86_CPUID_POLICY: 24 * 4096,
    RecordType.X86_MSR_POLICY: 16 * 4096,
}
"""How many bytes the bodies of these records may have, whatever the guest."""


def policy_records(hv: Hypervisor, domid: int) -> Iterator[Record]:
    """A domain's CPU policy as records: one for CPUID and one for MSRs, each only if it is not empty."""
    leaves, msrs = hv.cpu_policy(domid)
    if leaves:
        yield CpuidPolicy(leaves)
    if msrs:
        yield MsrPolicy(msrs)


def _check_policy(record: Union[CpuidPolicy, MsrPolicy], offset: int) -> None:
    """Raises StreamError unless it has whole entries: Xen is given their number, and would not see part of one."""
    size = (CPUID_LEAF if isinstance(record, CpuidPolicy) else MSR_POLICY_ENTRY).size
    length = len(record.blob)
    if not length or length % size:
        raise StreamError(
            f"{record.name}: {length} bytes, must be a multiple of {size} and not empty",
            offset=offset,
            record=record.name,
        )


class PolicyAndTsc:
    """Takes a restored guest's CPU policy and TSC, and sets them."""

    def __init__(self, hv: Hypervisor, domid: int, origin: Origin) -> None:
        self._hv, self._domid = hv, domid
        self._policy: dict[str, bytes] = {}
        self._policy_set = False
        self.tsc_settled = origin.converted
        """Whether the TSC has come, and has been set; or need not come, because Xen before 4.0 did not write it."""

    def take(self, record: Record, offset: int) -> bool:
        """Takes a record if it is one of these; returns whether it is. Raises StreamError if it is out of place."""
        if isinstance(record, (CpuidPolicy, MsrPolicy)):
            if self._policy_set:
                raise StreamError(f"{record.name} comes after the static data", offset=offset, record=record.name)
            _check_policy(record, offset)
            self._policy[record.name] = bytes(record.blob)
        elif isinstance(record, TscRecord):
            self._hv.set_domain_tsc(self._domid, TscInfo(record.mode, record.khz, record.nsec, record.incarnation))
            self.tsc_settled = True
        else:
            return False
        return True

    def set_policy(self) -> int:
        """Gives the domain the policy that has come. Returns what has not come: MISSING_CPUID, MISSING_MSR."""
        self._policy_set = True
        leaves, msrs = (self._policy.get(x, b"") for x in ("X86_CPUID_POLICY", "X86_MSR_POLICY"))
        if leaves or msrs:
            self._hv.set_cpu_policy(self._domid, leaves, msrs)
        return (0 if leaves else MISSING_CPUID) | (0 if msrs else MISSING_MSR)
