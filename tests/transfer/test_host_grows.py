"""Memory is added to the host when its last frame is known: a guest's frame in it must not be taken for a hole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.remus import Protected

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from transfer.test_p2m_changes import at

GUESTS = ["pv64:mem=8M", "pv32:mem=8M"]


def says_so(error: pyxcsr.XcsrError) -> bool:
    return "memory was added to the host" in str(error)


def create(hv: StubBackend, text: str) -> int:
    """In a machine whose m2p has room for more."""
    hv.stub.reset(frames=200_000)
    return hv.stub.create(pyxcsr.StubGuest.parse(text))


@pytest.fixture
def other(hv: StubBackend) -> Iterator[StubBackend]:
    """Another handle of the same machine."""
    with pyxcsr.open_hypervisor("stub") as backend:
        assert isinstance(backend, StubBackend)
        yield backend


@pytest.mark.parametrize("text", GUESTS)
@pytest.mark.parametrize("live", [True, False])
def test_before_a_save(hv: StubBackend, text: str, live: bool) -> None:
    domid = create(hv, text)
    assert hv.nr_mfns() == hv.stub.max_page
    hv.stub.add_memory(16)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.HypervisorError) as caught:
        pyxcsr.save(hv, domid, out, live=live)
    assert says_so(caught.value) and hv.stub.guest(domid).running


@pytest.mark.parametrize("text", GUESTS)
@pytest.mark.parametrize("p2m_changes", ["follow", "abort"])
def test_in_a_live_save(hv: StubBackend, text: str, p2m_changes: Any) -> None:
    domid = create(hv, text)

    grow = at("xc_get_pfn_type_batch", 3, lambda: hv.stub.add_memory(16))
    with hv.stub.hook(grow), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.HypervisorError) as caught:
        pyxcsr.save(hv, domid, out, p2m_changes=p2m_changes)
    assert says_so(caught.value)
    assert hv.stub.guest(domid).running and hv.stub.leaks() == {}


@pytest.mark.parametrize("text", GUESTS)
def test_between_checkpoints(hv: StubBackend, other: StubBackend, tmp_path: Path, text: str) -> None:
    domid = create(hv, text)
    guest = Protected(hv, domid, tmp_path / "s")

    def change(done: pyxcsr.Checkpoint) -> None:
        if done.number == 2:
            hv.stub.add_memory(16)

    with pytest.raises(pyxcsr.HypervisorError) as caught:
        guest.run(4, checkpoint=change)
    assert says_so(caught.value)
    guest.hv = other  # it knows of them from the beginning
    guest.check_cut(guest.path.read_bytes(), tmp_path / "cut")


@pytest.mark.parametrize("text", GUESTS)
def test_before_a_restore(hv: StubBackend, tmp_path: Path, text: str) -> None:
    domid = create(hv, text)
    with (tmp_path / "s").open("wb") as out:
        pyxcsr.save(hv, domid, out)
    hv.stub.add_memory(16)
    new = hv.stub.create_empty("7M", kind=text[:4])
    with (tmp_path / "s").open("rb") as stream, pytest.raises(pyxcsr.HypervisorError) as caught:
        pyxcsr.restore(hv, new, stream, store_evtchn=1, console_evtchn=2)
    assert says_so(caught.value)


def test_hvm_guest_is_not_concerned(hv: StubBackend) -> None:
    """Its gfns are no frames of the host."""
    domid = create(hv, "pvh:mem=8M")
    assert hv.nr_mfns() == hv.stub.max_page
    hv.stub.add_memory(16)
    with open("/dev/null", "wb") as out:
        pyxcsr.save(hv, domid, out)


def test_another_handle_knows(hv: StubBackend, other: StubBackend) -> None:
    domid = create(hv, "pv64:mem=8M")
    assert hv.nr_mfns() == hv.stub.max_page
    hv.stub.add_memory(16)
    with open("/dev/null", "wb") as out:
        pyxcsr.save(other, domid, out)


@pytest.mark.parametrize("text", GUESTS)
def test_it_is_found_out_before_the_guest_is_suspended(hv: StubBackend, text: str) -> None:
    domid = create(hv, text)
    asked: list[int] = []
    grow = at("xc_get_pfn_type_batch", 3, lambda: hv.stub.add_memory(16))
    with hv.stub.hook(grow), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.HypervisorError) as caught:
        pyxcsr.save(hv, domid, out, suspend=lambda: asked.append(domid))
    assert says_so(caught.value) and asked == []


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("p2m_changes", ["follow", "abort"])
@pytest.mark.parametrize("text", GUESTS)
def test_while_the_guest_suspends(hv: StubBackend, text: str, p2m_changes: Any, live: bool) -> None:
    domid = create(hv, text)

    def suspend() -> None:
        hv.stub.add_memory(16)
        hv.stub.guest(domid).shut_down(2)

    assert hv.nr_mfns() == hv.stub.max_page
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.HypervisorError) as caught:
        pyxcsr.save(hv, domid, out, live=live, suspend=suspend, p2m_changes=p2m_changes)
    assert says_so(caught.value)
