"""Memory of an HVM guest in extents of 2 MiB ahead of a row of pages: in the end nobody can tell it."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import pyxcsr
from core.test_hvm import EXTENT, XTAB, Target, record
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.switches import EXTENTS, VARIABLE

pytestmark = pytest.mark.paths

FULL = 1022
AHEAD, SINGLE = "xc_domain_populate_physmap", "xc_domain_populate_physmap_exact"
GIVEN_BACK = "xc_domain_decrease_reservation_exact"


@pytest.fixture
def target(hv: StubBackend) -> Iterator[Target]:
    with ExitStack() as stack:
        yield Target(hv, stack)


def rows(first: int, end: int, length: int = FULL) -> list[bytes]:
    """Records of pages in a row."""
    return [record([(0, x) for x in range(at, min(at + length, end))]) for at in range(first, end, length)]


def owned(hv: StubBackend, target: Target) -> list[int]:
    return sorted(hv.stub.guest(target.domid).pfns_with_memory())


def test_a_row_gets_nothing_but_large_pages(hv: StubBackend, target: Target) -> None:
    end = 8 * EXTENT
    hv.stub.clear_calls()
    populated = [target.feed(x).nr_populated for x in rows(0, end)]
    calls = hv.stub.calls()
    assert sum(populated) == end
    assert max(populated) <= FULL, "pages count when they are named"
    assert calls[AHEAD] == 3 and SINGLE not in calls and GIVEN_BACK not in calls
    assert target.memory.give_back() == 0
    assert owned(hv, target) == list(range(end))
    assert hv.read_frames(target.domid, [end - 1]) == b"\x11" * PAGE_SIZE


@pytest.mark.parametrize("last", [FULL + 1, 2 * FULL - 3, 2 * FULL, 2 * EXTENT + 1, 3 * EXTENT, 3 * EXTENT + 1])
def test_what_is_ahead_of_a_row_that_ends_is_taken_back(hv: StubBackend, target: Target, last: int) -> None:
    for each in rows(0, last):
        target.feed(each)
    assert target.feed(record([(0, 6000)])).nr_populated == 1
    assert owned(hv, target) == [*range(last), 6000], "at once: the next record may need the room"
    assert target.memory.give_back() == 0


def test_what_is_ahead_at_the_end_is_taken_back(hv: StubBackend, target: Target) -> None:
    for each in rows(0, 3 * EXTENT + 5):
        target.feed(each)
    assert len(owned(hv, target)) == 7 * EXTENT, "as much again as the row had when it was given memory last"
    assert target.memory.mfn(3 * EXTENT + 5) is None
    assert target.memory.give_back() == 0, "what the stream never named was never there"
    assert owned(hv, target) == list(range(3 * EXTENT + 5))


@pytest.mark.parametrize("hole", [0, 1, 200, FULL - 1])
def test_a_hole_ends_the_row(hv: StubBackend, target: Target, hole: int) -> None:
    for each in rows(0, 2 * FULL):
        target.feed(each)
    entries = [(XTAB if x == 2 * FULL + hole else 0, x) for x in range(2 * FULL, 3 * FULL)]
    assert target.feed(record(entries)).nr_populated == FULL - 1
    assert owned(hv, target) == [x for x in range(3 * FULL) if x != 2 * FULL + hole]


def test_a_pfn_that_is_named_later_gets_memory_as_ever(hv: StubBackend, target: Target) -> None:
    for each in rows(0, FULL + 5):
        target.feed(each)
    target.feed(record([(0, 6000), (XTAB, FULL + 6)]))
    assert target.feed(record([(0, FULL + 7), (0, FULL + 6)], 0x55)).nr_populated == 2
    assert hv.read_frames(target.domid, [FULL + 6]) == b"\x55" * PAGE_SIZE
    assert owned(hv, target) == [*range(FULL + 5), FULL + 6, FULL + 7, 6000]


def test_without_large_pages_rows_are_given_record_by_record(hv: StubBackend, target: Target) -> None:
    hv.stub.clear_calls()
    hv.stub.fail(AHEAD, 1, errno.ENOMEM)
    for each in rows(0, 4 * FULL):
        target.feed(each)
    assert hv.stub.calls()[AHEAD] == 1, "Xen is not asked again"
    assert owned(hv, target) == list(range(4 * FULL))


def test_a_domain_at_its_limit_gets_what_it_may_have(hv: StubBackend) -> None:
    """The last extent would go beyond the limit: Xen gives less than was asked for."""
    with ExitStack() as stack:
        target = Target(hv, stack, max_mem="5300K")
        room = hv.domain_info(target.domid).max_pages
        assert room > FULL + EXTENT and room % EXTENT, "the test needs a limit within an extent"
        for each in rows(0, room):
            target.feed(each)
        assert owned(hv, target) == list(range(room))


@pytest.mark.parametrize("first", [1, 100, EXTENT - 1])
def test_what_is_ahead_does_not_take_the_room_of_what_is_named(hv: StubBackend, first: int) -> None:
    """A row's first extent begins behind its first pages, which get theirs afterwards."""
    with ExitStack() as stack:
        target = Target(hv, stack, max_mem="6144K")
        room = hv.domain_info(target.domid).max_pages
        for each in rows(first, first + room):
            target.feed(each)
        assert owned(hv, target) == list(range(first, first + room))


def test_a_host_that_has_no_more_gets_back_what_is_ahead(hv: StubBackend, target: Target) -> None:
    hv.stub.fail(SINGLE, 1, errno.ENOMEM)
    target.feed(rows(100, 100 + FULL)[0])
    assert hv.stub.calls()[GIVEN_BACK] > 0
    assert owned(hv, target) == list(range(100, 100 + FULL))


def test_a_long_row_takes_few_calls(hv: StubBackend) -> None:
    """64 MiB: so many that what is ahead is taken back in several calls, too."""
    with ExitStack() as stack:
        target = Target(hv, stack, max_mem="128M")
        hv.stub.clear_calls()
        end = 20 * EXTENT
        for each in rows(0, end):
            target.feed(each)
        assert hv.stub.calls()[AHEAD] <= 6 and SINGLE not in hv.stub.calls()
        assert len(owned(hv, target)) > end + 2 * EXTENT
        assert target.feed(record([(0, 0x7000)])).nr_populated == 1
        assert owned(hv, target) == [*range(end), 0x7000]
        assert hv.stub.calls()[GIVEN_BACK] > 1


def test_no_more_is_asked_for_than_the_domain_may_have(hv: StubBackend) -> None:
    with ExitStack() as stack:
        target = Target(hv, stack, max_mem="24M")
        room = hv.domain_info(target.domid).max_pages
        hv.stub.clear_calls()
        for each in rows(0, room):
            target.feed(each)
            assert hv.domain_info(target.domid).tot_pages <= room
        assert owned(hv, target) == list(range(room))
        assert hv.stub.calls()[AHEAD] <= 5
        assert GIVEN_BACK not in hv.stub.calls()


@pytest.mark.parametrize(("first", "last", "most"), [
    (0xEF000, 0xF0000, 0xF0000),  # to where a PC's devices may begin
    (0xEF000, 0xF0000 + 300, 0xF0000 + EXTENT),
    (0xFD000, 0xFED00 + 2, 0xFEE00),  # a PVH guest's memory ends where the local APIC's page is
    (0xFE000, 0xFEE00, 0xFEE00),
])  # fmt: skip
def test_nothing_is_given_where_devices_are(
    hv: StubBackend, target: Target, first: int, last: int, most: int
) -> None:
    """Xen kills a domain that is given memory in place of the local APIC's page, 0xfee00."""
    highest = 0
    for each in rows(first, last):
        target.feed(each)
        highest = max(highest, *owned(hv, target))
    assert highest < most
    assert target.memory.give_back() == 0
    assert owned(hv, target) == list(range(first, last))


def test_above_4_gib_memory_is_given_ahead_as_below(hv: StubBackend, target: Target) -> None:
    for each in rows(0x100000, 0x100000 + 4 * EXTENT):
        target.feed(each)
    assert len(owned(hv, target)) > 5 * EXTENT


def test_the_domains_last_gfn_bounds_what_is_ahead(hv: StubBackend) -> None:
    with ExitStack() as stack:
        target = Target(hv, stack, limit=2 * EXTENT + 100)
        for each in rows(0, 2 * EXTENT + 100):
            target.feed(each)
        assert owned(hv, target) == list(range(2 * EXTENT + 100))


def test_what_is_ahead_is_not_compared(hv: StubBackend, target: Target) -> None:
    for each in rows(0, 2 * FULL):
        target.feed(each)
    target.memory.compare(True)
    assert target.feed(record([(0, 0)])).differing == 0
    with pytest.raises(pyxcsr.StreamError, match="never sent"):
        target.feed(record([(0, 2 * FULL)]))


def test_memory_that_cannot_be_taken_back_is_an_error(hv: StubBackend, target: Target) -> None:
    for each in rows(0, 2 * FULL):
        target.feed(each)
    hv.stub.fail(GIVEN_BACK, 1, errno.EPERM)
    with pytest.raises(pyxcsr.HypervisorError, match="cannot take"):
        target.feed(record([(0, 6000)]))


@pytest.mark.parametrize("seed", range(12))
def test_any_records_leave_what_they_leave_without_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    records, at = [], 0
    for _ in range(25):
        at = at if chance.random() < 0.8 else chance.randrange(0, 7000)
        entries = [(0, at + x) for x in range(chance.choice([1, 300, EXTENT, FULL, FULL, FULL]))]
        for _ in range(chance.choice([0, 0, 0, 1, 3])):
            entries[chance.randrange(len(entries))] = (XTAB, at + 9000)
        unique = {pfn: kind for kind, pfn in entries}
        records.append(record([(kind, pfn) for pfn, kind in unique.items()], chance.randrange(256)))
        at = (at + len(entries)) % 7000
    found = []
    for without in ("", EXTENTS):
        monkeypatch.setenv(VARIABLE, without)
        with pyxcsr.open_hypervisor("stub") as hv, ExitStack() as stack:
            assert isinstance(hv, StubBackend)
            hv.stub.reset()
            target = Target(hv, stack, max_mem="96M")
            results = [target.feed(x) for x in records]
            told = [(x.nr_entries, x.nr_pages, x.nr_populated) for x in results]
            told.append((target.memory.give_back(), 0, 0))
            pfns = owned(hv, target)
            found.append((told, pfns, hv.read_frames(target.domid, pfns)))
            assert (AHEAD in hv.stub.calls()) == (not without)
    assert found[0] == found[1]
