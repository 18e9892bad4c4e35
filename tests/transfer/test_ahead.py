"""The next batch's pages are mapped, and the last one's unmapped, by a second thread: nothing else may differ."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest
from support.judge import judge, save_to
from support.ordinary import ordinary_pages
from support.same import check_same

import pyxcsr
from pyxcsr.hypervisor import saving
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import PageData
from pyxcsr.transfer.save import save

WINDOW = 4096
"""Frames that may be mapped at once while the guest is suspended, beside the p2m and shared_info."""

RUNNING = 3 * 1024
"""And while it runs: a batch that was written, one that is, and the next."""

MAP, UNMAP, TYPES = "xenforeignmemory_map", "xenforeignmemory_unmap", "xc_get_pfn_type_batch"


def tasks() -> set[int]:
    return {int(x) for x in os.listdir("/proc/self/task")}


@contextmanager
def no_thread_left() -> Iterator[set[int]]:
    """Patient: threads of Python's own have been joined a little before they are gone."""
    before = tasks()
    yield before
    until = time.monotonic() + 5
    while not tasks() <= before and time.monotonic() < until:
        time.sleep(0.01)
    assert tasks() <= before, "a thread is left"


def suspended(hv: StubBackend, **options: Any) -> int:
    """A guest that is suspended already: the same whenever it is saved."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(**options))
    pyxcsr.XenstoreSuspend(hv, domid)()
    return domid


# -- the same stream


@pytest.mark.parametrize(
    "options",
    [{"mem": "8M"}, {"mem": "40M"}, {"mem": "24M", "holes": 0.3}, {"mem": "12M", "span": "64M"}, {"mem": "2M"}],
    ids=str,
)
def test_the_same_bytes(hv: StubBackend, tmp_path: Path, options: dict[str, Any]) -> None:
    domid = suspended(hv, vcpus=2, **options)
    with no_thread_left():
        plain = save_to(hv, domid, tmp_path / "plain", live=False, map_ahead=False, verify=True)
        ahead = save_to(hv, domid, tmp_path / "ahead", live=False, map_ahead=True, verify=True)
    check_same((tmp_path / "plain").read_bytes(), (tmp_path / "ahead").read_bytes())
    assert plain.mapped_ahead == 0 and not ahead.warnings
    with open(tmp_path / "plain", "rb") as stream:
        full = sum(isinstance(x, PageData) for x in StreamReader(stream)) - 2
    with_pages = full - 24 if "span" in options else full
    assert with_pages <= ahead.mapped_ahead <= full, "all but the first of a pass, unless there is nothing to map"
    judge(hv, domid, tmp_path / "ahead")


@pytest.mark.parametrize("changes", ["follow", "abort"])
@pytest.mark.parametrize("writer", ["calls", "thread"])
def test_a_guest_that_writes(hv: StubBackend, tmp_path: Path, changes: str, writer: str) -> None:
    options = {"writer": "thread", "rate": 50000} if writer == "thread" else {"writes": 300}
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="32M", pt_updates=8, vcpus=2, **options))
    with no_thread_left():
        report = save_to(hv, domid, tmp_path / "s", p2m_changes=changes, map_ahead=True)
    judge(hv, domid, tmp_path / "s")
    assert report.mapped_ahead >= 7 and sum(x.dirty for x in report.passes[1:]) > 0


# -- failures


def failure(hv: StubBackend, path: Path, map_ahead: bool, **rule: Any) -> pyxcsr.XcsrError:
    """What a save says if, after two queries of types, a mapping fails."""
    domid, seen = hv.stub.create(pyxcsr.StubGuest.pv64(mem="24M", writes=0, pt_updates=0)), 0

    def hook(name: str, count: int) -> None:
        nonlocal seen
        seen += name == TYPES
        if name == TYPES and seen == 3:
            hv.stub.fail(MAP, 1, **rule)

    with no_thread_left(), hv.stub.hook(hook), pytest.raises(pyxcsr.XcsrError) as caught:
        save_to(hv, domid, path, live=False, map_ahead=map_ahead)
    assert hv.stub.leaks() == {} and hv.stub.guest(domid).running
    hv.stub.clear_failures()
    save_to(hv, domid, path, map_ahead=map_ahead)
    judge(hv, domid, path, xen=False)
    hv.stub.destroy(domid)
    return caught.value


def facts(error: pyxcsr.XcsrError) -> dict[str, Any]:
    return {k: v for k, v in vars(error).items() if k not in ("domid", "mfn", "offset")}


def words(error: pyxcsr.XcsrError) -> list[str]:
    """Its text without numbers in it: a domid, an mfn."""
    return [x for x in str(error).split() if not x.strip("():,").startswith("0x") and not x.strip("():,").isdigit()]


@pytest.mark.parametrize(
    "rule", [{"errno": errno.ENOMEM}, {"errno": errno.EINVAL}, {"errno": errno.ENOENT, "page": 7}], ids=str
)
def test_a_mapping_fails(hv: StubBackend, tmp_path: Path, rule: dict[str, int]) -> None:
    """As it would have in the one thread, and told as that would have told it."""
    plain, ahead = (failure(hv, tmp_path / "s", x, **rule) for x in (False, True))
    assert type(plain) is type(ahead) and plain.__class__ in (pyxcsr.HypervisorError, pyxcsr.PageError)
    assert words(plain) == words(ahead) and facts(plain).keys() == facts(ahead).keys()
    assert plain.errno == ahead.errno == rule["errno"]
    assert getattr(plain, "pfn", None) == getattr(ahead, "pfn", None)


def test_a_page_that_cannot_be_mapped_is_sent_later(hv: StubBackend, tmp_path: Path) -> None:
    domid, seen = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", writes=0, pt_updates=0, fixmap=False)), 0

    def hook(name: str, count: int) -> None:
        nonlocal seen
        seen += name == TYPES
        if name == TYPES and seen == 3:  # two are about the p2m
            hv.stub.fail(MAP, 1, errno.EINVAL, page=100)

    with hv.stub.hook(hook):
        report = save_to(hv, domid, tmp_path / "s", map_ahead=True)
    assert report.passes[0].deferred == 1 and report.mapped_ahead >= 3
    judge(hv, domid, tmp_path / "s")


def test_types_of_the_next_batch_cannot_be_asked(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="24M"))
    hv.stub.fail(TYPES, 3, errno.ESRCH)
    with no_thread_left(), pytest.raises(pyxcsr.HypervisorError) as caught:
        save_to(hv, domid, tmp_path / "s", map_ahead=True)
    assert caught.value.op == TYPES and hv.stub.leaks() == {} and hv.stub.guest(domid).running


def test_the_output_fails(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="24M"))
    with no_thread_left(), open("/dev/full", "wb") as out, pytest.raises(pyxcsr.OutputError):
        save(hv, domid, out, map_ahead=True)
    assert hv.stub.leaks() == {} and hv.stub.guest(domid).running


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_cancelled_while_the_output_is_stalled(hv: StubBackend, live: bool, batches: int) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="40M"))
    reader, writer = os.pipe()
    went, polls = 0, 0

    def drain() -> None:
        nonlocal went
        while went < batches * (4 << 20):
            went += len(os.read(reader, 1 << 20))

    def cancel() -> bool:
        nonlocal polls
        polls += went >= batches * (4 << 20) and hv.stub.usage()["mapped_pages"] > 1024
        return polls > 3

    thread = threading.Thread(target=drain)
    with no_thread_left():
        thread.start()
        with pytest.raises(pyxcsr.Cancelled):
            save(hv, domid, writer, live=live, map_ahead=True, cancel=cancel)
        thread.join()
    assert hv.stub.leaks() == {} and hv.stub.guest(domid).running
    os.close(reader)
    os.close(writer)


def test_a_slow_output(hv: StubBackend, tmp_path: Path) -> None:
    """XCSR_AGAIN many times, and nothing is lost."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M", writes=50))
    reader, writer = os.pipe()

    def drain() -> None:
        with open(tmp_path / "s", "wb") as out:
            while data := os.read(reader, 300_000):
                out.write(data)
                time.sleep(0.002)

    thread = threading.Thread(target=drain)
    thread.start()
    report = save(hv, domid, writer, map_ahead=True)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert report.mapped_ahead >= 3
    judge(hv, domid, tmp_path / "s")


# -- how much is mapped


def watch(hv: StubBackend, path: Path, live: bool) -> list[tuple[int, int]]:
    """Of a save of 40 MiB, at each call: frames mapped, beside those that always are, and the thread it came from."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="40M"))
    always = len(hv.stub.guest(domid).leaf_pfns()) + 1
    seen: list[tuple[int, int]] = []

    def look(name: str, count: int) -> None:
        seen.append((hv.stub.usage()["mapped_pages"] - always, threading.get_native_id()))

    with hv.stub.hook(look):
        save_to(hv, domid, path, live=live, map_ahead=True)
    judge(hv, domid, path)
    assert len({thread for _, thread in seen}) == 2
    return seen


def test_never_more_than_the_window(hv: StubBackend, tmp_path: Path) -> None:
    seen = watch(hv, tmp_path / "s", live=False)
    assert WINDOW - 1024 < max(n for n, _ in seen) <= WINDOW, "neither exceeded nor left unused"


def test_while_the_guest_runs_three_batches_are_mapped(hv: StubBackend, tmp_path: Path) -> None:
    seen = watch(hv, tmp_path / "s", live=True)
    assert 2000 < max(n for n, _ in seen) <= RUNNING


# -- call by call

STANDS = [1022, 2044, 3066, 4088, 4096]
"""After each batch of a pass over 16 MiB, if it begins with the stream: pages begin where those of a file do."""


class Passes:
    """A guest of 16 MiB that nobody suspends, and its save, a batch a call."""

    def __init__(self, hv: StubBackend, monkeypatch: pytest.MonkeyPatch, mem: str = "16M") -> None:
        monkeypatch.setattr(saving, "BATCHES_US", 0)
        quiet = pyxcsr.StubGuest.pv64(mem=mem, max_mem="64M", writes=0, pt_updates=0, fixmap=False)
        self.domid = hv.stub.create(quiet)
        self.hv, self.guest = hv, hv.stub.guest(self.domid)
        self.p2m = hv.map_p2m(self.domid, self.guest.nr_pfns, [self.guest.mfn(x) for x in self.guest.leaf_pfns()])
        self.save = hv.new_save(self.domid, self.guest.nr_pfns, self.p2m)
        self.out = os.open("/dev/null", os.O_WRONLY)
        self.sink = hv.open_sink(self.out)
        self.save.map_ahead(True)
        self.save.mark_all()
        self.save.pass_begin(False)

    def batch(self) -> Any:
        return self.save.batches(self.sink, lambda: None)

    def rest(self) -> list[Any]:
        """Batches until the pass is over."""
        found = [self.batch()]
        while not found[-1].done:
            found.append(self.batch())
        return found

    def close(self) -> None:
        self.save.close()
        self.p2m.close()
        self.sink.close()
        os.close(self.out)


@pytest.fixture
def passes(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Passes]:
    with no_thread_left():
        made = Passes(hv, monkeypatch)
        yield made
        made.close()


def test_where_a_pass_stands(passes: Passes) -> None:
    found = passes.rest()
    assert [x.next_pfn for x in found] == STANDS
    assert [x.done for x in found] == [False, False, False, False, True]
    assert [x.nr_ahead for x in found] == [0, 1, 1, 1, 1]
    assert [x.nr_pages + x.nr_holes + x.nr_deferred for x in found] == [1022] * 4 + [8]


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("more", [1, 100, 1500])
def test_more_pfns_in_mid_pass(passes: Passes, after: int, more: int) -> None:
    """While a batch is prepared: what is new is sent in the pass all the same, and it is not over before."""
    before = [passes.batch() for _ in range(after)]
    assert not before[-1].done
    passes.save.grow(4096 + more)
    found = [*before, *passes.rest()]
    assert sum(x.nr_pfns for x in found) == 4096 + more and found[-1].next_pfn == 4096 + more
    assert found[-1].nr_holes > 0, "the p2m that is mapped has no frames of theirs"


def test_nothing_stays_prepared_when_a_pass_begins(passes: Passes) -> None:
    passes.batch()
    mapped = passes.hv.stub.usage()["mapped_pages"]
    passes.save.pass_begin(False)
    again = passes.rest()
    assert [x.nr_pfns for x in again] == [1022] * 4 + [8] and again[0].nr_ahead == 0 and mapped > 0


def test_a_page_ballooned_out_after_it_was_prepared(passes: Passes) -> None:
    """Its frame is held by the mapping. The pass goes on; that the pfn has changed is for the sweep to find."""
    passes.batch()
    passes.guest.balloon_out(next(x for x in ordinary_pages(passes.guest) if 1022 <= x < 2044))
    assert sum(x.nr_pfns for x in passes.rest()) == 4096 - 1022


def test_let_go_with_a_batch_prepared(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_thread_left() as before:
        made = Passes(hv, monkeypatch)
        made.batch()
        assert len(tasks() - before) == 1
        made.close()
    assert hv.stub.leaks() == {}


def test_closing_the_hypervisor_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with no_thread_left():
        hv = pyxcsr.open_hypervisor("stub")
        assert isinstance(hv, StubBackend)
        hv.stub.reset()
        made = Passes(hv, monkeypatch)
        made.batch()
        hv.close()
        assert hv.stub.leaks(handles=True) == {}
        os.close(made.out)


def test_no_signal_is_the_threads(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tasks()
    made = Passes(hv, monkeypatch)
    (worker,) = tasks() - before
    text = Path(f"/proc/self/task/{worker}/status").read_text()
    blocked = int(next(x for x in text.splitlines() if x.startswith("SigBlk")).split()[1], 16)
    for signal in (2, 10, 13, 14, 15, 17):
        assert blocked >> (signal - 1) & 1, signal
    made.close()


def test_a_forked_child_has_no_thread(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it releases is its memory; the parent's save goes on."""
    made = Passes(hv, monkeypatch)
    made.batch()
    handles = hv.stub.usage()["fmem_handles"]
    pid = os.fork()
    if pid == 0:
        try:
            made.save.close()
            made.p2m.close()
            hv.close()
            with pyxcsr.open_hypervisor("stub") as own:
                os._exit("xenforeignmemory_close" in own.stub.calls())
        except BaseException:
            os._exit(2)
    assert handles == 2 and os.waitpid(pid, 0)[1] == 0
    assert sum(x.nr_pfns for x in made.rest()) == 4096 - 1022
    made.close()


# -- when


def save_counting(hv: StubBackend, domid: int, out: Any, **options: Any) -> tuple[pyxcsr.SaveReport, int]:
    """The report, and how many threads more there were at most while pages were sent."""
    before, most = len(tasks()), 0

    def progress(now: pyxcsr.Progress) -> None:
        nonlocal most
        most = max(most, len(tasks()) - before)

    return save(hv, domid, out, progress=progress, **options), most


def test_mappings_that_cost_nothing_are_made_by_the_one_thread(hv: StubBackend) -> None:
    hv.stub.reset(window=True)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="64M", packed=True))
    with open("/dev/null", "wb") as out:
        report, threads = save_counting(hv, domid, out)
    assert report.mapped_ahead == 0 and threads == 0


def test_mappings_that_cost_nothing_and_slow_writes(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    hv.stub.reset(window=True)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="32M", packed=True, writes=0))
    reader, writer = os.pipe()

    def drain() -> None:
        while os.read(reader, 1 << 20):
            time.sleep(0.002)

    thread = threading.Thread(target=drain)
    thread.start()
    report = save(hv, domid, writer)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert report.mapped_ahead == 0


def slow(hv: StubBackend, path: Path, cost: float, rest: float, **options: Any) -> tuple[pyxcsr.SaveReport, int]:
    """A save through a pipe whose reader rests after each megabyte, where a mapping has its price; both in seconds."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="32M"))
    reader, writer = os.pipe()

    def drain() -> None:
        with open(path, "wb") as out:
            while data := os.read(reader, 1 << 20):
                out.write(data)
                time.sleep(rest)

    def hook(name: str, count: int) -> None:
        if name in (MAP, UNMAP):
            time.sleep(cost)

    thread = threading.Thread(target=drain)
    with hv.stub.hook(hook), no_thread_left():
        thread.start()
        found = save_counting(hv, domid, writer, **options)
        os.close(writer)
        thread.join()
    os.close(reader)
    judge(hv, domid, path, xen=False)
    return found


@pytest.mark.parametrize("processors", [1, 2])
def test_slow_mappings_and_slow_writes(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    """It takes two batches to be sure, and two processors to be worth it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
    report, threads = slow(hv, tmp_path / "s", 0.002, 0.002)
    assert threads == processors - 1
    assert (4 <= report.mapped_ahead <= report.passes[0].pages // 1024 if processors == 2 else report.mapped_ahead == 0)
    assert report.warnings == []


def test_slow_mappings_and_an_output_that_takes_all(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to hide it behind."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="32M"))
    with hv.stub.hook(lambda name, count: time.sleep(0.01) if name == MAP else None), open("/dev/null", "wb") as out:
        report, threads = save_counting(hv, domid, out)
    assert report.mapped_ahead == 0 and threads == 0


def test_it_ends_when_it_does_not_pay_any_more(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader wakes up after 32 MiB: there is no more sleep of its to hide mapping behind.

    Mapping costs far more than any machine takes to write, so that a busy one decides nothing.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="112M", writes=0))
    reader, writer = os.pipe()

    def drain() -> None:
        went = 0
        while data := os.read(reader, 1 << 20):
            went += len(data)
            if went < 32 << 20:
                time.sleep(0.04)

    def hook(name: str, count: int) -> None:
        if name in (MAP, UNMAP):
            time.sleep(0.1)

    thread = threading.Thread(target=drain)
    thread.start()
    with hv.stub.hook(hook):
        report = save(hv, domid, writer)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert 2 <= report.mapped_ahead <= 20, "of the first pass's 29 batches those while the reader slept, and some more"


@pytest.mark.parametrize("what", ["handle", "measured"])
def test_it_cannot_be_started(hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The save goes on without; told if it was asked for."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    hv.stub.fail("xenforeignmemory_open", 0, errno.EMFILE)
    if what == "measured":
        report, threads = slow(hv, tmp_path / "s", 0.002, 0.002)
        assert report.warnings == [] and threads == 0
    else:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M"))
        report = save_to(hv, domid, tmp_path / "s", map_ahead=True)
        judge(hv, domid, tmp_path / "s")
        (warning,) = report.warnings
        assert "ahead" in warning and "foreign memory" in warning and os.strerror(errno.EMFILE) in warning
    assert report.mapped_ahead == 0
    hv.stub.clear_failures()


@pytest.mark.parametrize("wrong", [1, 0, "yes", 2.0])
def test_what_may_be_asked_for(hv: StubBackend, wrong: Any) -> None:
    with pytest.raises(pyxcsr.UsageError, match="map_ahead"):
        save(hv, 1, 1, map_ahead=wrong)


def test_nothing_is_lost_when_it_is_asked_for_in_mid_pass(passes: Passes) -> None:
    """Each batch by whichever way, in any order."""
    wanted = (True, True, None, False, True, None, False, False)
    for again in range(2):
        stood, sent = [0], 0
        passes.save.mark_all()
        passes.save.pass_begin(bool(again))
        done: Optional[Any] = None
        for choice in wanted:
            passes.save.map_ahead(choice)
            if done is None or not done.done:
                done = passes.batch()
                stood.append(done.next_pfn)
                sent += done.nr_pfns
        assert done is not None and done.done and sent == stood[-1] == 4096
        assert all(0 < b - a <= 1024 for a, b in zip(stood, stood[1:]))
