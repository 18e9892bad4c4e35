"""A guest that changes its p2m while it is saved is saved as it is in the end: one kind of change at a time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peer.image import differences, image_of
from support.judge import judge, save_to
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.errors import P2mError
from pyxcsr.frames import PageType
from pyxcsr.guest.pv.geometry import WIDE
from pyxcsr.guest.pv.p2m import follow as follow_module
from pyxcsr.guest.pv.p2m import generation
from pyxcsr.guest.pv.p2m.follow import FollowedP2m
from pyxcsr.guest.pv.p2m.pagetable import Walk
from pyxcsr.guest.pv.p2m.shared_info import SharedInfo
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import P2mFrames, PageData
from transfer.test_p2m_changes import CHANGES, MOMENTS, Action, at


def make(hv: StubBackend, **values: Any) -> tuple[int, Any]:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(**{"mem": "8M", "max_mem": "64M", "writes": 20, **values}))
    return domid, hv.stub.guest(domid)


def follow(hv: StubBackend, domid: int, path: Path, **options: Any) -> Any:
    return save_to(hv, domid, path, p2m_changes="follow", **options)


def frames_records(path: Path) -> list[P2mFrames]:
    with open(path, "rb") as stream:
        return [x for x in StreamReader(stream) if isinstance(x, P2mFrames)]


def entries_of(path: Path, pfn: int) -> list[PageType]:
    """The types that a pfn was sent with, in order."""
    with open(path, "rb") as stream:
        records = [x for x in StreamReader(stream) if isinstance(x, PageData)]
        return [PageType(kind) for x in records for at, kind, _ in x.items() if at == pfn]


def comes_back(hv: StubBackend, domid: int, path: Path) -> None:
    """pyxcsr restores it, and its kernel finds all where it was."""
    saved = image_of(hv, domid)
    new = hv.stub.create_empty("64M", vcpus=1)
    with open(path, "rb") as stream:
        pyxcsr.restore(hv, new, stream, store_evtchn=1, console_evtchn=2)
    assert differences(saved, image_of(hv, new, saved["leaves"])) == []
    hv.stub.guest(new).adopt()


FINISHED = {name: change for name, change in CHANGES.items() if name != "odd, in progress"}
BEFORE_THE_END = [x for x in MOMENTS if x[0] != "after suspend, before the last pass"]


def tail_data(guest: Any, back: int = 40) -> int:
    """A data page with neighbours that are data, too."""
    return ordinary_pages(guest)[-back]


MORE: dict[str, Action] = {
    "a leaf of a shared one": lambda g: g.balloon_in(g.nr_pfns - 1),
    "more pfns": lambda g: (g.resize_p2m(g.nr_pfns + 1000), g.balloon_in(g.nr_pfns - 1)),
    "fewer pfns": lambda g: g.resize_p2m(g.nr_pfns - 700),
    "fewer, in the same leaf": lambda g: g.resize_p2m(g.nr_pfns - 5),
}


@pytest.mark.parametrize("change", [*FINISHED, *MORE])
@pytest.mark.parametrize("moment", BEFORE_THE_END, ids=lambda x: x[0])
def test_structure(hv: StubBackend, tmp_path: Path, change: str, moment: tuple[str, bool, str, int]) -> None:
    _, live, function, nth = moment
    domid, guest = make(hv, mem="16M", writes=100, spare_p2m="4M")
    acted: list[int] = []

    def act() -> None:
        if guest.running:  # what comes later is no guest's doing
            {**FINISHED, **MORE}[change](guest)
            acted.append(guest.nr_pfns)

    with hv.stub.hook(at(function, nth, act)):
        report = follow(hv, domid, tmp_path / "s", live=live)
    judge(hv, domid, tmp_path / "s")
    assert report.p2m.follows <= 1 and not report.p2m.unannounced
    assert report.p2m.records == len(frames_records(tmp_path / "s")) - 1
    if acted and live:
        assert report.p2m.follows == 1
        assert report.p2m.records == (change not in ("generation only", "list moved"))
    if not live:
        assert report.p2m.follows == 0, "it is taken when nothing can change any more"
    comes_back(hv, domid, tmp_path / "s")
    assert hv.stub.leaks() == {}


@pytest.mark.parametrize("live", [True, False])
def test_odd_for_ever_is_an_error(hv: StubBackend, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    domid, guest = make(hv)
    limits = pyxcsr.P2mLimits(settle_seconds=0.02)
    begins = at("xs_read", 1, lambda: guest.bump_generation(1))
    with hv.stub.hook(begins), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mError, match="odd"):
        pyxcsr.save(hv, domid, out, live=live, p2m_changes="follow", p2m_limits=limits)
    assert guest.running and hv.stub.leaks() == {}


def test_odd_for_a_while_is_waited_for(hv: StubBackend, tmp_path: Path) -> None:
    domid, guest = make(hv)
    polls: list[int] = []

    def cancel() -> bool:
        if guest.shared_info("p2m_generation") & 1:
            polls.append(1)
            if len(polls) == 5:
                guest.bump_generation(1)
        return False

    with hv.stub.hook(at("xc_logdirty_control", 1, lambda: guest.bump_generation(1))):
        report = follow(hv, domid, tmp_path / "s", cancel=cancel)
    assert len(polls) == 5 and report.p2m.follows == 1
    judge(hv, domid, tmp_path / "s")


LIES = {
    "before it is tracked": ("xc_shadow_control", 1),
    "in the first pass": ("xc_get_pfn_type_batch", 2),
    "between passes": ("xc_logdirty_control", 1),
    "before it is suspended": ("xs_write", 1),
}


@pytest.mark.parametrize("moment", LIES)
@pytest.mark.parametrize("what", ["moved", "leaf", "grown", "shrunk"])
def test_a_guest_that_says_nothing_of_it(hv: StubBackend, tmp_path: Path, what: str, moment: str) -> None:
    """p2m_generation stays: that it has written its tables tells."""
    domid, guest = make(hv)
    actions: dict[str, Callable[[], object]] = {
        "moved": lambda: guest.move_p2m(0xFFFFC91000000000, True),
        "leaf": lambda: (guest.replace_leaf(3), guest.replace_leaf(2)),
        "grown": lambda: (guest.resize_p2m(4000), guest.balloon_in(3999)),
        "shrunk": lambda: guest.resize_p2m(2048),
    }
    guest.set_honest(False)
    guest.resize_p2m(3000)
    with hv.stub.hook(at(*LIES[moment], lambda: actions[what]() and None)):
        report = follow(hv, domid, tmp_path / "s")
    judge(hv, domid, tmp_path / "s")
    assert report.p2m.follows == 1
    assert report.p2m.unannounced == (what in ("leaf",)), "the rest shows in shared_info"
    comes_back(hv, domid, tmp_path / "s")


def test_it_is_walked_again_only_if_its_tables_were_written(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest is not kept waiting for a walk that can find nothing."""
    walks: list[bool] = []
    domid, guest = make(hv, pt_updates=0)
    leaves = Walk.leaves
    monkeypatch.setattr(Walk, "leaves", lambda *args: walks.append(guest.running) or leaves(*args))
    follow(hv, domid, tmp_path / "s")
    assert walks == [True, True], "when it was mapped, and once more when writes were tracked"
    guest.set_honest(False)
    hv.domain_resume(domid)
    with hv.stub.hook(at("xs_write", 1, lambda: guest.replace_leaf(1))):
        follow(hv, domid, tmp_path / "s2")
    assert walks[2:] == [True, True, False]


def test_a_walk_that_was_given_up_is_owed(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest announces a change, lets no walk end, and takes the announcement back, but not the change."""
    domid, guest = make(hv, pt_updates=0)
    shared = SharedInfo(hv, domid, hv.domain_info(domid).shared_info_mfn, WIDE)
    p2m = FollowedP2m(hv, domid, shared, lambda: None)
    p2m.look()
    was, before = p2m.generation, list(p2m.leaf_pfns)

    def never_still(*_: Any) -> Any:
        guest.bump_generation(2)
        raise P2mError("torn", field="p2m_cr3", value=0)

    guest.replace_leaf(1)
    with monkeypatch.context() as patched:
        patched.setattr(Walk, "leaves", never_still)
        with pytest.raises(pyxcsr.P2mChanged):
            p2m.look()
    guest.set_generation(was)
    assert p2m.look() and not p2m.announced and list(p2m.leaf_pfns) != before
    p2m.close()
    shared.close()


def followed(hv: StubBackend, **values: Any) -> tuple[Any, SharedInfo, FollowedP2m]:
    domid, guest = make(hv, writes=0, pt_updates=0, **values)
    shared = SharedInfo(hv, domid, hv.domain_info(domid).shared_info_mfn, WIDE)
    return guest, shared, FollowedP2m(hv, domid, shared, lambda: None, 0.02)


@pytest.mark.parametrize("kind", ["list", "tree"])
def test_a_page_of_it_that_is_not_the_guests_stays_an_error(hv: StubBackend, kind: str) -> None:
    """Also if nothing has changed since the last attempt: else the stream would name a pfn that it does not have."""
    guest, shared, p2m = followed(hv, **({"tree": "only"} if kind == "tree" else {}))
    p2m.look()
    lost = p2m.leaf_pfns[3]
    mfn = guest.mfn(lost)
    guest.corrupt_p2m(lost, (1 << 64) - 1)
    guest.bump_generation(2)
    for _ in range(3):
        with pytest.raises(P2mError):
            p2m.look()
    guest.corrupt_p2m(lost, mfn)
    p2m.look()
    assert p2m.leaf_pfns[3] == lost
    p2m.close()
    shared.close()


def test_what_an_attempt_found_that_was_given_up(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of the p2m has another pfn, and the generation moves on while the pfns are asked for: they are asked for
    again, and are not taken for those of the last look because they are the same as in the attempt before."""
    guest, shared, p2m = followed(hv, holes=0.1)
    p2m.look()
    was = p2m.leaf_pfns[3]
    to = next(x for x in range(2000, 0, -1) if x not in set(guest.pfns_with_memory()))
    checks = []

    def check_same(*words: Any) -> None:
        checks.append(words)
        if len(checks) == 1:
            raise pyxcsr.P2mChanged("moved on", field="p2m_generation", before=0, after=2)

    mfn = guest.mfn(was)
    guest.corrupt_p2m(was, (1 << 64) - 1)
    guest.corrupt_p2m(to, mfn)
    hv.stub.set_m2p(mfn, to)
    guest.bump_generation(2)
    monkeypatch.setattr(follow_module, "check_same", check_same)
    assert p2m.look() and len(checks) == 2
    assert p2m.leaf_pfns[3] == to
    p2m.close()
    shared.close()


def test_what_is_in_it_comes_and_goes(hv: StubBackend, tmp_path: Path) -> None:
    """Appeared, vanished, moved to another frame: found, sent, counted."""
    domid, guest = make(hv, writes=0, pt_updates=0, holes=0.1)
    out, other = tail_data(guest, 40), tail_data(guest, 90)
    hole = next(p for p in range(2000, 0, -1) if p not in set(guest.pfns_with_memory()))
    was = guest.mfn(other)

    def act() -> None:
        guest.balloon_out(out)
        guest.balloon_in(hole)
        guest.balloon_out(other)
        guest.balloon_in(other)

    with hv.stub.hook(at("xc_logdirty_control", 1, act)):
        report = follow(hv, domid, tmp_path / "s")
    assert guest.mfn(hole) and (report.p2m.appeared, report.p2m.vanished) == (1, 1)
    assert report.p2m.moved == (guest.mfn(other) != was)
    assert entries_of(tmp_path / "s", out)[-1] == PageType.XTAB
    judge(hv, domid, tmp_path / "s")
    comes_back(hv, domid, tmp_path / "s")


def test_the_same_frame_with_another_content(hv: StubBackend, tmp_path: Path) -> None:
    """The p2m says what it said, the page is in no dirty bitmap: only that the p2m's page was written tells."""
    domid, guest = make(hv, writes=0, pt_updates=0)
    pfn = tail_data(guest)

    def act() -> None:
        mfn = guest.mfn(pfn)
        guest.balloon_out(pfn)
        guest.balloon_in(pfn, mfn)

    with hv.stub.hook(at("xc_logdirty_control", 1, act)):
        report = follow(hv, domid, tmp_path / "s")
    assert report.p2m.returned > 0 and report.p2m.moved == report.p2m.appeared == 0
    judge(hv, domid, tmp_path / "s")


def test_a_frame_that_gets_another_pfn(hv: StubBackend, tmp_path: Path) -> None:
    """Entries that map it go on mapping it: the tables, which nobody wrote, name another pfn now."""
    domid, guest = make(hv, writes=0, pt_updates=0, holes=0.1, mem="16M")
    mapped = {pfn for table in guest.pfns_of_type(PageType.L1TAB_PINNED) for pfn in table_pfns(guest, table)}
    pfn = next(p for p in sorted(mapped, reverse=True) if p in set(guest.pfns_of_type(PageType.NOTAB)))
    hole = next(p for p in range(4000, 0, -1) if p not in set(guest.pfns_with_memory()))
    tables = set(guest.pfns_of_type(PageType.L1TAB_PINNED))
    before = {t: guest.read_page(t) for t in tables}
    second_pass = at("xc_logdirty_control", 2, lambda: guest.move_page(pfn, hole))
    with hv.stub.hook(second_pass):
        report = follow(hv, domid, tmp_path / "s", policy=pyxcsr.SimplePolicy(target_dirty=0))
    assert {t: guest.read_page(t) for t in tables} == before, "a table was written: this tests nothing"
    assert report.p2m.tables > 0, "all tables were in the pages of the p2m that were written: this tests nothing"
    judge(hv, domid, tmp_path / "s")
    comes_back(hv, domid, tmp_path / "s")


def test_a_frame_that_gets_another_pfn_before_it_was_sent(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table was sent with the pfn that its target had then, and that pfn was sent as the hole that it is now."""
    monkeypatch.setattr(saving, "BATCHES_US", 0)
    domid, guest = make(hv, writes=0, pt_updates=0, holes=0.1, mem="16M")
    data, tables = set(guest.pfns_of_type(PageType.NOTAB)), guest.pfns_of_type(PageType.L1TAB_PINNED)
    table, pfn = next((t, p) for t in tables if t < 3072 for p in table_pfns(guest, t) if p in data and p > 3072)
    hole = next(p for p in range(4000, 3072, -1) if p not in set(guest.pfns_with_memory()))
    before = {t: guest.read_page(t) for t in tables}
    nr_sent = 0

    def hook(name: str, count: int) -> None:
        nonlocal nr_sent
        nr_sent += name == "xenforeignmemory_unmap" and guest.state().logdirty
        if name == "xenforeignmemory_unmap" and nr_sent == 3:  # a batch has 1024 pfns
            guest.move_page(pfn, hole)

    with hv.stub.hook(hook):
        report = follow(hv, domid, tmp_path / "s")
    assert {t: guest.read_page(t) for t in tables} == before, "a table was written: this tests nothing"
    assert entries_of(tmp_path / "s", pfn) == [PageType.XTAB], "it was sent before it moved: this tests nothing"
    assert len(entries_of(tmp_path / "s", table)) == 2 and report.p2m.tables > 0
    judge(hv, domid, tmp_path / "s")
    comes_back(hv, domid, tmp_path / "s")


def table_pfns(guest: Any, table: int) -> set[int]:
    words = memoryview(guest.expected_page(table)).cast("Q")
    return {word >> 12 & ((1 << 40) - 1) for word in words if word & 1}


@pytest.mark.parametrize("change", ["leaf", "tree", "grown"])
def test_trees(hv: StubBackend, tmp_path: Path, change: str) -> None:
    """They announce nothing: they are walked whenever a bitmap has come."""
    domid, guest = make(hv, tree="only")
    actions: dict[str, Callable[[], object]] = {
        "leaf": lambda: guest.replace_leaf(1),
        "tree": guest.move_tree,
        "grown": lambda: (guest.resize_p2m(3000), guest.balloon_in(2900)),
    }
    with hv.stub.hook(at("xc_logdirty_control", 1, lambda: actions[change]() and None)):
        report = follow(hv, domid, tmp_path / "s")
    assert guest.shared_info("p2m_generation") == 0
    assert report.p2m.follows == 1 and report.p2m.records == (change != "tree")
    judge(hv, domid, tmp_path / "s")
    comes_back(hv, domid, tmp_path / "s")


def test_a_p2m_that_shrinks_by_pages(hv: StubBackend, tmp_path: Path) -> None:
    """Its old pages are data again: the receiver must not write its p2m over them."""
    domid, guest = make(hv, spare_p2m="8M", share_invalid=False)
    old = guest.leaf_pfns()
    with hv.stub.hook(at("xc_logdirty_control", 1, lambda: guest.resize_p2m(2048))):
        report = follow(hv, domid, tmp_path / "s", verify=True)
    assert report.nr_pfns == 4096 and guest.nr_pfns == 2048
    record = frames_records(tmp_path / "s")[-1]
    assert len(record.frames) == 8 and not set(old[4:]) & set(record.frames)
    assert set(list(record.frames)[4:]) == {4095} and entries_of(tmp_path / "s", 4095)[-1] == PageType.NOTAB
    judge(hv, domid, tmp_path / "s")
    comes_back(hv, domid, tmp_path / "s")


def test_growing_by_whole_tables(hv: StubBackend, tmp_path: Path) -> None:
    """Beyond a deferred-page chunk, a bitmap page, and one level 1 table of the list."""
    domid, guest = make(hv)

    def act() -> None:
        guest.resize_p2m(600_000)
        guest.balloon_in([599_999, 300_000, 33_000])

    with hv.stub.hook(at("xc_logdirty_control", 1, act)):
        report = follow(hv, domid, tmp_path / "s")
    assert report.nr_pfns == 600_000 and report.p2m.appeared == 3
    judge(hv, domid, tmp_path / "s", xen=False)


# -- enough is enough


def restless(guest: Any) -> Callable[[str, int], None]:
    def hook(name: str, count: int) -> None:
        if name == "xc_get_pfn_type_batch" and guest.running:
            guest.replace_leaf(count % 4)

    return hook


@pytest.mark.parametrize("limits", [pyxcsr.P2mLimits(per_pass=1), pyxcsr.P2mLimits(in_all=2)])
def test_a_guest_that_never_rests_is_suspended(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: pyxcsr.P2mLimits
) -> None:
    monkeypatch.setattr(saving, "BATCHES_US", 0)
    domid, guest = make(hv, mem="32M")
    with hv.stub.hook(restless(guest)):
        report = follow(hv, domid, tmp_path / "s", p2m_limits=limits)
    assert report.p2m.restless and len(report.passes) == 2
    assert report.p2m.follows == min(limits.per_pass, limits.in_all) + 1 + 1, "the limit, one more, and one suspended"
    judge(hv, domid, tmp_path / "s")
    comes_back(hv, domid, tmp_path / "s")


def test_unless_the_policy_says_no(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "BATCHES_US", 0)
    domid, guest = make(hv, mem="32M")
    asked: list[bool] = []

    def policy(stats: pyxcsr.PrecopyStats) -> pyxcsr.Decision:
        asked.append(stats.p2m_restless)
        return pyxcsr.Decision.CONTINUE

    limits = pyxcsr.P2mLimits(per_pass=2)
    says = r"3 changes .* a second.* more than 2 times in one pass"
    with hv.stub.hook(restless(guest)), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mChanged, match=says):
        pyxcsr.save(hv, domid, out, policy=policy, p2m_changes="follow", p2m_limits=limits)
    assert asked == [True] and guest.running and hv.stub.leaks() == {}


def test_what_always_overtakes_the_walk_counts_too(hv: StubBackend, tmp_path: Path) -> None:
    domid, guest = make(hv)
    on = [False]

    def hook(name: str, count: int) -> None:
        on[0] |= name == "xc_shadow_control"
        if on[0] and name == "xenforeignmemory_map" and guest.running:
            guest.bump_generation(2)

    with hv.stub.hook(hook):
        report = follow(hv, domid, tmp_path / "s", p2m_limits=pyxcsr.P2mLimits(in_all=2))
    assert report.p2m.overtaken == 3 and report.p2m.restless
    judge(hv, domid, tmp_path / "s")


# -- what goes wrong

MADE = ("xenforeignmemory_map", "xc__hypercall_buffer_alloc_pages", "xc_domain_getinfolist")


def test_a_failure_while_following_leaves_nothing(hv: StubBackend) -> None:
    """Each of the calls that following makes fails once."""
    for nth in range(1, 12):
        domid, guest = make(hv)
        begun = [False]

        def act(guest: Any = guest, begun: list[bool] = begun) -> None:
            guest.resize_p2m(5000)
            begun[0] = True

        calls = 0

        def hook(name: str, count: int, wanted: int = nth, begun: list[bool] = begun) -> int:
            nonlocal calls
            if begun[0] and name in MADE:
                calls += 1
                return errno.ENOMEM if calls == wanted else 0
            if name == "xc_logdirty_control" and not begun[0]:
                act()
            return 0

        with hv.stub.hook(hook), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.XcsrError):
            pyxcsr.save(hv, domid, out, p2m_changes="follow", policy="libxc")
        assert calls >= nth, "nothing failed: this tests nothing"
        assert guest.running and hv.stub.leaks() == {}
        guest.destroy()


def test_a_change_after_suspending_is_nobodys(hv: StubBackend) -> None:
    domid, guest = make(hv)
    late = at("xc_get_pfn_type_batch", 2, lambda: guest.bump_generation(2))
    with hv.stub.hook(late), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.P2mChanged):
        pyxcsr.save(hv, domid, out, live=False, p2m_changes="follow")
    assert guest.running


def test_only_two_ways(hv: StubBackend) -> None:
    domid, _ = make(hv)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.UsageError, match="p2m_changes"):
        pyxcsr.save(hv, domid, out, p2m_changes="ignore")
    for wrong in ({"per_pass": -1}, {"in_all": 1.5}, {"settle_seconds": float("nan")}, {"settle_seconds": "1"}):
        with pytest.raises(pyxcsr.UsageError, match=next(iter(wrong))):
            pyxcsr.P2mLimits(**wrong)  # type: ignore[arg-type]


def test_progress_tells(hv: StubBackend, tmp_path: Path) -> None:
    domid, guest = make(hv)
    told: list[pyxcsr.Progress] = []
    with hv.stub.hook(at("xc_logdirty_control", 1, lambda: (guest.replace_leaf(0), None)[1])):
        report = follow(hv, domid, tmp_path / "s", progress=told.append)
    assert told[0].p2m_follows == 0 and told[-1].p2m_follows == report.p2m.follows == 1
    assert told[-1].p2m_resent == report.p2m.resent > 0 and report.p2m.sweeps > 1
    assert report.p2m.seconds_following > 0 and report.to_dict()["p2m"]["follows"] == 1


def test_generation_is_the_old_name_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pyxcsr.P2mLimits().settle_seconds == generation.SETTLE_SECONDS
