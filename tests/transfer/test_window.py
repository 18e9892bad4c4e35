"""Mappings of the suspended pass are torn down once the stream is complete; how many there may be is bounded."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from support.judge import judge, save_to

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend

WINDOW, BATCH = 4096, 1024
"""Frames that may be mapped at once, beside the p2m and shared_info (csrc/save/kept.h); at most, for one record."""

CONTEXT = "xc_vcpu_getcontext"  # asked for once all pages are in the stream


def watch(hv: StubBackend, path: Path, live: bool, **options: bool) -> tuple[list[str], list[int], int]:
    """A save of 40 MiB: the calls made, the guest's frames mapped at each, the p2m's and shared_info's of them."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="40M"))
    names: list[str] = []
    mapped: list[int] = []

    def look(name: str, count: int) -> None:
        names.append(name)
        mapped.append(hv.stub.usage()["mapped_pages"])

    with hv.stub.hook(look):
        save_to(hv, domid, path, live=live, **options)
    judge(hv, domid, path)
    return names, mapped, len(hv.stub.guest(domid).leaf_pfns()) + 1


def test_never_more_than_the_window(hv: StubBackend, tmp_path: Path) -> None:
    _, mapped, always = watch(hv, tmp_path / "s", live=False)
    assert WINDOW - BATCH < max(mapped) - always <= WINDOW, "neither exceeded nor left unused"


def test_while_the_guest_runs_only_a_batch_is_mapped(hv: StubBackend, tmp_path: Path) -> None:
    names, mapped, always = watch(hv, tmp_path / "s", live=True, map_ahead=False)
    running = names[: len(names) - names[::-1].index("xc_logdirty_control")]
    assert 1000 < max(mapped[: len(running)]) - always <= BATCH


@pytest.mark.parametrize("mem", ["8M", "16M"])
def test_nothing_is_unmapped_before_the_state_is_written(hv: StubBackend, tmp_path: Path, mem: str) -> None:
    """The kept mappings wait for END: of what fits into the window, none is unmapped while the guest waits."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem=mem))
    calls: list[str] = []
    with hv.stub.hook(lambda name, count: calls.append(name)):
        save_to(hv, domid, tmp_path / "s", live=False)
    first = calls.index("xc_get_pfn_type_batch")
    paused = calls[first : calls.index(CONTEXT)]
    assert paused.count("xenforeignmemory_map") == {"8M": 3, "16M": 5}[mem]
    assert "xenforeignmemory_unmap" not in paused


@pytest.mark.parametrize("nth", [2, 4, 5, 9])
def test_a_map_fails_with_others_kept(hv: StubBackend, tmp_path: Path, nth: int) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="40M"))
    seen = 0

    def fail(name: str, count: int) -> None:
        nonlocal seen
        seen += name == "xc_get_pfn_type_batch"
        if name == "xc_get_pfn_type_batch" and seen == nth:
            hv.stub.fail("xenforeignmemory_map", 1, errno.ENOMEM)

    with hv.stub.hook(fail), pytest.raises(pyxcsr.HypervisorError) as caught:
        save_to(hv, domid, tmp_path / "s", live=False)
    assert caught.value.op == "xenforeignmemory_map" and seen == nth
    assert hv.stub.leaks() == {} and hv.stub.guest(domid).running


def test_complete_is_called_before_anything_is_unmapped(hv: StubBackend, tmp_path: Path) -> None:
    """The guest goes on from there: log-dirty mode is off, the stream is whole, and what is mapped is read no more."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)
    seen: list[tuple[bool, bool, int]] = []

    def complete(report: pyxcsr.SaveReport) -> None:
        state = guest.state()
        seen.append((guest.suspended, state.logdirty, (tmp_path / "s").stat().st_size - report.bytes))
        assert hv.stub.leaks()["mappings"] > 2, "the last pass's, beside p2m and shared_info"
        judge(hv, domid, tmp_path / "s", xen=False)
        hv.domain_resume(domid)

    report = save_to(hv, domid, tmp_path / "s", complete=complete)
    assert seen == [(True, False, 0)]
    assert guest.running and report.seconds >= report.seconds_paused


@pytest.mark.parametrize("resumed", [False, True])
def test_complete_raises(hv: StubBackend, tmp_path: Path, resumed: bool) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))

    def complete(_report: pyxcsr.SaveReport) -> None:
        if resumed:
            hv.domain_resume(domid)
        raise RuntimeError("nobody is told")

    with pytest.raises(RuntimeError) as raised:
        save_to(hv, domid, tmp_path / "s", complete=complete)
    assert hv.stub.leaks() == {}
    assert hv.stub.guest(domid).suspended is not resumed, "whoever has the stream may go on with it"
    told = "; ".join([str(raised.value), *getattr(raised.value, "__notes__", ())])
    assert f"the stream is complete, and domain {domid} {'is running' if resumed else 'stays suspended'}" in told
    if not resumed:
        judge(hv, domid, tmp_path / "s")


def test_state_that_xen_refuses_is_found_out_while_the_guest_runs(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.fail("xc_vcpu_getcontext", 1, errno.ENODATA)

    def never() -> None:
        raise AssertionError("the guest was to be suspended")

    with pytest.raises(pyxcsr.HypervisorError) as caught:
        save_to(hv, domid, tmp_path / "s", suspend=never)
    assert caught.value.op == "xc_vcpu_getcontext"
    assert hv.stub.guest(domid).running and hv.stub.leaks() == {}
