"""Batches that are gone through as a whole, and what is remembered of them: the same stream and the same report as pfn
by pfn, whatever is unusual."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from support.by_calls import go_by_calls
from support.judge import judge_rules
from support.same import check_same

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.policy import Decision, PrecopyStats
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import frame
from pyxcsr.switches import ORDINARY, ROWS, VARIABLE
from pyxcsr.transfer.save import save

PAGE = 4096


@pytest.fixture(autouse=True)
def goes_by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    go_by_calls(monkeypatch)


GUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "PV": ("pv64", {"mem": "16M"}),
    "PV, one page more than a batch": ("pv64", {"mem": PAGE * (2046 + 1)}),
    "PV, tables in a row": ("pv64", {"mem": "16M", "packed": True}),
    "PV, few holes": ("pv64", {"mem": "16M", "holes": 0.01}),
    "PV, many holes": ("pv64", {"mem": "16M", "holes": 0.5}),
    "PV, odd size": ("pv64", {"mem": PAGE * 4099}),
    "PV, larger p2m": ("pv64", {"mem": "16M", "spare_p2m": "64M"}),
    "PVH": ("pvh", {"mem": "16M"}),
    "PVH, odd size": ("pvh", {"mem": PAGE * 4099}),
    "HVM": ("hvm", {"mem": "16M"}),
}

ORDERS = {"frames in short runs": 3, "frames in long runs": 9}
"""Runs of so many frames, as a power of 2. Words of tables are looked at by 32."""

DENSITIES = {"one": 4096, "few": 64, "half": 2, "all": 1}
"""Every so many-th page is dirtied."""


def described(name: str) -> pyxcsr.StubGuest:
    kind, fields = GUESTS[name]
    made: pyxcsr.StubGuest = getattr(pyxcsr.StubGuest, kind)(seed=11, writer="none", **fields)
    return made


def one_pass(stats: PrecopyStats) -> Decision:
    return Decision.CONTINUE if stats.iteration < 1 else Decision.STOP_AND_COPY


def ordinary_pfns(guest: Any) -> list[int]:
    p2m = set() if guest.state().hvm else set(guest.leaf_pfns())
    pfns = [x for x in guest.pfns_with_memory() if x >= 512 and x not in p2m]
    return [pfn for pfn, kind in zip(pfns, guest.types(pfns)) if kind == PageType.NOTAB]


Act = Callable[[Any, Any], object]


class Outcome:
    """What a save has told and written, or how it failed."""

    def __init__(self, name: str, path: Path, act: Optional[Act], live: bool, step: int, order: int) -> None:
        with pyxcsr.open_hypervisor("stub") as hv:
            hv.stub.reset(extent_order=order)
            domid = hv.stub.create(described(name))
            guest = hv.stub.guest(domid)
            pfns = ordinary_pfns(guest)

            def suspend() -> None:
                there = set(guest.pfns_with_memory())
                for pfn in (x for x in pfns[::step] if x in there):
                    guest.write_page(pfn, pfn.to_bytes(8, "little"))
                guest.shut_down(2)

            if act is not None:
                act(hv.stub, guest)
            self.error: Any = None
            self.passes: Any = None
            try:
                with open(path, "wb") as out:
                    report = save(hv, domid, out, live=live, policy=one_pass, suspend=suspend, map_ahead=False)
                self.passes = [(x.dirty, x.pages, x.holes, x.deferred, x.tables, x.bytes) for x in report.passes]
                judge_rules(path, xen=False)
                with open(path, "rb") as stream:
                    self.stream: Any = [frame(x) for x in StreamReader(stream)]
            except pyxcsr.XcsrError as error:
                self.error = type(error), str(error), error.facts
                self.stream = path.read_bytes()
            hv.stub.clear_failures()
            hv.stub.destroy(domid)
            assert hv.stub.leaks() == {}


def both(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    runs: str,
    act: Optional[Act] = None,
    live: bool = True,
    step: int = 64,
) -> Outcome:
    """Saves such a guest in both ways, and compares them."""
    monkeypatch.delenv(VARIABLE, raising=False)
    whole = Outcome(name, tmp_path / "whole", act, live, step, ORDERS[runs])
    for without in (ORDINARY, ROWS):
        monkeypatch.setenv(VARIABLE, without)
        single = Outcome(name, tmp_path / "single", act, live, step, ORDERS[runs])
        assert (whole.error, whole.passes) == (single.error, single.passes)
        check_same(whole.stream, single.stream)
    return whole


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("runs", ORDERS)
@pytest.mark.parametrize("name", GUESTS)
def test_guests(name: str, runs: str, live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert both(tmp_path, monkeypatch, name, runs, live=live).error is None


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("runs", ORDERS)
@pytest.mark.parametrize("name", ["PV", "PVH"])
def test_densities(name: str, runs: str, density: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = both(tmp_path, monkeypatch, name, runs, step=DENSITIES[density])
    assert done.error is None and done.passes[-1][1] >= 3000 // DENSITIES[density]


def at(index: int) -> Callable[[Any], int]:
    """The index-th ordinary pfn."""
    return lambda guest: ordinary_pfns(guest)[index]


def between(guest: Any, first: int, last: int) -> list[int]:
    """The ordinary pfns from ``first`` to ``last``."""
    return [x for x in ordinary_pfns(guest) if first <= x <= last]


def rewrite(guest: Any, nr: int, entry: Callable[[int], int]) -> None:
    """Writes so many entries of the p2m, in a row; in the first batch, which is looked at by 32."""
    mine = ordinary_pfns(guest)
    first = next(x for x in mine if x % 32 == 0 and set(range(x, x + 2 * nr)) <= set(mine))
    assert first + nr < 1000
    for pfn in range(first, first + nr):
        guest.corrupt_p2m(pfn, entry(pfn))


UNUSUAL: dict[str, tuple[str, Act, Optional[type[Exception]]]] = {
    "a type that nobody knows": ("PV", lambda stub, g: g.set_type(at(700)(g), 8), pyxcsr.PageError),
    "an entry beyond the machine": ("PV", lambda stub, g: g.corrupt_p2m(at(5)(g), 1 << 40), pyxcsr.PageTableError),
    "an entry of another pfn's": (
        "PV",
        lambda stub, g: g.corrupt_p2m(at(5)(g), int(g.mfn(at(6)(g)))),
        pyxcsr.PageError,
    ),
    "64 entries of other pfns'": (
        "PV",
        lambda stub, g: rewrite(g, 64, lambda pfn: int(g.mfn(pfn + 64))),
        pyxcsr.PageError,
    ),
    "64 entries beyond the machine": (
        "PV",
        lambda stub, g: rewrite(g, 64, lambda pfn: (1 << 39) + pfn),
        pyxcsr.PageTableError,
    ),
    "the last entry of all": ("PV", lambda stub, g: g.corrupt_p2m(at(-1)(g), (1 << 64) - 1), pyxcsr.PageTableError),
    "a page that cannot be mapped": (
        "PV",
        lambda stub, g: stub.fail("xenforeignmemory_map", nth=7, errno=errno.ENOENT, page=3),
        None,
    ),
    "PVH: a page that cannot be mapped": (
        "PVH",
        lambda stub, g: stub.fail("xenforeignmemory_map", nth=2, errno=errno.ENOENT, page=3),
        None,
    ),
    "types that cannot be asked": (
        "PV",
        lambda stub, g: stub.fail("xc_get_pfn_type_batch", nth=3),
        pyxcsr.HypervisorError,
    ),
    "a wrong table": (
        "PV",
        lambda stub, g: g.corrupt_pte(g.pfns_of_type(PageType.L1TAB)[0], 7, 0xFFFFFFFF003),
        pyxcsr.PageTableError,
    ),
    "PVH: a gfn without a page": ("PVH", lambda stub, g: g.balloon_out(ordinary_pfns(g)[100:103]), None),
    "PVH: two batches without a page": ("PVH", lambda stub, g: g.balloon_out(between(g, 1000, 3100)), None),
    "PVH: one page in a batch": ("PVH", lambda stub, g: g.balloon_out(set(between(g, 1000, 3100)) - {2047}), None),
}


@pytest.mark.parametrize("runs", ORDERS)
@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual(name: str, runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, act, kind = UNUSUAL[name]
    done = both(tmp_path, monkeypatch, guest, runs, act)
    assert (done.error is None) == (kind is None), done.error
    if kind is not None:
        assert issubclass(done.error[0], kind)
