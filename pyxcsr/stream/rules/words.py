"""How pfns and page tables are named in complaints."""

from __future__ import annotations

from pyxcsr.frames import PageType
from pyxcsr.stream.rules.pfnmap import SENT
from pyxcsr.stream.rules.tables import TableTargets

_KNOWN = bytes(PageType)


def describe_state(state: int) -> str:
    """What a pfn with this byte in the map is."""
    if not state:
        return "was never sent"
    kind = state & ~SENT
    name = PageType(kind).name if kind in _KNOWN else f"of unknown type 0x{kind:x}"
    return f"was last sent as {name}"


def table_name(pfn: int, table: TableTargets) -> str:
    """A page table by its pfn and level."""
    return f"page table pfn 0x{pfn:x} level {table.level}"


def range_name(first: int, last: int) -> str:
    """A range of pfns, or the only one."""
    return f"0x{first:x}" if first == last else f"0x{first:x}-0x{last:x}"
