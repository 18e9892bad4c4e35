"""Rules on the bodies of records other than the guest's memory."""

from __future__ import annotations

from typing import Callable, NamedTuple

from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import RecordType, VcpuLayout, record_name
from pyxcsr.stream.origin import Origin
from pyxcsr.stream.rules.complaints import Complaints
from pyxcsr.stream.rules.hvm import HvmRules

_EXTENDED_CR3_BITS = 20
_CR3_FLAGS = (1 << PAGE_SHIFT) - 1


class Reference(NamedTuple):
    """A frame number in a vcpu's context, to be looked up when all pages are known."""

    offset: int
    rule: str
    what: str
    pfn: int


class BodyRules:
    """Looks at each body, and remembers what later rules need: guest width, levels, the vcpus' frames."""

    def __init__(self, origin: Origin, complaints: Complaints) -> None:
        self.pv_info: rec.PvInfo | None = None
        self.references: list[Reference] = []
        self.shared_info: rec.SharedInfo | None = None
        self.hvm = HvmRules(origin, complaints)
        self._origin = origin
        self._version = origin.version
        self._complaints = complaints
        self._vcpus: dict[int, dict[int, int]] = {}
        self._current: rec.Record = rec.End()
        self._checks: dict[type[rec.Record], Callable[..., None]] = {
            rec.PvInfo: self._check_pv_info,
            rec.VcpuBasic: self._check_basic,
            rec.VcpuExtended: self._check_extended,
            rec.VcpuXsave: self._check_xsave,
            rec.VcpuMsrs: self._check_vcpu_msrs,
            rec.SharedInfo: self._take_shared_info,
            rec.TscInfo: self._check_tsc,
            rec.HvmContext: self.hvm.context,
            rec.HvmParams: self._check_hvm_params,
            rec.CpuidPolicy: self._check_cpuid,
            rec.MsrPolicy: self._check_msrs,
        }

    def check(self, record: rec.Record) -> None:
        """Checks one record; types without rules of their own pass."""
        self._current = record
        check = self._checks.get(type(record))
        if check is not None:
            check(record)

    def finish(self, end: int, *, pv: bool) -> None:
        """Checks the vcpus as a whole at END, whose offset is ``end``."""
        if pv and RecordType.X86_PV_VCPU_BASIC not in self._vcpus.get(0, {}):
            text = "there is no X86_PV_VCPU_BASIC record of vcpu 0"
            self._complaints.add("missing-record", text, offset=end, record=RecordType.END.name)
        for vcpu, kinds in sorted(self._vcpus.items()):
            if RecordType.X86_PV_VCPU_BASIC not in kinds:
                code, offset = next(iter(kinds.items()))
                text = f"vcpu {vcpu} has no X86_PV_VCPU_BASIC record"
                self._complaints.add("vcpu-basic", text, offset=offset, record=record_name(code))

    def next(self) -> BodyRules:
        """Rules for the records of the next checkpoint, which says all of the vcpus anew."""
        following = BodyRules(self._origin, self._complaints)
        following.pv_info = self.pv_info
        return following

    @property
    def vcpu_end(self) -> int:
        """One more than the highest vcpu id of which there is anything."""
        return max(self.hvm.vcpu_end, 1 + max(self._vcpus, default=-1))

    def _complain(self, rule: str, text: str, *, note: bool = False) -> None:
        offset = self._current.offset or 0
        self._complaints.add(rule, text, offset=offset, record=self._current.name, note=note)

    def _check_reserved(self, *values: int | bytes) -> None:
        for value in values:
            number = value if isinstance(value, int) else int.from_bytes(value, "little")
            if number:
                self._complain("reserved", f"a reserved field is 0x{number:x}, not zero")

    def _check_pv_info(self, record: rec.PvInfo) -> None:
        self._check_reserved(record.reserved)
        if (record.width, record.levels) not in ((8, 4), (4, 3)):
            self._complain(
                "pv-info",
                f"width {record.width} with {record.levels} levels is neither 8 with 4 nor 4 with 3",
            )
        elif self.pv_info is None:
            self.pv_info = record

    def _check_vcpu(self, record: rec.VcpuBasic | rec.VcpuExtended | rec.VcpuXsave | rec.VcpuMsrs) -> bool:
        """What all vcpu records have in common; True if the blob is worth a look."""
        self._check_reserved(record.reserved)
        if record.vcpu_id >= fmt.VCPU_ID_LIMIT:
            self._complain("vcpu-id", f"vcpu {record.vcpu_id}: Xen has less than {fmt.VCPU_ID_LIMIT}")
            return False
        kinds = self._vcpus.setdefault(record.vcpu_id, {})
        if record.code in kinds:
            first = kinds[record.code]
            self._complain(
                "vcpu-duplicate",
                f"a second one of vcpu {record.vcpu_id}; the first was at offset 0x{first:x}",
            )
            return False
        kinds[record.code] = record.offset or 0
        if not len(record.blob):
            # Xen 4.6 to 4.8 wrote such records, in version 2 streams.
            if self._version > 2:
                self._complain("empty-record", f"of vcpu {record.vcpu_id}, without content")
            return False
        return True

    def _check_size(self, ok: bool, length: int, wanted: str) -> bool:
        if not ok:
            self._complain("vcpu-size", f"{length} bytes of content, must be {wanted}")
        return ok

    def _check_basic(self, record: rec.VcpuBasic) -> None:
        if not self._check_vcpu(record) or self.pv_info is None:
            return
        layout = fmt.VCPU_LAYOUTS[self.pv_info.width]
        if self._check_size(len(record.blob) == layout.size, len(record.blob), str(layout.size)):
            self._collect(record, layout)

    def _check_extended(self, record: rec.VcpuExtended) -> None:
        if self._check_vcpu(record):
            least, most = fmt.VCPU_EXTENDED_MIN, fmt.VCPU_EXTENDED_MAX
            self._check_size(least <= len(record.blob) <= most, len(record.blob), f"{least} to {most}")

    def _check_xsave(self, record: rec.VcpuXsave) -> None:
        if self._check_vcpu(record):
            self._check_xsave_area(record.blob)

    def _check_xsave_area(self, blob: rec.Buffer) -> None:
        """Xen takes the two words alone of a vcpu that has never used XSAVE, or an area of its least size or longer."""
        words, whole = fmt.VCPU_XSAVE_MIN, fmt.VCPU_XSAVE_MIN + fmt.XSAVE_AREA_MIN
        if not self._check_size(len(blob) >= words, len(blob), f"at least {words}"):
            return
        accum = int.from_bytes(blob[8:16], "little")
        if words < len(blob) < whole:
            text = f"{len(blob)} bytes of content are no whole XSAVE area, must be {words} or at least {whole}"
            self._complain("xsave", text)
        elif len(blob) == words and accum:
            self._complain("xsave", f"xcr0_accum is 0x{accum:x}, but there is no XSAVE area")

    def _check_vcpu_msrs(self, record: rec.VcpuMsrs) -> None:
        if self._check_vcpu(record):
            size = fmt.VCPU_MSR_ENTRY.size
            if self._check_size(not len(record.blob) % size, len(record.blob), f"a multiple of {size}"):
                self._check_msr_entries(record.blob)

    def _collect(self, record: rec.VcpuBasic, layout: VcpuLayout) -> None:
        """Notes the frames that a context refers to."""

        def number(at: int) -> int:
            return int.from_bytes(record.blob[at : at + layout.word], "little")

        vcpu = record.vcpu_id
        if vcpu == 0:
            self._note(record, "start-info", "start_info", number(layout.start_info))
        self._note(record, "cr3", f"cr3 of vcpu {vcpu}", self._cr3_pfn(number(layout.cr3), layout, "cr3"))
        if layout.ctrlreg1 is not None and number(layout.ctrlreg1):
            user = number(layout.ctrlreg1)
            if not user & 1:
                self._complain("cr3", f"ctrlreg[1] is 0x{user:x}: bit 0 must mark a user page table")
            pfn = self._cr3_pfn(user & ~1, layout, "ctrlreg[1]")
            self._note(record, "cr3", f"user page table (ctrlreg[1]) of vcpu {vcpu}", pfn)
        entries = number(layout.gdt_ents)
        if entries > fmt.GDT_ENTRIES_MAX:
            self._complain("gdt", f"{entries} entries, must be at most {fmt.GDT_ENTRIES_MAX}")
            return
        for index in range(-(-entries // fmt.GDT_ENTRIES_PER_FRAME)):
            pfn = number(layout.gdt_frames + index * layout.word)
            self._note(record, "gdt-frame", f"GDT frame {index} of vcpu {vcpu}", pfn)

    def _cr3_pfn(self, cr3: int, layout: VcpuLayout, what: str) -> int:
        if layout.word == 4:
            # 32-bit guests keep the pfn's bits above 20 in the low bits, which PAE does not use.
            return cr3 >> PAGE_SHIFT | (cr3 & _CR3_FLAGS) << _EXTENDED_CR3_BITS
        if cr3 & _CR3_FLAGS:
            self._complain("cr3", f"{what} is 0x{cr3:x}: bits below 12 must be zero")
        return cr3 >> PAGE_SHIFT

    def _note(self, record: rec.VcpuBasic, rule: str, what: str, pfn: int) -> None:
        self.references.append(Reference(record.offset or 0, rule, what, pfn))

    def _take_shared_info(self, record: rec.SharedInfo) -> None:
        self.shared_info = record

    def finish_shared_info(self, nr_pfns: int, *, may_shrink: bool) -> None:
        """Compares the last shared_info with the p2m of ``nr_pfns`` that P2M_FRAMES covers. Savers know that from it.

        ``may_shrink``: several P2M_FRAMES have come, so that the p2m may have become smaller than it once was.
        """
        if self.shared_info is None or self.pv_info is None:
            return
        at, size = fmt.SHARED_INFO_NR_PFNS[self.pv_info.width]
        claimed = int.from_bytes(self.shared_info.blob[at : at + size], "little")
        if claimed < nr_pfns and not (may_shrink and claimed):
            self._current = self.shared_info
            text = f"the guest has 0x{claimed:x} pfns, but P2M_FRAMES covers 0x{nr_pfns:x}"
            self._complain("shared-info", text)

    def _check_tsc(self, record: rec.TscInfo) -> None:
        self._check_reserved(record.reserved)
        if record.mode == fmt.TSC_MODE_PVRDTSCP and self._origin.before(4, 12):
            self._complain("tsc", f"mode {record.mode} (PVRDTSCP): Xen 4.12 and later refuse it", note=True)
        elif record.mode not in fmt.TSC_MODES:
            self._complain("tsc", f"mode {record.mode} is not one of {fmt.TSC_MODES}")

    def _check_hvm_params(self, record: rec.HvmParams) -> None:
        self._check_reserved(record.reserved)
        if not record.params and self._version > 2:
            self._complain("empty-record", "without parameters")
        self.hvm.params(record)

    def _check_cpuid(self, record: rec.CpuidPolicy) -> None:
        self._check_multiple(record.blob, fmt.CPUID_LEAF.size)

    def _check_msrs(self, record: rec.MsrPolicy) -> None:
        if self._check_multiple(record.blob, fmt.MSR_POLICY_ENTRY.size):
            self._check_msr_entries(record.blob)

    def _check_msr_entries(self, blob: rec.Buffer) -> None:
        """The middle field of each is reserved, in a policy and in a vcpu's. One by one: there can be millions."""
        for _, reserved, _ in fmt.MSR_POLICY_ENTRY.iter_unpack(blob):
            if reserved:
                self._check_reserved(reserved)

    def _check_multiple(self, blob: rec.Buffer, size: int) -> bool:
        ok = bool(len(blob)) and not len(blob) % size
        if not ok:
            self._complain("length", f"{len(blob)} bytes, must be a multiple of {size} and not empty")
        return ok
