"""The walk from p2m_cr3 and p2m_vaddr to the frames that hold a guest's p2m list.

The geometry is data (:mod:`pyxcsr.guest.pv.geometry`), and one loop walks all levels. Whole tables are copied, then
checked, then used, because the guest may be running. Indices are absolute (counted from virtual address 0), so that a
list that does not begin at the first slot of a table, or that spans several tables, is no special case.
"""

from __future__ import annotations

from pyxcsr.errors import HypervisorError, P2mError
from pyxcsr.frames import PAGE_SHIFT, PAGE_SIZE
from pyxcsr.guest.pv.geometry import MAX_NR_PFNS
from pyxcsr.guest.pv.p2m.blame import is_the_guests
from pyxcsr.guest.pv.p2m.reserve import Reserve
from pyxcsr.plain import TYPE_CHECKING, NamedTuple
from pyxcsr.plain_array import array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyxcsr.guest.pv.geometry import Geometry, Level
    from pyxcsr.hypervisor.interface import Hypervisor

PER_TABLE = 512
"""Entries in a page table: 8 bytes each, whatever the guest's width."""

AT_ONCE = 16
"""How many tables are copied at a time."""


class Leaves(NamedTuple):
    """What a walk finds: how many pfns the p2m covers (see _trim), and the frame of each leaf."""

    nr_pfns: int
    mfns: Sequence[int]


def check_range(geometry: Geometry, vaddr: int, nr_pfns: int) -> int:
    """The last address of a list of ``nr_pfns`` entries at ``vaddr``. Raises P2mError if no list can be there."""
    if not 0 < nr_pfns <= MAX_NR_PFNS:
        raise P2mError(
            f"the guest claims {nr_pfns:#x} pfns (shared_info max_pfn); 1 to {MAX_NR_PFNS:#x} can be saved",
            field="max_pfn",
            value=nr_pfns,
        )
    frames = geometry.nr_leaves(nr_pfns)
    end = vaddr + frames * PAGE_SIZE - 1
    if vaddr % PAGE_SIZE or not any(first <= vaddr and end <= last for first, last in geometry.ranges):
        raise P2mError(
            f"a p2m list of {frames} frames cannot be at p2m_vaddr {vaddr:#x}: not page-aligned, no address of the "
            "guest's, or within Xen's own range",
            field="p2m_vaddr",
            value=vaddr,
            vaddr=vaddr,
        )
    return end


def check_limit(nr_pfns: int, limit: int) -> None:
    """Raises P2mError if a p2m, without the room that is only reserved, has none or more than ``limit`` pfns."""
    if not 0 < nr_pfns <= limit:
        raise P2mError(
            f"the guest's p2m has {nr_pfns:#x} pfns, but by what Xen says of the domain it can have 1 to {limit:#x}",
            field="max_pfn",
            value=nr_pfns,
            limit=limit,
        )


def _of_length(numbers: array[int], nr: int) -> array[int]:
    """The same ones, cut or filled up with zeroes; made at once, because what grows leaves holes in memory."""
    whole = array("Q", [0]) * nr
    kept = numbers[:nr]
    whole[: len(kept)] = kept
    return whole


def _in_one(parts: Iterable[array[int]]) -> array[int]:
    whole = array("Q")
    for some in parts:
        whole += some
    return whole


class Walk:
    """Walks to a p2m list, once or again and again. ``limit``: how many pfns the guest may have, whatever it claims.

    ``keep``: at least so many pfns stay, even if the list's end is empty now: they have been used before. A later walk
    reads all tables again; a level whose entries are equal to the last walk's is not checked entry by entry again.
    ``poll``: called every few tables, however many of them a guest has; may raise Cancelled.
    """

    def __init__(
        self, hv: Hypervisor, domid: int, geometry: Geometry, limit: int, poll: Callable[[], None] = lambda: None
    ) -> None:
        self._hv, self._domid, self._geometry, self.limit = hv, domid, geometry, limit
        self.poll = poll
        self._nr_mfns = hv.nr_mfns()
        self.keep = 0
        self.read: array[int] = array("Q")
        """The frames of the tables that the last walk read. If nobody has written them, another walk finds the same."""
        self._known: dict[int, tuple[int, array[int], array[int]]] = {}

    def leaves(self, cr3: int, vaddr: int, nr_pfns: int) -> Leaves:
        """Walks all levels. Raises P2mError naming level, index, vaddr and mfn."""
        end = check_range(self._geometry, vaddr, nr_pfns)
        self.read = array("Q")
        tables = array("Q", [self._top(cr3)])
        for level in self._geometry.levels:
            first, nr = vaddr >> level.shift, (end >> level.shift) - (vaddr >> level.shift) + 1
            parts: Iterable[array[int]] = self._read_a_few(tables, level, first % PER_TABLE, nr)
            if level.number == 2:
                entries, nr_pfns = self._trim(_in_one(parts), vaddr, nr_pfns)
                end = check_range(self._geometry, vaddr, nr_pfns)
                nr, parts = len(entries), [entries]
            tables = self._frames_as_before(parts, level, first, nr)
        return Leaves(nr_pfns, tables)

    def _frames_as_before(self, parts: Iterable[array[int]], level: Level, first: int, nr: int) -> array[int]:
        """The frames that ``nr`` entries name, which come in parts; as far as they are those of the last walk, its."""
        known = self._known.get(level.number)
        if known is None or known[0] != first:
            known = (first, array("Q"), array("Q"))
        entries, mfns, at = known[1], known[2], 0
        is_new = len(entries) != nr
        if is_new:
            entries, mfns = _of_length(entries, nr), _of_length(mfns, nr)
        for some in parts:
            end = at + len(some)
            if known[1][at:end] != some:
                if not is_new:  # what there was stays as it is: others hold it
                    is_new, entries, mfns = True, entries[:], mfns[:]
                entries[at:end] = some
                mfns[at:end] = self._frames(some, level, first + at)
            at = end
        self._known[level.number] = (first, entries, mfns)
        return mfns

    def _read_a_few(self, tables: Sequence[int], level: Level, begin: int, nr: int) -> Iterator[array[int]]:
        """``nr`` entries from the ``begin``-th on of these tables, in a row. The last level may have megabytes,
        so there are never more than a few of them at a time beside what is kept."""
        for index in range(0, len(tables), AT_ONCE):
            base = index * PER_TABLE
            end = min(begin + nr - base, AT_ONCE * PER_TABLE)
            yield self._read(tables[index : index + AT_ONCE], level, max(begin - base, 0), end)

    def _top(self, cr3: int) -> int:
        mfn = self._geometry.frame_of_cr3(cr3)
        if not 0 < mfn < self._nr_mfns:
            raise P2mError(
                f"p2m_cr3 {cr3:#x} is not a frame of this machine ({self._nr_mfns:#x} frames)",
                field="p2m_cr3",
                value=cr3,
                mfn=mfn,
                max_mfn=self._nr_mfns - 1,
            )
        return mfn

    def _read(self, mfns: Sequence[int], level: Level, begin: int, end: int) -> array[int]:
        """The entries from ``begin`` up to ``end`` of these tables, in a row."""
        entries = array("Q")
        with memoryview(self._copy(mfns, level)) as whole:
            entries.frombytes(whole[8 * begin : 8 * end])
        return entries

    def _copy(self, mfns: Sequence[int], level: Level) -> bytes:
        self.read.extend(mfns)
        self.poll()
        try:
            return self._hv.read_frames(self._domid, mfns)
        except HypervisorError as error:
            if not is_the_guests(error):
                raise
            raise P2mError(
                f"the level {level.number} tables of the p2m list cannot be read: {error}",
                field="p2m_cr3",
                value=mfns[0],
                level=level.number,
                mfn=mfns[0],
                errno=error.errno,
            ) from error

    def _frames(self, entries: array[int], level: Level, first: int) -> array[int]:
        """The frames that entries name, checked. ``first``: the absolute index of the first entry."""
        mfns, bad = self._hv.pte_frames(entries, self._nr_mfns, level.number)
        if bad < len(entries):
            raise self._bad_entry(entries[bad], mfns[bad], level, first + bad)
        return mfns

    def _bad_entry(self, entry: int, mfn: int, level: Level, index: int) -> P2mError:
        vaddr = (index << level.shift) & 0xFFFFFFFFFFFFFFFF
        return P2mError(
            f"entry {index % PER_TABLE} of a level {level.number} table of the p2m list, for address {vaddr:#x}, is "
            f"{entry:#x}: not a present 4 KiB entry of a frame of this machine",
            field="p2m_cr3",
            value=entry,
            level=level.number,
            index=index % PER_TABLE,
            vaddr=vaddr,
            mfn=mfn,
            max_mfn=self._nr_mfns - 1,
        )

    def _trim(self, entries: array[int], vaddr: int, nr_pfns: int) -> tuple[array[int], int]:
        """Cuts off the list's end if the guest has only reserved room there for memory that it may get later.

        A guest that can grow maps the rest of its list to one page of empty entries, again and again. Level 2 entries
        at the end (512 pages of the p2m each) that lead to nothing else are dropped. A page of empty entries that is
        mapped only once is not dropped: the guest could fill it without telling, while it must replace a shared page
        before it can use one of its pfns, which changes the generation.
        """
        level2, level1 = self._geometry.levels[-2:]
        reserve = Reserve(self._geometry, self._nr_mfns, lambda mfns: self._copy(mfns, level1))
        slots = self._slots(vaddr, nr_pfns)
        whole: set[int] = set()  # tables that the list fills, found to be reserve
        kept = len(entries)
        while kept and self._pfns_before(vaddr, kept - 1) >= self.keep:
            used = slots(kept - 1)
            (table,) = self._frames(entries[kept - 1 : kept], level2, used[0] // PER_TABLE)
            if len(used) < PER_TABLE or table not in whole:
                ahead = self._leaves_of(entries, kept - 2, slots) if len(used) < PER_TABLE and kept > 1 else ()
                if not reserve.is_all(self._leaves_of(entries, kept - 1, slots), ahead):
                    break
            if len(used) == PER_TABLE:
                whole.add(table)
            kept -= 1
        if kept < len(entries):
            nr_pfns = self._pfns_before(vaddr, kept)
        check_limit(nr_pfns, self.limit)
        return entries[:kept], nr_pfns

    def _pfns_before(self, vaddr: int, nr: int) -> int:
        """How many pfns the first ``nr`` level 2 entries of a list at ``vaddr`` cover."""
        shift = self._geometry.levels[-2].shift
        return ((((vaddr >> shift) + nr) << shift) - vaddr) // PAGE_SIZE * self._geometry.per_leaf if nr else 0

    def _slots(self, vaddr: int, nr_pfns: int) -> Callable[[int], range]:
        """Gives the slots (absolute indices) that a list has in the table of its n-th level 2 entry."""
        begin = vaddr >> PAGE_SHIFT
        end = begin + self._geometry.nr_leaves(nr_pfns)
        first = begin - begin % PER_TABLE
        return lambda n: range(max(begin, first + n * PER_TABLE), min(end, first + (n + 1) * PER_TABLE))

    def _leaves_of(self, entries: array[int], n: int, slots: Callable[[int], range]) -> array[int]:
        """The frames that a list names in the table of its n-th level 2 entry."""
        level2, level1 = self._geometry.levels[-2:]
        used = slots(n)
        table = self._frames(entries[n : n + 1], level2, used[0] // PER_TABLE)
        begin = used[0] % PER_TABLE
        return self._frames(self._read(table, level1, begin, begin + len(used)), level1, used[0])
