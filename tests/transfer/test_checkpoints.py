"""Checkpointed saves (Remus), and restores of what is left of one: always the guest of the last whole checkpoint.

``PYXCSR_CUTS=200 pytest tests/transfer/test_checkpoints.py -k anywhere`` cuts each kind's stream at 200 places.
"""

from __future__ import annotations

import os
import random
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.remus import LIBXLS, RINGS, Protected, is_whole_with, places

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.container.verify import verify_input
from pyxcsr.errors import StreamError
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import device_model_of
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError

CUTS = int(os.environ.get("PYXCSR_CUTS", "12"))
GUESTS = {
    "pv64": "pv64:mem=8M,writes=40,pt_updates=4,holes=0.1,vcpus=2",
    "pv32": "pv32:mem=8M,writes=40,pt_updates=4,holes=0.1,vcpus=2",
    "pv64, tree": "pv64:mem=6M,writes=20,tree=only",
    "pvh": "pvh:mem=6M,writes=40,vcpus=2,compact=yes,balloon=4",
    "hvm": "hvm:mem=6M,writes=20,devmodel=4,compact=yes,vram=1M",
}


def protected(hv: StubBackend, tmp_path: Path, name: str, libxl: bool = False) -> Protected:
    domid = hv.stub.create(StubGuest.parse(GUESTS[name]))
    model = device_model_of(hv.stub.guest(domid))
    return Protected(hv, domid, tmp_path / "s", libxl=libxl, device_model=model)


@pytest.mark.parametrize("name", GUESTS)
def test_the_whole_stream(hv: StubBackend, tmp_path: Path, name: str) -> None:
    guest = protected(hv, tmp_path, name)
    told: list[tuple[int, bool]] = []
    inside = hv.stub.guest(guest.domid)
    report = guest.run(4, checkpoint=lambda done: told.append((done.number, inside.suspended)))
    assert told == [(1, False), (2, False), (3, False), (4, True)]
    sums = report.checkpoints
    assert sums is not None and sums.count == 4 and sums.last is not None and sums.last.number == 4
    assert sums.pages > 0 and sums.longest_pause <= sums.seconds_paused
    assert report.passes[-1].suspended and not report.passes[-2].suspended
    assert report.bytes == guest.path.stat().st_size
    assert hv.stub.guest(guest.domid).suspended and hv.stub.leaks() == {}
    with guest.path.open("rb") as stream:
        verified = verify_input(stream, checkpointed=True)
    assert verified.ok and verified.checkpoints == 4, [str(x) for x in verified.complaints[:4]]
    done = guest.check_cut(guest.path.read_bytes(), tmp_path / "cut")
    assert done.failed_over == ""


@pytest.mark.parametrize("libxl", [False, True], ids=["bare", "libxl"])
@pytest.mark.parametrize("name", GUESTS)
def test_cut_between_any_two_records(hv: StubBackend, tmp_path: Path, name: str, libxl: bool) -> None:
    guest = protected(hv, tmp_path, name, libxl)
    guest.run(3)
    data = guest.path.read_bytes()
    for place in places(data, libxl):
        part = data[: place.end]
        if not guest.whole_at(part):
            with pytest.raises(StreamError):
                guest.restored(part, tmp_path / "cut")
            continue
        report = guest.check_cut(part, tmp_path / "cut")
        assert (report.failed_over == "") is (len(part) == len(data))
    assert guest.whole_at(data) == 3


@pytest.mark.parametrize("name", ["pv64", "pvh"])
def test_both_ends_callbacks_are_counterparts_in_a_pipe(hv: StubBackend, tmp_path: Path, name: str) -> None:
    """Where nothing can be put back that was read: each end is asked at every checkpoint, the last one included."""
    guest = protected(hv, tmp_path, name, libxl=True)
    guest.run(3)
    data = guest.path.read_bytes()
    out, into = os.pipe()

    def feed() -> None:
        with open(into, "wb") as to:
            to.write(data)

    def read(fd: int) -> bytes:
        got = b""
        while len(got) < len(LIBXLS) and (piece := os.read(fd, len(LIBXLS) - len(got))):
            got += piece
        return got

    thread = threading.Thread(target=feed)
    thread.start()
    new = hv.stub.create_empty(guest.max_mem, vcpus=guest.vcpus, kind=guest.kind)
    try:
        report = pyxcsr.restore(hv, new, out, checkpointed=True, checkpoint=lambda: read(out) == LIBXLS, **RINGS)
        assert os.read(out, 1) == b"", "END has not been read"
    finally:
        os.close(out)
        thread.join()
    assert (report.checkpoints, report.failed_over) == (3, "")
    guest.check(new, 3)


@pytest.mark.parametrize("name", GUESTS)
def test_cut_anywhere(hv: StubBackend, tmp_path: Path, name: str) -> None:
    guest = protected(hv, tmp_path, name, libxl=True)
    guest.run(6)
    data, rng = guest.path.read_bytes(), random.Random(name)
    first = next(x.end for x in places(data, True) if is_whole_with(x, True))
    for _ in range(CUTS):
        report = guest.check_cut(data[: rng.randrange(first, len(data))], tmp_path / "cut")
        assert "the stream ends at byte" in report.failed_over or "has not come" in report.failed_over


def test_a_plain_restore_refuses_it(hv: StubBackend, tmp_path: Path) -> None:
    guest = protected(hv, tmp_path, "pv64")
    guest.run(2)
    new = hv.stub.create_empty("9M", vcpus=2)
    with guest.path.open("rb") as stream, pytest.raises(pyxcsr.StreamError, match="restore --checkpointed"):
        pyxcsr.restore(hv, new, stream)


def ballooned_out(inside: StubDomain, pfns: list[int]) -> list[int]:
    """The first 40 of these that the guest's kernel does not use."""
    gone: list[int] = []
    for pfn in pfns:
        with suppress(StubError):
            inside.balloon_out(pfn)
            gone.append(pfn)
        if len(gone) == 40:
            break
    return gone


@pytest.mark.parametrize("kind", ["pv64", "pv32", "pvh"])
def test_a_guest_at_its_limit_that_exchanges_pages(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    """High pages go and low ones come in one epoch: in the stream's order the receiver would own both for a moment."""
    domid = hv.stub.create(StubGuest.parse(f"{kind}:mem=6M,writes=0"))
    inside = hv.stub.guest(domid)
    plain = sorted(inside.pfns_of_type(PageType.NOTAB))
    low = ballooned_out(inside, plain)

    def exchange(done: pyxcsr.Checkpoint) -> None:
        if done.number > 1:
            return
        high = ballooned_out(inside, plain[::-1])
        assert min(high) > max(low)
        for pfn in low[1:]:  # a saver notices such an exchange by the number of pages
            inside.balloon_in(pfn)

    guest = Protected(hv, domid, tmp_path / "s")
    guest.max_mem = hv.domain_info(domid).tot_pages * 4096  # and a new domain may own no more
    guest.run(2, checkpoint=exchange)
    data = guest.path.read_bytes()
    report = guest.check_cut(data, tmp_path / "cut")
    assert report.checkpoints == 2
