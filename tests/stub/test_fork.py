"""After a fork the child has a machine of its own, and the parent's is as it was."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, Callable

import pytest
from support.judge import judge_pages

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend

GUEST = "pv64:mem=8M,writer=thread,rate=20000,seed={}"


def in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a forked child, as JSON has it; its exception, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(60)
            try:
                answer = work()
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(said)


def saved(seed: int, folder: str) -> tuple[int, bool, int]:
    """Saves a guest of its own, which writes: its seed, whether the stream is right, how many pages are not."""
    path = Path(folder, f"{seed}.stream")
    with pyxcsr.open_hypervisor("stub") as hv:
        domid = hv.stub.create(pyxcsr.StubGuest.parse(GUEST.format(seed)))
        with path.open("wb") as out:
            pyxcsr.save(hv, domid, out)
        with path.open("rb") as file:
            right = pyxcsr.verify(pyxcsr.StreamReader(file)).ok
        guest = hv.stub.guest(domid)
        with pyxcsr.MemoryImage(path) as image:
            pages = [x for x in image.pfns() if image.type_of(x) is pyxcsr.PageType.NOTAB]
            wrong = sum(bytes(guest.read_page(x)) != image.page(x) for x in pages)
    assert pages
    return seed, right, wrong


@pytest.mark.parametrize("held", [False, True], ids=["closed", "open"])
def test_saves_in_a_pool(tmp_path: Path, held: bool) -> None:
    """Also where the parent has used the stub before, and where it has a guest that writes meanwhile."""
    saved(99, str(tmp_path))
    hv = pyxcsr.open_hypervisor("stub")
    domid = hv.stub.create(pyxcsr.StubGuest.parse(GUEST.format(98)))
    if not held:
        hv.close()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(saved, [(x, str(tmp_path)) for x in range(6)], chunksize=1) == [
            (x, True, 0) for x in range(6)
        ]
    if held:
        with (tmp_path / "parent").open("w+b") as out:
            pyxcsr.save(hv, domid, out)
        judge_pages(hv, domid, tmp_path / "parent")
        hv.close()


def test_the_child_has_an_empty_machine(hv: StubBackend) -> None:
    """As a process has that never used the stub: nothing is open, no rule is set, no node is in the store."""
    hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.create(pyxcsr.StubGuest.hvm(mem="4M"))
    hv.stub.store_write("/tool/here", "1")
    hv.stub.fail("xc_domain_getinfolist")
    free = hv.stub.free_frames

    def work() -> Any:
        with pyxcsr.open_hypervisor("stub") as own:
            first = own.stub.domains, own.stub.store_read("/tool/here"), own.stub.leaks(), own.domains() and None
            with own.stub.hook(lambda name, count: None):
                domid = own.stub.create(pyxcsr.StubGuest.pv64(mem="16M"))
            with open("/dev/null", "wb") as out:
                pyxcsr.save(own, domid, out)
            return [*first, domid, own.stub.leaks()]

    assert in_child(work) == [[], None, {}, None, 1, {}]
    assert hv.stub.free_frames == free and len(hv.stub.domains) == 2
    hv.stub.clear_failures()


def test_nothing_that_the_child_does_reaches_the_parents_guest(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)
    pages = {x: bytes(guest.read_page(x)) for x in guest.pfns_with_memory()}

    def work() -> Any:
        with pyxcsr.open_hypervisor("stub") as own:
            mine = own.stub.guest(own.stub.create(pyxcsr.StubGuest.pv64(mem="64M", seed=5)))
            mine.tick(1000)
            own.stub.reset(seed=3, force=True)
            own.stub.create(pyxcsr.StubGuest.pv64(mem="64M", seed=6))
        return in_child(lambda: saved(7, str(tmp_path)))  # and so does the child's child

    assert in_child(work) == [7, True, 0]
    assert {x: bytes(guest.read_page(x)) for x in guest.pfns_with_memory()} == pages
    with (tmp_path / "s").open("w+b") as out:
        pyxcsr.save(hv, domid, out)
    judge_pages(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("window", [False, True])
def test_what_is_inherited_is_refused(hv: StubBackend, window: bool) -> None:
    """The hypervisor and its control panel: also once the child has a machine, with the same domids."""
    hv.stub.reset(window=window)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    guest = hv.stub.guest(domid)
    calls: list[Callable[[], object]] = [
        lambda: hv.domain_info(domid),
        lambda: hv.stub.domains,
        lambda: hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M")),
        lambda: guest.write_page(0, bytes(8)),
        guest.state,
    ]

    def refused() -> list[str]:
        out = []
        for call in calls:
            with pytest.raises(pyxcsr.UsageError, match=r"another process.*of your own after a fork") as caught:
                call()
            out.append(type(caught.value).__name__)
        return out

    def work() -> Any:
        before = refused()
        with pyxcsr.open_hypervisor("stub") as own:
            own.stub.reset(window=window, force=True)
            own.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
            after = refused()
            hv.close()
            return [before == after, repr(hv.stub), repr(guest), own.stub.domains]

    assert in_child(work) == [True, "<Stub of another process>", f"<StubDomain {domid} of another process>", [1]]
    assert guest.running


@pytest.mark.parametrize("at", ["xc_get_pfn_type_batch", "xenforeignmemory_unmap", "xc_logdirty_control"])
def test_a_child_forked_in_the_midst_of_a_call(hv: StubBackend, at: str) -> None:
    """By the hook. Its call has the parent's handle, and fails; the parent's goes on."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    parent, status = os.getpid(), []

    def hook(name: str, count: int) -> None:
        if name != at or status:
            return
        pid = os.fork()
        if pid:
            status.append(os.waitpid(pid, 0)[1])
        else:
            signal.alarm(60)
            status.append(-1)

    try:
        with hv.stub.hook(hook), open("/dev/null", "wb") as out:
            report = pyxcsr.save(hv, domid, out)
    except (pyxcsr.XcsrError, OSError):
        if os.getpid() != parent:
            with pyxcsr.open_hypervisor("stub") as own:
                os._exit(own.stub.domains != [] or own.stub.leaks() != {})
        raise
    finally:
        if os.getpid() != parent:
            os._exit(99)
    assert status == [0] and report.passes and hv.stub.leaks() == {}
