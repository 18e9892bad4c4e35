"""Rules on the guest's memory: P2M_FRAMES, PAGE_DATA, and whether it refers only to what was sent."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.records import P2mFrames, PvInfo, nr_with_data, types_of, words
from pyxcsr.stream.rules.bodies import Reference
from pyxcsr.stream.rules.complaints import Complaints
from pyxcsr.stream.rules.entries import HVM_TYPES, ordinary_row, pfns_of, problems, types_allowed
from pyxcsr.stream.rules.pfnmap import HAS_DATA, SENT, PfnMap
from pyxcsr.stream.rules.tables import TableTargets
from pyxcsr.stream.rules.words import describe_state, range_name, table_name
from pyxcsr.stream.sparse import tables_among

_SLICE = 1 << 14
"""Entries looked at together: a hostile record can hold 16 million."""

_LEVELS = {int(kind): kind.level for kind in PageType if kind.level}
_NO_TABLES = bytes(state for state in range(256) if state & ~SENT not in _LEVELS)
_POPULATED = HAS_DATA + bytes([SENT | PageType.XALLOC])
_BROKEN = SENT | PageType.BROKEN
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
        self._repeated = False
        self._offset = 0
        self._contents: dict[int, memoryview] = {}
        self._kinds = types_allowed(None) if pv else HVM_TYPES

    @property
    def complete(self) -> bool:
        """False if it was not possible to keep track."""
        return not self._lost

    def pv_info(self, info: PvInfo) -> None:
        """Tells the guest's width and levels, as soon as they are known."""
        self._info = info
        self._kinds = types_allowed(info.levels)

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
        if start % (PAGE_SIZE // self._width):
            return f"begins at pfn 0x{start:x}, within the pfns of a frame"
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

    def page_data(self, offset: int, start: memoryview, tables: dict[int, memoryview]) -> None:
        """One record of pages: its body up to these, and of them the page tables, by which page they are."""
        self._offset = offset
        count, reserved = fmt.PAGE_DATA_HEADER.unpack_from(start)
        if not count:
            self._complain("length", "there must be at least one entry")
        if reserved:
            self._complain("reserved", f"a reserved field is 0x{reserved:x}, not zero")
        self.entries += count
        self._contents = tables
        page = 0
        for at in range(fmt.PAGE_DATA_HEADER.size, len(start), 8 * _SLICE):
            page += self._slice(bytes(start[at : at + 8 * _SLICE]), page)
        self.pages += page

    def _slice(self, entries: bytes, page: int) -> int:
        """Some entries, the first page of which is the record's page ``page``; how many pages they have."""
        types = types_of(entries)
        pfns: Sequence[int] | None = ordinary_row(entries)
        if pfns is None or types.translate(None, self._kinds):
            pfns = self._look_closely(words(entries), types)
        if not self._comparing and not self._lost:
            self._note(pfns, types, page)
        return nr_with_data(types)

    def _look_closely(self, entries: array[int], types: bytes) -> Sequence[int]:
        """The pfns of entries in which something may be wrong."""
        pfns = pfns_of(entries)
        for problem in problems(entries, pfns, types, self._kinds):
            self._complain(*problem)
            self._repeated |= problem[0] == "duplicate-pfn"
        return pfns

    def _note(self, pfns: Sequence[int], types: bytes, page: int) -> None:
        bound = self._bound
        if not bound:
            return  # no valid P2M_FRAMES yet, which has been complained about
        highest = pfns[-1] if isinstance(pfns, range) else max(pfns)
        if highest >= bound:
            beyond = [pfn for pfn in pfns if pfn >= bound]
            self._complain(
                "pfn-bound",
                f"pfn 0x{beyond[0]:x} (and {len(beyond) - 1} more) is not below 0x{bound:x}, "
                + ("the end of the p2m" if self._pv else "the end of the address space"),
            )
        if self._tables and self._may_be_tables(pfns):
            for pfn in self._tables.keys() & set(pfns):
                del self._tables[pfn]
        self._note_tables(pfns, types, page)
        if highest < bound:
            self._map.set(pfns, types)
        else:
            inside = [(pfn, kind) for pfn, kind in zip(pfns, types) if pfn < bound]
            if inside:
                self._map.set([pfn for pfn, _ in inside], bytes(kind for _, kind in inside))
        if self._map.scattered:
            self._lost = True
            self._complain("scattered", "the pfns up to here are too far apart to keep track of; gave up")

    def _may_be_tables(self, pfns: Sequence[int]) -> bool:
        """Whether any of them may be a page table by now: the map tells, unless a record has named a pfn twice."""
        if self._repeated or not isinstance(pfns, range):
            return True
        if pfns[0] > self._map.highest:
            return False  # none of them was sent before
        return bool(self._map.run(pfns[0], len(pfns)).translate(None, _NO_TABLES))

    def _note_tables(self, pfns: Sequence[int], types: bytes, page: int) -> None:
        top = 4 if self._info is None else self._info.levels
        for table in tables_among(types):
            pfn = pfns[table.entry]
            if pfn < self._bound:
                content = self._contents[page + table.page]
                targets = TableTargets(content, _LEVELS[types[table.entry]], top, self._offset)
                self._check_table(pfn, targets)
                self._tables[pfn] = targets

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
        if self.nr_unsent and (self._pv or self._holes_left_out):  # of holes of an HVM guest nothing has to be said
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
                    # What the hardware had lost the guest still has, and its tables name it. No table may be lost.
                    lost = state == _BROKEN and table.level == 1
                    text = (
                        f"{table_name(pfn, table)} slot {run.slot + at} refers to pfn 0x{run.pfn + at:x}, "
                        f"which {describe_state(state)}"
                    )
                    self._complain("table-target", text, note=lost)

    def _complain(
        self, rule: str, text: str, record: RecordType = RecordType.PAGE_DATA, note: bool = False
    ) -> None:
        self._complaints.add(rule, text, offset=self._offset, record=record.name, note=note)
