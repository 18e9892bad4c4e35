"""Found in review: what cost a guest, a stream or a signal, each at its worst moment."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.judge import judge_pages, judge_rules, save_to
from support.logdirty import call_that_ends_it

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.hypervisor import backend, faults
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import SimplePolicy
from pyxcsr.stream.records import PageData
from pyxcsr.switches import ENDING, VARIABLE
from pyxcsr.transfer.save import save


class Boom(Exception):
    """A caller's callback that breaks."""


# -- the output


@pytest.mark.alone
def test_a_slow_reader_does_not_delay_the_wish_to_cancel(hv: StubBackend) -> None:
    """It takes something before every wait is over, and a batch is 4 MiB: at this rate 20 s a batch."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="32M"))
    reader, writer = os.pipe()
    stop = threading.Event()

    def read_slowly() -> None:
        while not stop.wait(0.02):
            os.read(reader, 4096)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    began = time.monotonic()
    polls: list[float] = []

    def cancel() -> bool:
        polls.append(time.monotonic())
        return polls[-1] - began > 0.8

    try:
        with pytest.raises(pyxcsr.Cancelled):
            save(hv, domid, writer, cancel=cancel)
        seconds = time.monotonic() - began
    finally:
        stop.set()
        thread.join()
        os.close(reader)
        os.close(writer)
    assert seconds < 10.0
    assert len(polls) > 4, "polled all along"


def run_python(text: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", text]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_a_program_that_dies_of_sigpipe_does_not_die_of_ours() -> None:
    done = run_python("""
import os, signal, threading, pyxcsr
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
reader, writer = os.pipe()
def leave():
    os.read(reader, 100000)
    os.close(reader)
threading.Thread(target=leave).start()
with pyxcsr.open_hypervisor("stub") as hv:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    try:
        pyxcsr.save(hv, domid, writer)
    except pyxcsr.OutputError as error:
        print(error.errno, hv.stub.guest(domid).running, signal.sigpending())
""")
    assert (done.returncode, done.stdout) == (0, f"{errno.EPIPE} True set()\n"), done.stderr


@pytest.mark.parametrize("who", ["watcher", "pipe", "fifo"])
def test_nor_of_one_who_watches_and_leaves(tmp_path: Path, who: str) -> None:
    """In the pause, when the guest is suspended for the save: events are told then at the end only."""
    done = run_python(f"""
import os, signal, socket, pyxcsr
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.chdir({os.fspath(tmp_path)!r})
who, client = {who!r}, socket.socket(socket.AF_UNIX)
if who == "fifo":
    os.mkfifo("fifo")
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    control = pyxcsr.Control("", "fifo")
elif who == "pipe":
    reader, writer = os.pipe()
    control = pyxcsr.Control("", writer)
else:
    control = pyxcsr.Control(os.path.abspath("run"))
def progress(now):
    if now.phase == "setup" and who == "watcher":
        client.connect("run/1.sock")
        client.sendall(b'{{"pyxcsr": 1, "do": "watch"}}\\n')
        control.serve()
    elif now.phase == "suspend":
        client.close()
        if who != "watcher":
            os.close(reader)
with pyxcsr.open_hypervisor("stub") as hv, open(os.devnull, "wb") as out:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    report = pyxcsr.save(hv, domid, out, control=control, progress=progress)
    print(len(report.warnings), signal.sigpending(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
""")
    warnings = 0 if who == "watcher" else 1
    assert (done.returncode, done.stdout) == (0, f"{warnings} set() set()\n"), done.stderr


def test_nor_of_a_device_model_that_hangs_up(tmp_path: Path) -> None:
    """It has greeted, and ends before it is told that it is to say which pages it writes."""
    done = run_python(f"""
import os, signal, socket, threading, pyxcsr
from pyxcsr.devicemodel.qmp import Qmp
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
path = {os.fspath(tmp_path / "qmp")!r}
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
def serve():
    one = listener.accept()[0]
    one.sendall(b'{{"QMP": {{}}}}\\r\\n')
    one.recv(4096)
    one.sendall(b'{{"return": {{}}}}\\r\\n')
    one.close()
thread = threading.Thread(target=serve)
thread.start()
with Qmp(1, path) as qmp:
    thread.join()
    try:
        qmp.command("xen-set-global-dirty-log", enable=True)
    except pyxcsr.DeviceModelError as error:
        print(error)
""")
    assert done.returncode == 0 and "that took no command: [Errno 32] Broken pipe" in done.stdout, done.stderr


def test_nor_who_steers_a_save_that_hangs_up(tmp_path: Path) -> None:
    done = run_python(f"""
import os, signal, socket, pyxcsr
from pyxcsr.control.connection import Connection, NoAnswer
from pyxcsr.control.folder import Folder
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
listener = socket.socket(socket.AF_UNIX)
listener.bind({os.fspath(tmp_path / "1.sock")!r})
listener.listen()
with Folder({os.fspath(tmp_path)!r}) as folder, Connection(folder, 1) as save:
    listener.accept()[0].close()
    try:
        save.ask("status")
    except NoAnswer as error:
        print(error)
""")
    assert (done.returncode, done.stdout) == (0, "the save of domain 1 does not take it: Broken pipe\n"), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a pipe that cannot be opened again; needs another user's")
def test_a_pipe_of_another_user_that_nobody_reads_can_be_cancelled() -> None:
    done = run_python("""
import fractions, os, time, pyxcsr
def save(fd, seconds):
    began = time.monotonic()
    with pyxcsr.open_hypervisor("stub") as hv:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
        try:
            pyxcsr.save(hv, domid, fd, cancel=lambda: time.monotonic() - began > seconds)
        except pyxcsr.Cancelled:
            print("cancelled", hv.stub.guest(domid).running)
save(os.open("/dev/null", os.O_WRONLY), 0.0)  # loads what is loaded at need: the other user may not be able to
reader, writer = os.pipe()
os.fchmod(writer, 0)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
except PermissionError:
    pass
else:
    print("this tests nothing")
save(writer, 0.5)
""")
    assert (done.returncode, done.stdout) == (0, "cancelled True\ncancelled True\n"), done.stderr


def test_output_that_cannot_be_flushed_or_is_closed(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    out = open("/dev/full", "wb")  # noqa: SIM115
    out.write(b"before")
    with pytest.raises(pyxcsr.OutputError) as caught:
        save(hv, domid, out)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError):
        out.close()
    with open(tmp_path / "s", "wb") as closed:
        pass
    with pytest.raises(pyxcsr.OutputError) as caught:
        save(hv, domid, closed)
    assert caught.value.errno == errno.EBADF


# -- once the stream is complete


def test_log_dirty_that_stays_on_does_not_undo_a_complete_save(hv: StubBackend, tmp_path: Path) -> None:
    """The reader has END: a guest resumed here would run twice."""
    guest = pyxcsr.StubGuest.pv64(mem="8M")
    last = call_that_ends_it(hv, guest)
    domid = hv.stub.create(guest)
    for nth in (last, last + 1):
        hv.stub.fail("xc_shadow_control", nth, errno.ENOMEM)
    report = save_to(hv, domid, tmp_path / "s")
    assert len(report.warnings) == 1 and "log-dirty" in report.warnings[0]
    assert hv.stub.guest(domid).suspended and not hv.stub.guest(domid).state().logdirty
    judge_rules(tmp_path / "s", xen=False)


def test_a_callback_that_raises_when_all_is_done_does_not_resume(hv: StubBackend, tmp_path: Path) -> None:
    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == "done":
            raise Boom("boom")

    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    with pytest.raises(Boom) as caught:
        save_to(hv, domid, tmp_path / "s", progress=progress)
    assert "complete" in str([*caught.value.args, *getattr(caught.value, "__notes__", ())])
    assert hv.stub.guest(domid).suspended and not hv.stub.guest(domid).state().logdirty
    judge_rules(tmp_path / "s", xen=False)


def test_the_last_byte_decides(hv: StubBackend, tmp_path: Path) -> None:
    """All but the end of END is out when the wish to cancel comes: the stream is not complete, and the guest runs."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writes=0))
    report = save_to(hv, domid, tmp_path / "s", live=False)
    hv.domain_resume(domid)
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (report.bytes - 1, before[1]))
    try:
        with pytest.raises(pyxcsr.OutputError):
            save_to(hv, domid, tmp_path / "t", live=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "t").stat().st_size == report.bytes - 1
    assert hv.stub.guest(domid).running


@pytest.mark.parametrize("moment", ["tail", "final"])
def test_somebody_else_resumes_the_guest_in_the_last_pass(hv: StubBackend, tmp_path: Path, moment: str) -> None:
    """The pages and the registers would be of two moments."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0))

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == moment and hv.domain_info(domid).suspended:
            hv.domain_resume(domid)

    with pytest.raises(pyxcsr.SuspendError, match="somebody resumed it"):
        save_to(hv, domid, tmp_path / "s", progress=progress)
    assert hv.stub.guest(domid).running


def test_somebody_else_resumes_the_guest_while_its_registers_are_read(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, vcpus=1))
    guest, domctls = hv.stub.guest(domid), 0

    def resume_at_the_last(name: str, count: int) -> None:
        nonlocal domctls
        if name != "xc_domctl" or guest.running:  # the end is rehearsed while it runs
            return
        domctls += 1
        if domctls == 5:  # extended, xsave twice, MSRs twice
            with pyxcsr.open_hypervisor("stub") as other:
                other.domain_resume(domid)

    with hv.stub.hook(resume_at_the_last), pytest.raises(pyxcsr.SuspendError, match="somebody resumed it"):
        save_to(hv, domid, tmp_path / "s")
    assert domctls == 5 and guest.running


# -- the handle


def child_that_unwinds() -> int:
    """Forks. In the child, where no call is counted yet, it raises Boom; in the parent it returns how that ended."""
    pid = os.fork()
    if not pid:
        raise Boom
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def calls_of_child() -> dict[str, int]:
    """What it has called since the fork, with whatever handle."""
    with pyxcsr.open_hypervisor("stub") as own:
        return own.stub.calls()


def test_a_forked_child_that_unwinds_touches_nothing(hv: StubBackend, tmp_path: Path) -> None:
    """It must not switch off the log-dirty mode by which the parent goes on saving, nor unmap what it has not."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    status: list[int] = []
    parent = os.getpid()

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == "pass" and not status:
            status.append(child_that_unwinds())

    try:
        save_to(hv, domid, tmp_path / "s", progress=progress)
        judge_pages(hv, domid, tmp_path / "s")
    except Boom:
        calls = set(calls_of_child()) & {"xc_shadow_control", "xenforeignmemory_unmap", "xc_domain_resume"}
        os._exit(len(calls))
    finally:
        if os.getpid() != parent:
            os._exit(99)
    assert status == [0]


def test_a_forked_child_of_a_restore_unmaps_nothing(hv: StubBackend, tmp_path: Path) -> None:
    """The pages into which the parent is reading just then are mapped by its handle."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    save_to(hv, domid, tmp_path / "s")
    stream = (tmp_path / "s").read_bytes()
    cut = len(stream) // 2 + 100
    reads, writes = os.pipe()
    writer = threading.Thread(target=lambda: os.write(writes, stream[:cut]) == cut)
    status: list[int] = []
    parent = os.getpid()

    def cancel() -> bool:
        if not status and not writer.is_alive() and not select.select([reads], [], [], 0)[0]:
            assert hv.stub.leaks(), "the pages that are being read are mapped"
            status.append(child_that_unwinds())
            os.close(writes)
        return False

    new = hv.stub.create_empty("64M")
    writer.start()
    try:
        with pytest.raises(pyxcsr.StreamTruncated):
            pyxcsr.restore(hv, new, reads, cancel=cancel)
    except Boom:
        os._exit(calls_of_child().get("xenforeignmemory_unmap", 0))
    finally:
        if os.getpid() != parent:
            os._exit(99)
        writer.join()
        os.close(reads)
    assert status == [0]


@pytest.mark.parametrize("seconds", [0, 0, 0, 0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.12])
def test_a_handle_closed_by_another_thread_while_it_saves(seconds: float) -> None:
    """It waits for the call in progress; then the save finds itself without a handle, and says so.

    While it stalls (the last), and while it sets up, sends and cleans up after itself (the others).
    """
    hv = pyxcsr.open_hypervisor("stub")
    assert isinstance(hv, StubBackend)
    hv.stub.reset()
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    reader, writer = os.pipe()
    raised: list[BaseException] = []
    begun = threading.Event()

    def cancel() -> bool:
        if hv._children and len(hv._children) >= 4:  # sink, shared_info, p2m and save are open
            begun.set()
        return False

    def saving() -> None:
        try:
            save(hv, domid, writer, cancel=cancel)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=saving, daemon=True)
    thread.start()
    assert begun.wait(30)
    time.sleep(seconds)
    hv.close()
    thread.join(30)
    assert not thread.is_alive()
    os.close(reader)
    os.close(writer)
    assert [type(x) for x in raised] == [pyxcsr.UsageError]
    assert hv.stub.leaks(handles=True) == {}
    hv.stub.reset()


def test_closing_goes_on_when_one_thing_cannot_be_released() -> None:
    class Stubborn:
        def close(self) -> None:
            raise Boom

    hv = pyxcsr.open_hypervisor("stub")
    assert isinstance(hv, StubBackend)
    hv.stub.reset()
    with pyxcsr.open_hypervisor("stub") as other:  # whose guest outlives hv
        domid = other.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
        hv.new_save(domid, 1024, None).logdirty_enable()
        stubborn = Stubborn()
        hv._adopt(stubborn)
        with pytest.raises(Boom):
            hv.close()
        assert not other.stub.guest(domid).state().logdirty
    assert hv.stub.leaks(handles=True) == {}
    with pytest.raises(pyxcsr.UsageError, match="closed"):
        hv.domains()


def test_a_node_that_is_not_there_differs(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    path = f"/local/domain/{domid}/control/nothing"
    assert hv.xenstore_compare_and_write(path, b"a", b"b") is False
    assert hv.xenstore_read(path) is None


def test_a_refusal_by_xenstored_is_not_a_matter_of_releases() -> None:
    for op, kind in (("xs_read", pyxcsr.HypervisorError), ("xc_domain_getinfolist", pyxcsr.VersionMismatch)):
        error = faults.exception(1, errno.EACCES, op, "text", {}, {})
        assert type(error) is kind


def test_a_cancel_callback_that_raises_leaves_no_request(hv: StubBackend) -> None:
    """It raises Cancelled itself while the guest is being asked: the request must not stay in xenstore."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", suspend="ignore"))

    def cancel() -> bool:
        if hv.xenstore_read(f"/local/domain/{domid}/control/shutdown") == b"suspend":
            raise pyxcsr.Cancelled("by myself")
        return False

    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.Cancelled, match="by myself"):
        save(hv, domid, out, cancel=cancel)
    assert hv.xenstore_read(f"/local/domain/{domid}/control/shutdown") == b""


def test_a_guest_that_somebody_else_suspended_is_not_resumed(hv: StubBackend) -> None:
    called: list[str] = []

    class Suspend(pyxcsr.Suspend):
        def __call__(self) -> None:
            called.append("suspend")

        def resume(self) -> None:
            called.append("resume")
            hv.domain_resume(domid)

    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    hv.stub.fail("xc_domain_get_tsc_info", 1, errno.EFAULT)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.HypervisorError, match="tsc"):
        save(hv, domid, out, live=False, suspend=Suspend())
    assert hv.stub.guest(domid).suspended and called == []


# -- pages


def test_the_last_bitmap_is_asked_for_as_the_last(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xen then adds what it and its backends write themselves (LOGDIRTY_FINAL)."""
    asked: list[tuple[bool, bool]] = []
    clean = backend.Save.logdirty_clean
    monkeypatch.setenv(VARIABLE, ENDING)  # else C asks for the last one itself

    def watch(self: backend.Save, final: bool) -> int:
        asked.append((final, hv.domain_info(domid).suspended))
        return clean(self, final)

    monkeypatch.setattr(backend.Save, "logdirty_clean", watch)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    report = save_to(hv, domid, tmp_path / "s")
    assert asked == [(False, False)] * (len(report.passes) - 2) + [(True, True)]


def test_a_deferred_page_is_sent_before_the_pause(hv: StubBackend, tmp_path: Path) -> None:
    """Nothing makes it dirty: only the list of deferred pages knows of it, and every pass looks there."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, pt_updates=0, fixmap=False))
    batches = 0

    def fail_one_frame(name: str, count: int) -> None:
        nonlocal batches
        batches += name == "xc_get_pfn_type_batch"
        if name == "xc_get_pfn_type_batch" and batches == 3:  # two are of the p2m's pages
            hv.stub.fail("xenforeignmemory_map", 1, errno.EINVAL, page=77)

    with hv.stub.hook(fail_one_frame):
        report = save_to(hv, domid, tmp_path / "s", policy=SimplePolicy(2, 0))
    first, second, last = report.passes
    assert (first.deferred, second.deferred, last.deferred) == (1, 0, 0)
    with open(tmp_path / "s", "rb") as stream:
        data = [x for x in pyxcsr.StreamReader(stream) if isinstance(x, PageData)]
        sent = [kind for x in data for pfn, kind, _ in x.items() if pfn == 77]
    assert sent == [PageType.XTAB, PageType.NOTAB], "it must not be sent a third time, with the guest waiting"
    judge_pages(hv, domid, tmp_path / "s")


def test_a_superpage_ends_the_save_while_the_guest_still_runs(hv: StubBackend) -> None:
    """No later pass can express it: why suspend the guest for nothing?"""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, pt_updates=0))
    guest = hv.stub.guest(domid)
    table = guest.pfns_of_type(PageType.L2TAB)[0]
    guest.corrupt_pte(table, 400, 0xE7 | guest.mfn(9) << 12)
    seen: list[str] = []
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.PageTableError) as caught:
        save(hv, domid, out, progress=lambda now: seen.append(now.phase))
    assert (caught.value.level, caught.value.index, caught.value.pfn) == (2, 400, table)
    assert "suspend" not in seen and guest.running


def test_a_frame_is_the_guests_only_if_both_tables_say_so(hv: StubBackend) -> None:
    """The m2p still names the pfn, the p2m does not name the frame any more: its page is not in the stream."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writes=0))
    guest = hv.stub.guest(domid)
    p2m = hv.map_p2m(domid, guest.nr_pfns, [guest.mfn(x) for x in guest.leaf_pfns()])
    mfn = guest.mfn(500)
    assert p2m.pfn_of(mfn) == 500
    guest.corrupt_p2m(500, (1 << 64) - 1)
    assert hv.m2p(mfn) == 500 and p2m.pfn_of(mfn) is None
    assert p2m.pfn_of(hv.nr_mfns()) is None and p2m.pfn_of((1 << 64) - 1) is None
    p2m.close()
