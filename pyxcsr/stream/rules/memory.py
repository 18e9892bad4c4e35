"""Rules on the guest's memory: P2M_FRAMES, PAGE_DATA, and whether it refers only to what was sent."""

from __future__ import annotations

from array import array

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.records import P2mFrames, PageData, PvInfo, packed
from pyxcsr.stream.rules.bodies import Reference
from pyxcsr.stream.rules.complaints import Complaints
from pyxcsr.stream.rules.pfnmap import HAS_DATA, SENT, PfnMap
from pyxcsr.stream.rules.tables import TableTargets
from pyxcsr.stream.rules.words import describe_state, range_name, table_name

_SLICE = 1 << 14
"""Entries looked at together: a hostile record can hold 16 million."""

_TOP_TO_TYPE = bytes(top >> 4 for top in range(256))
_KNOWN = bytes(PageType)
_HVM_TYPES = bytes([PageType.NOTAB, PageType.BROKEN, PageType.XALLOC, PageType.XTAB])
_DATA_TYPES = frozenset(int(kind) for kind in PageType if kind.has_data)
_LEVELS = {int(kind): kind.level for kind in PageType if kind.level}
_NOT_TABLES = bytes(kind for kind in range(256) if kind not in _LEVELS)
_POPULATED = HAS_DATA + bytes([SENT | PageType.XALLOC])
_ORDINARY = frozenset([SENT | PageType.NOTAB])
_TOPS = {
    4: frozenset([SENT | PageType.L4TAB, SENT | PageType.L4TAB_PINNED]),
    3: frozenset([SENT | PageType.L3TAB, SENT | PageType.L3TAB_PINNED]),
}
_RANGES_KEPT = 10_000


class MemoryRules:
    """Follows the guest's memory through one stream.

    Memory used: a byte a pfn, and for each page table its targets as runs. ``entries`` and ``pages`` count
    PAGE_DATA entries and those with data, ``nr_frame_lists`` P2M_FRAMES; ``unsent`` are the first ranges (first, last)
    of pfns never sent, ``nr_unsent`` how many pfns they and all further ones are.
    """

    def __init__(self, complaints: Complaints, *, pv: bool, holes_left_out: bool = False) -> None:
        self.nr_pfns = 0
        self.entries = 0
        self.pages = 0
        self.nr_unsent = 0
        self.unsent: list[tuple[int, int]] = []
        self._pv = pv
        self._holes_left_out = holes_left_out
        self._info: PvInfo | None = None
        self._complaints = complaints
        self._map = PfnMap()
        self._tables: dict[int, TableTargets] = {}
        self._p2m_frames: array[int] = array("Q")
        self._p2m_offset = 0
        self.nr_frame_lists = 0
        self._comparing = False
        self._lost = False
        self._offset = 0
        self._kinds = _allowed_types(None) if pv else _HVM_TYPES

    @property
    def complete(self) -> bool:
        """False if it was not possible to keep track."""
        return not self._lost

    def pv_info(self, info: PvInfo) -> None:
        """Tells the guest's width and levels, as soon as they are known."""
        self._info = info
        self._kinds = _allowed_types(info.levels)

    def compare_only(self) -> None:
        """VERIFY: pages that follow are for comparison, and change nothing."""
        self._comparing = True

    # P2M_FRAMES

    def p2m_frames(self, record: P2mFrames) -> None:
        """The first frame list, or a further one that lets the p2m grow."""
        self._offset = record.offset or 0
        problem = self._why_bad_frames(record)
        if problem is not None:
            self._complain("p2m-frames", problem, RecordType.X86_PV_P2M_FRAMES)
            return
        first = record.start_pfn // (PAGE_SIZE // self._width)
        self._p2m_frames[first : first + len(record.frames)] = array("Q", record.frames)
        self._p2m_offset = self._offset
        self.nr_frame_lists += 1
        self.nr_pfns = max(self.nr_pfns, record.end_pfn + 1)

    def _why_bad_frames(self, record: P2mFrames) -> str | None:
        start, end = record.start_pfn, record.end_pfn
        if start > end:
            return f"the first pfn 0x{start:x} is beyond the last 0x{end:x}"
        if start > self.nr_pfns:
            return f"begins at pfn 0x{start:x}, but only pfns below 0x{self.nr_pfns:x} are covered"
        wanted = record.frames_wanted(self._width)
        if len(record.frames) != wanted:
            return f"{len(record.frames)} frames for pfns 0x{start:x} to 0x{end:x}, must be {wanted}"
        return None

    @property
    def _width(self) -> int:
        return 8 if self._info is None else self._info.width

    @property
    def _bound(self) -> int:
        """First pfn that the guest cannot have now."""
        return self.nr_pfns if self._pv else fmt.PFN_LIMIT

    # PAGE_DATA

    def page_data(self, record: PageData) -> None:
        """One record of pages."""
        self._offset = record.offset or 0
        if not len(record.entries):
            self._complain("length", "there must be at least one entry")
        if record.reserved:
            self._complain("reserved", f"a reserved field is 0x{record.reserved:x}, not zero")
        self.entries += len(record.entries)
        self.pages += record.nr_pages
        view = memoryview(record.pages)
        for at in range(0, len(record.entries), _SLICE):
            view = self._slice(record.entries[at : at + _SLICE], view)

    def _slice(self, entries: array[int], pages: memoryview) -> memoryview:
        """Some entries, and the pages from theirs on; gives back the pages after theirs."""
        types = packed(entries)[7::8].translate(_TOP_TO_TYPE)
        pfns = [entry & fmt.ENTRY_PFN_MASK for entry in entries] if any(types) else entries.tolist()
        self._check_entries(entries, pfns, types)
        used = sum(types.count(kind) for kind in _DATA_TYPES) * PAGE_SIZE
        if not self._comparing and not self._lost:
            self._note(pfns, types, pages[:used])
        return pages[used:]

    def _check_entries(self, entries: array[int], pfns: list[int], types: bytes) -> None:
        for entry in entries:
            if entry & fmt.ENTRY_RESERVED_MASK:
                self._complain("reserved", f"entry 0x{entry:016x} has reserved bits set")
                break
        unknown = types.translate(None, _KNOWN)
        if unknown:
            pfn = pfns[types.index(unknown[0])]
            self._complain("page-type", f"pfn 0x{pfn:x} has the unknown type 0x{unknown[0]:x}")
        strange = types.translate(None, self._kinds).translate(None, bytes(set(range(256)) - set(_KNOWN)))
        if strange:
            pfn = pfns[types.index(strange[0])]
            name = PageType(strange[0]).name
            self._complain(
                "page-type-guest", f"pfn 0x{pfn:x} is {name}, which this kind of guest cannot have"
            )
        if len(set(pfns)) < len(pfns):
            self._complain("duplicate-pfn", f"pfn 0x{_first_duplicate(pfns):x} comes twice in the record")

    def _note(self, pfns: list[int], types: bytes, pages: memoryview) -> None:
        bound = self._bound
        if not bound:
            return  # no valid P2M_FRAMES yet, which has been complained about
        if max(pfns) >= bound:
            beyond = [pfn for pfn in pfns if pfn >= bound]
            self._complain(
                "pfn-bound",
                f"pfn 0x{beyond[0]:x} (and {len(beyond) - 1} more) is not below 0x{bound:x}, "
                + ("the end of the p2m" if self._pv else "the end of the address space"),
            )
        if self._tables:
            for pfn in self._tables.keys() & set(pfns):
                del self._tables[pfn]
        if types.translate(None, _NOT_TABLES):
            self._note_tables(pfns, types, pages)
        if max(pfns) < bound:
            self._map.set(pfns, types)
        else:
            inside = [(pfn, kind) for pfn, kind in zip(pfns, types) if pfn < bound]
            if inside:
                self._map.set([pfn for pfn, _ in inside], bytes(kind for _, kind in inside))
        if self._map.scattered:
            self._lost = True
            self._complain("scattered", "the pfns up to here are too far apart to keep track of; gave up")

    def _note_tables(self, pfns: list[int], types: bytes, pages: memoryview) -> None:
        at = 0
        top = 4 if self._info is None else self._info.levels
        for pfn, kind in zip(pfns, types):
            level = _LEVELS.get(kind)
            if level is not None and pfn < self._bound:
                targets = TableTargets(pages[at : at + PAGE_SIZE], level, top, self._offset)
                self._check_table(pfn, targets)
                self._tables[pfn] = targets
            if kind in _DATA_TYPES:
                at += PAGE_SIZE

    def _check_table(self, pfn: int, table: TableTargets) -> None:
        for slot in table.superpages:
            self._complain("superpage", f"{table_name(pfn, table)} slot {slot} maps a superpage")
        if table.end <= self._bound:
            return
        for run in table.runs():
            if run.pfn + run.length > self._bound:
                inside = max(0, self._bound - run.pfn)
                self._complain(
                    "table-bound",
                    f"{table_name(pfn, table)} slot {run.slot + inside} refers to pfn "
                    f"0x{run.pfn + inside:x}, not below 0x{self._bound:x}, the end of the p2m",
                )

    # At END

    def why_missing(self, pfn: int) -> str | None:
        """What is amiss with an ordinary page that must be there, in words; None if it was last sent with data."""
        state = self._map[pfn]
        return None if state in HAS_DATA else describe_state(state)

    @property
    def populated(self) -> int:
        """How many pfns a receiver allocates pages for: those last sent with data, or as XALLOC."""
        return self._map.count(_POPULATED)

    def finish(self, end: int, references: list[Reference]) -> None:
        """Looks for what is missing. ``end`` is END's offset, ``references`` are the vcpus' frames."""
        if self._pv and not self.nr_pfns:
            self._lost = True  # no valid P2M_FRAMES: nothing is known of what there should be
        if self._lost:
            return
        self._check_coverage(end)
        if not self._pv:
            return
        self._check_p2m_frames()
        self._check_references(references)
        for pfn in sorted(self._tables):
            self._check_targets(pfn, self._tables[pfn])

    def _check_coverage(self, end: int) -> None:
        nr_pfns = self.nr_pfns if self._pv else self._map.highest + 1
        self.nr_pfns = nr_pfns
        for first, last in self._map.unsent(nr_pfns):
            self.nr_unsent += last - first + 1
            if len(self.unsent) < _RANGES_KEPT:
                self.unsent.append((first, last))
        if self.nr_unsent:
            shown = ", ".join(range_name(*pair) for pair in self.unsent[:8])
            more = ", ..." if len(self.unsent) > 8 else ""
            text = f"{self.nr_unsent} of {nr_pfns} pfns were never sent: {shown}{more}"
            # Savers before Xen 4.6 left holes out, and the converter cannot know what they would have been.
            note = self._holes_left_out
            self._complaints.add("never-sent", text, offset=end, record=RecordType.END.name, note=note)

    def _check_p2m_frames(self) -> None:
        self._offset = self._p2m_offset
        for index, pfn in enumerate(self._p2m_frames):
            state = self._map[pfn]
            if state not in _ORDINARY:
                text = f"frame {index} of the p2m is pfn 0x{pfn:x}, which {describe_state(state)}"
                self._complain("p2m-frame", text, RecordType.X86_PV_P2M_FRAMES)

    def _check_references(self, references: list[Reference]) -> None:
        tops = _TOPS[4 if self._info is None else self._info.levels]
        for reference in references:
            state = self._map[reference.pfn]
            if state not in (tops if reference.rule == "cr3" else _ORDINARY):
                self._offset = reference.offset
                text = f"{reference.what} is pfn 0x{reference.pfn:x}, which {describe_state(state)}"
                self._complain(reference.rule, text, RecordType.X86_PV_VCPU_BASIC)

    def _check_targets(self, pfn: int, table: TableTargets) -> None:
        if self._map.all_have_data(table.singles(), table.longer_runs()):
            return
        self._offset = table.offset
        for run in table.runs():
            count = min(run.length, self.nr_pfns - run.pfn)
            if count <= 0:
                continue
            for at, state in enumerate(self._map.run(run.pfn, count)):
                if state not in HAS_DATA:
                    self._complain(
                        "table-target",
                        f"{table_name(pfn, table)} slot {run.slot + at} refers to pfn 0x{run.pfn + at:x}, "
                        f"which {describe_state(state)}",
                    )

    def _complain(self, rule: str, text: str, record: RecordType = RecordType.PAGE_DATA) -> None:
        self._complaints.add(rule, text, offset=self._offset, record=record.name)


def _allowed_types(levels: int | None) -> bytes:
    """Page types of a PV guest with so many levels."""
    return _KNOWN if levels is None else bytes(kind for kind in PageType if kind.level <= levels)


def _first_duplicate(pfns: list[int]) -> int:
    seen: set[int] = set()
    for pfn in pfns:
        if pfn in seen:
            return pfn
        seen.add(pfn)
    raise ValueError("no duplicate")
