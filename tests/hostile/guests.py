"""Hostile guests as data: what each does, when, and what must come of a save.

``act`` writes through :class:`hostile.inside.Inside`. ``when`` is ``"before"`` the save; ``"suspended"``: at the first
call of the saver's after the guest suspended; ``(function, n)``: at the saver's n-th call of a library function;
``("every", function)``: at each; ``"thread"``: all the time, from a thread. ``expect`` lists what is acceptable:
IMAGE, a save that succeeds with a correct image, or the name of the exception and words that its text must have, which
name the field that lied. What ends otherwise is a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from hostile.inside import ENTRY, NONE, Inside
from pyxcsr.frames import PageType

Act = Callable[[Any], object]
When = Union[str, tuple[str, Union[int, str]]]
Outcome = Optional[tuple[str, str]]

IMAGE: Outcome = None
QUIET = "mem=5M,writes=0,pt_updates=0,seed=5"
SMP = f"{QUIET},vcpus=3,offline_vcpus=1"
TREE = f"{QUIET},tree=only"
TABLE = "level {} table"
CHANGED: Outcome = ("P2mChanged", "p2m")
NOT_FRAME = "not a frame of this machine"
MAPS, TYPES, BITMAPS, INFOS = (
    "xenforeignmemory_map", "xc_get_pfn_type_batch", "xc_logdirty_control", "xc_domain_getinfolist",
)  # fmt: skip


def no(kind: str, words: str) -> Outcome:
    """Refused with that exception, whose text has these words."""
    return (kind, words)


@dataclass(frozen=True)
class Hostile:
    """One guest. ``live_only``: a non-live save gives it no moment to act; ``lost``: no save can follow, ``for_good``:
    none that succeeds, because it cannot take back what it did;
    ``gives_back``: pages that it gave back after they were sent may be in the image, unless it is followed;
    ``patience``: seconds that it gets to answer a request to suspend, and again to follow it. ``kind``: as in a
    description of a guest of the stub; what PVH and HVM guests do is in hvm_guests.py.
    """

    name: str
    act: Act
    expect: tuple[Outcome, ...]
    when: When = "before"
    guest: str = QUIET
    live_only: bool = False
    lost: bool = False
    gives_back: bool = False
    patience: float = 60.0
    kind: str = "pv64"
    for_good: bool = False


def shared(field: str, value: int) -> Act:
    return lambda g: g.shared(field, value)


def _vcpu(field: str, value: int, vcpu: int = 0) -> Act:
    return lambda g: g.vcpu(field, value, vcpu)


# -- where the p2m is


def _claims() -> list[Hostile]:
    out = [
        Hostile("p2m_cr3 0", shared("p2m_cr3", 0), (no("P2mError", "p2m_cr3"),)),
        Hostile("p2m_cr3 of another domain", lambda g: g.shared("p2m_cr3", g.other.mfn(3) << 12),
                (no("P2mError", "level 4 tables"),)),
        Hostile("p2m_cr3 of Xen's", shared("p2m_cr3", 1 << 12), (no("P2mError", "level 4 tables"),)),
        Hostile("p2m_cr3 shared_info", lambda g: g.shared("p2m_cr3", g.guest.state().shared_info_mfn << 12),
                (no("P2mError", TABLE.format(4)),)),
        Hostile("p2m_cr3 a data page", lambda g: g.shared("p2m_cr3", g.guest.mfn(g.data()) << 12),
                (no("P2mError", "level"),)),
        Hostile("p2m_cr3 one past the machine", lambda g: g.shared("p2m_cr3", g.hv.stub.max_page << 12),
                (no("P2mError", "p2m_cr3"),)),
    ]  # fmt: skip
    for cr3 in (1, 0x800, 0xFFF, NONE, 1 << 51, 1 << 52):
        out.append(Hostile(f"p2m_cr3 {cr3:#x}", shared("p2m_cr3", cr3), (no("P2mError", "p2m_cr3"),)))
    unmapped = no("P2mError", "for address")  # its list ends before
    for count in (0, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 52, NONE):
        out.append(Hostile(f"max_pfn {count:#x}", shared("max_pfn", count), (no("P2mError", "pfns"), unmapped)))
    out.append(Hostile("max_pfn 1", shared("max_pfn", 1), (no("P2mError", "p2m frame 0"),)))
    out.append(Hostile("max_pfn below its memory", shared("max_pfn", 1024), (no("P2mError", "p2m frame"),
                       no("PageTableError", "not the guest's"))))  # fmt: skip
    out.append(Hostile("max_pfn above its list", shared("max_pfn", 512 * 512), (no("P2mError", TABLE.format(1)),)))
    for vaddr, why in (
        (1 << 47, "not canonical"), (0xFFFF7FFFFFFFF000, "not canonical"), (NONE - 4095, "wraps"),
        (NONE - 8191, "wraps"), (0xFFFF800000000000, "Xen's hole"), (0xFFFF87FFFFFFF000, "Xen's hole's end"),
        (0xFFFF7FFFFFFFE000, "into Xen's hole"), (0xFFFFC90000000008, "not aligned"),
    ):  # fmt: skip
        out.append(Hostile(f"p2m_vaddr {why} {vaddr:#x}", shared("p2m_vaddr", vaddr), (no("P2mError", "p2m_vaddr"),)))
    for vaddr in (0, 0xFFFFC90000000000 + (1 << 21), (1 << 47) - (4 << 12)):
        out.append(
            Hostile(f"p2m_vaddr elsewhere {vaddr:#x}", shared("p2m_vaddr", vaddr), (no("P2mError", "for address"),))
        )
    for top in (0, NONE, 1, 1 << 40):
        out.append(
            Hostile(f"frame list list {top:#x}", shared("pfn_to_mfn_frame_list_list", top),
                    (no("P2mError", "frame list"),), guest=TREE)
        )  # fmt: skip
    out.append(Hostile("frame list list of another domain",
                       lambda g: g.shared("pfn_to_mfn_frame_list_list", g.other.mfn(3)),
                       (no("P2mError", "frame list list"),), guest=TREE))  # fmt: skip
    out.append(Hostile("frame list list that lists itself", _tree_loops, (no("P2mError", "frame"),), guest=TREE))
    return out


def _tree_loops(g: Inside) -> None:
    mfn = g.guest.shared_info("pfn_to_mfn_frame_list_list")
    g.word(g.pfn_of(mfn), 0, mfn)


# -- the page tables that lead to it


def _tables(levels: int) -> list[Hostile]:
    out: list[Hostile] = []
    values: dict[str, Callable[[Inside], int]] = {
        "0": lambda g: 0,
        "frame 0": lambda g: ENTRY,
        "not present": lambda g: g.entry_to(g.data()) & ~1,
        "all ones": lambda g: NONE,
        "one past the m2p": lambda g: g.hv.stub.max_page << 12 | ENTRY,
        "another domain's": lambda g: g.other.mfn(5) << 12 | ENTRY,
        "Xen's": lambda g: 1 << 12 | ENTRY,
        "shared_info": lambda g: g.guest.state().shared_info_mfn << 12 | ENTRY,
        "free memory": lambda g: _free(g) << 12 | ENTRY,
        "a data page": lambda g: g.entry_to(g.data()),
    }
    # a page of the list that is another page makes holes of its pfns, which page tables still refer to
    wrong = (no("P2mError", "p2m"), no("PageTableError", "not the guest's"), no("PageError", "to another pfn"))
    for level in range(levels, 0, -1):
        for name, value in values.items():
            out.append(Hostile(f"level {level} entry {name}", _entry(level, value), wrong))
        if level > 1:
            out.append(
                Hostile(f"level {level} superpage", _entry(level, lambda g: g.entry_to(g.data()) | 0x80),
                        (no("P2mError", TABLE.format(level)),))
            )  # fmt: skip
    out.append(Hostile("tables that all are the root", _all_root, (no("P2mError", "p2m"),)))
    out.append(Hostile("a table that points at itself", _at_itself, (no("P2mError", "p2m"),)))
    out.append(Hostile(f"level 1 points back at level {levels}", _back, wrong))
    out.append(Hostile("p2m page that is a page table", _leaf_is_table, (no("P2mError", "p2m"),)))
    return out


def _free(g: Inside) -> int:
    """A frame that nobody has."""
    return next(x for x in range(g.hv.stub.max_page - 1, 0, -1) if g.hv.stub.frame(x)[0] == 0x7FF4)


def _entry(level: int, value: Callable[[Inside], int]) -> Act:
    return lambda g: g.at_level(level, value(g))


def _all_root(g: Inside) -> None:
    """Each index of the way, in the root, leads to the root: the list's first page is the root itself."""
    root = g.slots()[max(g.slots())][0]
    for _, index in reversed(list(g.slots().values())):
        g.word(root, index, g.entry_to(root))


def _at_itself(g: Inside) -> None:
    table, index = g.slots()[2]
    g.word(table, index, g.entry_to(table))


def _back(g: Inside) -> None:
    g.at_level(1, g.entry_to(g.slots()[max(g.slots())][0]))


def _leaf_is_table(g: Inside) -> None:
    """The list's second page is a page table of its own, whose entries are what they are."""
    table, index = g.slots()[1]
    g.word(table, index + 1, g.entry_to(g.table("L1TAB")))


# -- the p2m's content


def _content() -> list[Hostile]:
    # by the pfn itself, or by the page table that maps the frame which no pfn claims any more
    at_once = (no("PageError", "m2p gives this frame to another pfn"), no("PageTableError", "not the guest's"))
    return [
        Hostile("two pfns with one mfn", _twice, at_once),
        Hostile("a pfn with another domain's mfn", lambda g: g.p2m(g.data(), g.other.mfn(7)), at_once),
        Hostile("a pfn with Xen's mfn", lambda g: g.p2m(g.data(), 1), at_once),
        Hostile("a pfn with mfn 0", lambda g: g.p2m(g.data(), 0), at_once),
        Hostile("a pfn with shared_info", lambda g: g.p2m(g.data(), g.guest.state().shared_info_mfn), at_once),
        Hostile("two pfns exchanged", _exchanged, at_once),
        Hostile("an mfn one past the machine", lambda g: g.p2m(g.data(), g.hv.stub.max_page),
                (no("PageTableError", "not the guest's"),)),
        Hostile("a page of the list that it does not name", lambda g: g.p2m(g.guest.leaf_pfns()[1], NONE),
                (no("P2mError", "p2m frame 1"),)),
        Hostile("an entry that changes at each look", _flicker, (*at_once, IMAGE,
                no("PageTableError", "not the guest's")), when="thread"),
        Hostile("pages of the list repeated 2000 times", _repeated, at_once, when="before"),
        Hostile("pages of the list repeated 130000 times", _repeated_more, (no("P2mError", "pfns"),)),
        Hostile("empty pages of the list repeated 2000 times", _repeated_empty, (IMAGE,)),
        Hostile("a frame without a pfn from the first pass on", _hides,
                (no("PageTableError", "not the guest's"), IMAGE), when=(BITMAPS, 1), live_only=True),
        Hostile("a frame without a pfn before the last bitmap", _hides,
                (no("PageTableError", "not the guest's"), IMAGE), when="suspended", live_only=True),
        Hostile("ballooning at each call", _balloon, (IMAGE, no("PageTableError", "not the guest's")),
                when=("every", TYPES), gives_back=True),
    ]  # fmt: skip


def _twice(g: Inside) -> None:
    pfn = g.data()
    g.p2m(pfn, g.guest.mfn(g.data(41)))


def _hides(g: Inside) -> None:
    """Neither the p2m nor the m2p tells of the frame any more, but a page table names it. (If the p2m is not followed,
    the page is saved as it was.)"""
    pfn = g.data()
    g.m2p(g.guest.mfn(pfn), NONE)
    g.p2m(pfn, NONE)


def _exchanged(g: Inside) -> None:
    one, two = g.data(), g.data(41)
    first, second = g.guest.mfn(one), g.guest.mfn(two)
    g.p2m(one, second)
    g.p2m(two, first)


def _flicker(g: Inside) -> None:
    pfn = g.memory.setdefault("pfn", g.data())
    if "mfn" not in g.memory:
        g.memory["mfn"] = g.guest.mfn(pfn)
        g.p2m(pfn, g.memory["mfn"])  # remembered, to be undone
    for value in (1, NONE, g.memory["mfn"], g.hv.stub.max_page, g.memory["mfn"]):
        g.guest.corrupt_p2m(pfn, value)


def _repeat(g: Inside, tables: int, leaf: int) -> None:
    """``tables`` level 2 entries lead to one table, all of whose entries lead to one page."""
    level1, level2 = g.data(60), g.slots()[2]
    for index in range(512):
        g.word(level1, index, g.entry_to(leaf))
    for index in range(tables):
        g.word(level2[0], level2[1] + 1 + index, g.entry_to(level1))
    first = g.slots()[1]
    for index in range(len(g.guest.leaf_pfns()), 512):
        g.word(first[0], first[1] + index, g.entry_to(leaf))
    g.shared("max_pfn", 512 * 512 * (1 + tables))


def _repeated(g: Inside) -> None:
    _repeat(g, 3, g.guest.leaf_pfns()[0])


def _repeated_more(g: Inside) -> None:
    _repeat(g, 254, g.guest.leaf_pfns()[0])


def _repeated_empty(g: Inside) -> None:
    """Not at the list's end, where it would be cut off, but before the last page, which is another one."""
    empty, last = g.data(61), g.data(62)
    for page in (empty, last):
        for index in range(512):
            g.word(page, index, NONE)
    g.word(last, 511, NONE - 1)
    _repeat(g, 3, empty)
    other = g.data(63)
    for index in range(512):
        g.word(other, index, g.entry_to(empty if index < 511 else last))
    level2 = g.slots()[2]
    g.word(level2[0], level2[1] + 3, g.entry_to(other))


def _balloon(g: Inside) -> None:
    count = g.memory["n"] = g.memory.get("n", 0) + 1
    if g.guest.running and count < 40:
        pfn = g.data(count)
        g.guest.balloon_out(pfn)
        g._undo.append(lambda: g.guest.balloon_in(pfn))


# -- changes between two reads


def _races() -> list[Hostile]:
    out = [
        Hostile(f"root exchanged at map {n}", lambda g: g.at_root(g.entry_to(g.data())),
                (no("P2mError", "p2m"), IMAGE, no("P2mChanged", "p2m")), when=(MAPS, n))
        for n in range(1, 10)
    ]  # fmt: skip
    for n in range(1, 10):
        out.append(Hostile(f"moved at map {n}", _move, (IMAGE, CHANGED), when=(MAPS, n)))
        out.append(Hostile(f"p2m page exchanged at map {n}", lambda g: g.guest.replace_leaf(1),
                           (IMAGE, CHANGED), when=(MAPS, n)))  # fmt: skip
    for field, value in (("max_pfn", 1 << 52), ("p2m_vaddr", 0xFFFF800000000000), ("p2m_cr3", 0x800)):
        for n in (2, 3, 4, 5, 6):
            out.append(Hostile(f"{field} {value:#x} at map {n}", shared(field, value),
                               (no("P2mError", field.split("_")[1]), IMAGE), when=(MAPS, n)))  # fmt: skip
    out += [
        Hostile("way to the list that flickers", _flicker_way, (no("P2mError", "p2m"), IMAGE), when="thread"),
        Hostile("max_pfn that flickers", _flicker_max, (no("P2mError", ""), IMAGE, no("PageTableError", "guest's")),
                when="thread"),
        Hostile("page of the list that becomes a page table", lambda g: g.kind(g.guest.leaf_pfns()[1], PageType.L1TAB),
                (no("P2mError", "p2m frame 1"),)),
        Hostile("types that change at each call", _types, (IMAGE, no("PageTableError", "guest's"),
                no("GuestStateError", "cr3"), no("PageError", "")), when=("every", TYPES)),
        Hostile("generation odd for ever", shared("p2m_generation", 7), (no("P2mError", "p2m_generation"),)),
        Hostile("generation odd from the first pass on", shared("p2m_generation", 7),
                (CHANGED, no("P2mError", "p2m_generation")), when=(TYPES, 1)),
        Hostile("generation 2^64 - 1", shared("p2m_generation", NONE), (no("P2mError", "p2m_generation"),)),
        Hostile("generation + 2 at each map", lambda g: g.guest.bump_generation(2),
                (CHANGED, IMAGE), when=("every", MAPS)),
        Hostile("generation + 1 at each map", lambda g: g.guest.bump_generation(1),
                (CHANGED, IMAGE, no("P2mError", "p2m_generation")), when=("every", MAPS)),
        Hostile("generation races", lambda g: g.guest.bump_generation(1),
                (CHANGED, IMAGE, no("P2mError", "p2m_generation")), when="thread"),
        Hostile("generation backwards", shared("p2m_generation", 2), (CHANGED, IMAGE), when=(TYPES, 2)),
        Hostile("generation + 2^63", lambda g: g.guest.bump_generation(1 << 63), (CHANGED, IMAGE), when=(TYPES, 2)),
        Hostile("generation + 2 when suspended", lambda g: g.guest.bump_generation(2), (CHANGED, IMAGE),
                when="suspended"),
    ]  # fmt: skip
    return out


def _move(g: Inside) -> None:
    g.guest.move_p2m(0xFFFFC91000345000, True)


def _flicker_way(g: Inside) -> None:
    if "pfn" not in g.memory:
        g.memory["pfn"], g.memory["index"] = g.slots()[3]
        g.memory["good"] = g.read(g.memory["pfn"], g.memory["index"])
        g.memory["bad"] = g.entry_to(g.data())
        g.word(g.memory["pfn"], g.memory["index"], g.memory["good"])
    for name in ("bad", "good"):
        g.guest.corrupt_pte(g.memory["pfn"], g.memory["index"], g.memory[name])


def _flicker_max(g: Inside) -> None:
    if "max" not in g.memory:
        g.memory["max"] = g.guest.shared_info("max_pfn")
        g.shared("max_pfn", g.memory["max"])
    for value in (1 << 52, 1024, 0, g.memory["max"]):
        g.guest.poke_shared_info("max_pfn", value)


def _types(g: Inside) -> None:
    """An ordinary page is a page table at every other call, with a word in it that names nothing."""
    if not g.guest.running:
        return
    if "pfn" not in g.memory:
        g.memory["pfn"] = g.data()
        g.kind(g.memory["pfn"], PageType.NOTAB)  # remembered, to be undone
    pfn = g.memory["pfn"]
    turn = g.memory["turn"] = 1 - g.memory.get("turn", 0)
    if turn:
        g.guest.set_type(pfn, PageType.L1TAB)
    else:
        g.guest.set_type(pfn, PageType.NOTAB)


# -- page tables and vcpus


def _state() -> list[Hostile]:
    table = (no("PageTableError", "not the guest's"),)
    out = [
        Hostile("a page table entry to another domain", lambda g: g.word(g.table("L1TAB"), 9, g.other.mfn(5) << 12 | 1),
                table, when="suspended"),
        Hostile("a page table entry to Xen", lambda g: g.word(g.table("L1TAB"), 9, 0x1001), table, when="suspended"),
        Hostile("a page table entry past the m2p",
                lambda g: g.word(g.table("L1TAB"), 9, g.hv.stub.max_page << 12 | 1), table, when="suspended"),
        Hostile("a page table entry of all ones", lambda g: g.word(g.table("L1TAB"), 9, NONE), table, when="suspended"),
        Hostile("a superpage", lambda g: g.word(g.table("L2TAB"), 400, g.entry_to(g.data()) | 0x80),
                (no("PageTableError", "superpage"),)),
        Hostile("page tables in a loop", _table_loop, (IMAGE,)),
        Hostile("start_info of another domain", lambda g: g.vcpu("rdx", g.other.mfn(5)),
                (no("GuestStateError", "vcpu0.rdx"),), when="suspended"),
        Hostile("start_info in a page table", lambda g: g.vcpu("rdx", g.guest.mfn(g.table("L1TAB"))),
                (no("GuestStateError", "vcpu0.rdx"),), when="suspended"),
    ]  # fmt: skip
    for value in (0, 1, NONE, 1 << 40):
        out.append(Hostile(f"rdx {value:#x}", _vcpu("rdx", value), (no("GuestStateError", "vcpu0.rdx"),),
                           when="suspended"))  # fmt: skip
    for ents in (7169, 1 << 31, 1 << 40, NONE):
        out.append(Hostile(f"gdt_ents {ents:#x}", _vcpu("gdt_ents", ents, 2),
                           (no("GuestStateError", "vcpu2.gdt_ents"),), when="suspended", guest=SMP))  # fmt: skip
    for field, words in (("gdt_frame0", "gdt_frames[0]"), ("cr3", "ctrlreg[3]"), ("cr1", "ctrlreg[1]")):
        for value in (1 << 40, NONE, 1 if field == "gdt_frame0" else 0x1001):
            out.append(Hostile(f"{field} {value:#x}", _vcpu(field, value, 2), (no("GuestStateError", words),),
                               when="suspended", guest=SMP))  # fmt: skip
    out += [
        Hostile("cr3 0", _vcpu("cr3", 0, 2), (no("GuestStateError", "ctrlreg[3]"),), when="suspended", guest=SMP),
        Hostile("cr3 of another domain", lambda g: g.vcpu("cr3", g.other.mfn(5) << 12),
                (no("GuestStateError", "ctrlreg[3]"),), when="suspended"),
        Hostile("vcpu 0 is offline", _vcpu("online", 0), (no("GuestStateError", "vcpu0.online"),), when="suspended"),
    ]  # fmt: skip
    return out


def _table_loop(g: Inside) -> None:
    """An L2 table one of whose entries is the table itself: Xen would not have it, and no saver may follow it."""
    table = g.table("L2TAB")
    g.word(table, 400, g.entry_to(table) & ~2)


# -- suspending, and going away


def _ways_out() -> list[Hostile]:
    out = [
        Hostile("never suspends", lambda g: g.guest.set_suspend("ignore"),
                (no("SuspendTimeout", "did not acknowledge"),), patience=0.15),
        Hostile("acknowledges and goes on", lambda g: g.guest.set_suspend("ack-only"),
                (no("SuspendTimeout", "did not suspend"),), patience=0.15),
        Hostile("crashes while suspending", lambda g: g.guest.set_suspend("crash"),
                (no("SuspendError", "crash"),), lost=True),
        Hostile("powers off while suspending", lambda g: g.guest.set_suspend("poweroff"),
                (no("SuspendError", "poweroff"),), lost=True),
        Hostile("writes control/shutdown itself", _writes_node, (no("SuspendError", "control/shutdown"),)),
    ]  # fmt: skip
    gone = (no("DomainDying", "domain"), no("DomainNotFound", "domain"), no("HypervisorError", "domain"),
            no("SuspendError", "domain"), no("PageError", "pfn"), no("P2mError", ""))  # fmt: skip
    for function, n in ((MAPS, 2), (MAPS, 5), (TYPES, 1), (TYPES, 2), (INFOS, 3)):
        out.append(Hostile(f"destroyed at {function} {n}", lambda g: g.guest.destroy(), gone, when=(function, n),
                           lost=True))  # fmt: skip
        out.append(Hostile(f"crashes at {function} {n}", lambda g: g.guest.shut_down(3), gone, when=(function, n),
                           lost=True, live_only=True))  # fmt: skip
    out.append(Hostile("destroyed at a bitmap", lambda g: g.guest.destroy(), gone, when=(BITMAPS, 2), lost=True,
                       live_only=True))  # fmt: skip
    out.append(Hostile("destroyed when suspended", lambda g: g.guest.destroy(), gone, when="suspended", lost=True))
    out.append(Hostile("suspends itself in the first pass", lambda g: g.guest.shut_down(2), (IMAGE,), when=(TYPES, 1),
                       live_only=True))  # fmt: skip
    return out


def _writes_node(g: Inside) -> None:
    path = f"/local/domain/{g.domid}/control/shutdown"
    g.hv.stub.store_write(path, "reboot")
    g._undo.append(lambda: g.hv.stub.store_write(path, ""))


def of_any_width(levels: int) -> list[Hostile]:
    """What PV guests with so many levels of page tables do, but for what they say of where their p2m is."""
    return [*_tables(levels), *_content(), *_races(), *_state(), *_ways_out()]


GUESTS = [*_claims(), *of_any_width(4)]
"""All of them; their names are distinct."""
