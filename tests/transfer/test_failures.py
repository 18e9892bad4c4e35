"""Every call into libxenctrl fails once, at every place it is made; every way out leaves the guest whole."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from support.judge import judge, looks_complete, save_to
from support.logdirty import call_that_ends_it

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.save import save

GUEST = {"mem": "12M", "writes": 30, "vcpus": 2, "holes": 0.02}
NARROW = "pv32:mem=12M,writes=30,vcpus=2,holes=0.02"

# What a live save calls, and an errno that Xen or the kernel really gives there.
CALLS = {
    "xc_domain_getinfolist": errno.EPERM,
    "xc_domain_get_guest_width": errno.ESRCH,
    "xc_maximum_ram_page": errno.ENOSYS,
    "xc_machphys_mfn_list": errno.EFAULT,
    "xc_memory_op": errno.ENOSYS,
    "xenforeignmemory_map": errno.EINVAL,
    "xc_get_pfn_type_batch": errno.EINVAL,
    "xc_shadow_control": errno.EPERM,
    "xc_logdirty_control": errno.ENOMEM,
    "xc_version": errno.EFAULT,
    "xc_vcpu_getinfo": errno.ESRCH,
    "xc_vcpu_getcontext": errno.ENODATA,
    "xc_domctl": errno.EINVAL,
    "xc_domain_get_tsc_info": errno.EFAULT,
    "xc_cpu_policy_init": errno.ENOMEM,
    "xc_cpu_policy_get_size": errno.EFAULT,
    "xc_cpu_policy_get_domain": errno.EBADF,
    "xc_cpu_policy_serialise": errno.ENOBUFS,
    "xc__hypercall_buffer_alloc": errno.ENOMEM,
    "xc__hypercall_buffer_alloc_pages": errno.ENOMEM,
    "xs_open": errno.ECONNREFUSED,
    "xs_read": errno.EIO,
    "xs_write": errno.ENOSPC,
}


def places(total: int) -> list[int]:
    """Which of so many calls to fail: the first ones, the last ones, and some between."""
    return sorted({*range(1, min(total, 8) + 1), total // 2, total - 1, total} & set(range(1, total + 1)))


ONLY_32 = {"xc_memory_op"}
"""What is called for 32-bit guests alone; for these the rest is tried in tests/faults."""


def guest_for(function: str) -> pyxcsr.StubGuest:
    return pyxcsr.StubGuest.parse(NARROW) if function in ONLY_32 else pyxcsr.StubGuest.pv64(**GUEST)


def calls_of_a_save(hv: StubBackend, tmp_path: Path, function: str, live: bool) -> dict[str, int]:
    domid = hv.stub.create(guest_for(function))
    hv.stub.clear_calls()
    save_to(hv, domid, tmp_path / "count", live=live)
    hv.stub.destroy(domid)
    return hv.stub.calls()


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("function", CALLS)
def test_a_call_fails(function: str, live: bool, tmp_path: Path) -> None:
    """A new handle each time, so that what is opened at first use is opened anew."""
    tried = 0
    nth_list = None
    while nth_list is None or nth_list:
        with pyxcsr.open_hypervisor("stub") as hv:
            assert isinstance(hv, StubBackend)
            hv.stub.reset()
            if nth_list is None:
                total = calls_of_a_save(hv, tmp_path, function, live).get(function, 0)
                if not total:
                    assert not live or function == "xc_logdirty_control", f"a live save never calls {function}"
                nth_list = places(total)
                continue
            one_failure(hv, function, nth_list.pop(0), live, tmp_path)
            tried += 1
        assert hv.stub.leaks(handles=True) == {}
    assert tried or not live


def one_failure(hv: StubBackend, function: str, nth: int, live: bool, tmp_path: Path) -> None:
    domid = hv.stub.create(guest_for(function))
    guest = hv.stub.guest(domid)
    hv.stub.fail(function, nth, CALLS[function])
    path = tmp_path / "failed"
    failed = False
    try:
        save_to(hv, domid, path, live=live)
    except pyxcsr.XcsrError as error:
        failed = True
        errors: list[BaseException] = [error]
        while errors[-1].__cause__ is not None:
            errors.append(errors[-1].__cause__)
        codes = {x.facts.get("errno") for x in errors if isinstance(x, pyxcsr.XcsrError)}
        assert CALLS[function] in codes, f"{function} #{nth}: {error!r} does not tell its cause"
    what = f"{function} #{nth}"
    hv.stub.clear_failures()
    assert hv.stub.leaks() == {}, what
    state = guest.state()
    assert not state.logdirty and not state.paused, what
    if failed:
        assert state.running, f"{what}: the guest stays suspended"
        assert not looks_complete(path), what
        save_to(hv, domid, tmp_path / "next", live=live)  # the very next save succeeds
        judge(hv, domid, tmp_path / "next", xen=False)
    else:
        judge(hv, domid, path, xen=False)


def test_a_page_that_cannot_be_mapped_while_the_guest_runs_is_sent_later(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, pt_updates=0, fixmap=False))
    batches = 0

    def fail_the_next_map(name: str, count: int) -> None:
        nonlocal batches
        batches += name == "xc_get_pfn_type_batch"
        if name == "xc_get_pfn_type_batch" and batches == 3:  # two are of the p2m's pages
            hv.stub.fail("xenforeignmemory_map", 1, errno.EINVAL, page=77)

    with hv.stub.hook(fail_the_next_map):
        report = save_to(hv, domid, tmp_path / "s")
    assert sum(x.deferred for x in report.passes) == 1
    judge(hv, domid, tmp_path / "s", xen=False)


def test_resume_fails_once(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.fail("xc_domain_get_tsc_info", 1, errno.EFAULT)
    hv.stub.fail("xc_domain_resume", 1, errno.EBUSY)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.HypervisorError, match="tsc"):
        save(hv, domid, out)
    assert hv.stub.guest(domid).running


def test_log_dirty_cannot_be_switched_off_once(hv: StubBackend, tmp_path: Path) -> None:
    guest = pyxcsr.StubGuest.pv64(mem="8M")
    last = call_that_ends_it(hv, guest)
    domid = hv.stub.create(guest)
    hv.stub.fail("xc_shadow_control", last, errno.ENOMEM)
    assert save_to(hv, domid, tmp_path / "s").warnings == []
    assert not hv.stub.guest(domid).state().logdirty
    judge(hv, domid, tmp_path / "s", xen=False)


@pytest.mark.parametrize("phase", ["pass", "suspend"])
@pytest.mark.parametrize("kind", ["pv64", "pvh"])
def test_somebody_else_ends_log_dirty_mode(hv: StubBackend, tmp_path: Path, kind: str, phase: str) -> None:
    """Xen's bitmaps are empty then, and no call fails: the stream would lack pages."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse(f"{kind}:mem=8M"))
    with pyxcsr.open_hypervisor("stub") as other:
        ended = []

        def progress(now: pyxcsr.Progress) -> None:
            if now.phase == phase and not ended:
                ended.append(other.logdirty_off(domid))

        with pytest.raises(pyxcsr.HypervisorError, match="somebody else has ended log-dirty mode") as caught:
            save_to(hv, domid, tmp_path / "s", progress=progress)
    assert ended and caught.value.errno == errno.ENODATA
    assert hv.stub.guest(domid).running and not hv.stub.guest(domid).state().logdirty


def test_the_first_error_is_the_one_reported(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.fail("xc_get_pfn_type_batch", 1, errno.EINVAL)
    hv.stub.fail("xc_shadow_control", 2, errno.ENOMEM)
    hv.stub.fail("xc_shadow_control", 3, errno.ENOMEM)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.HypervisorError) as caught:
        save(hv, domid, out)
    assert caught.value.op == "xc_get_pfn_type_batch"
    assert hv.stub.guest(domid).running and not hv.stub.guest(domid).state().logdirty


# -- ways out that are not hypercalls


def run_to(hv: StubBackend, fd: int, **options: object) -> pyxcsr.XcsrError:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(**GUEST))
    with pytest.raises(pyxcsr.XcsrError) as caught:
        save(hv, domid, fd, **{"policy": "libxc", **options})  # type: ignore[arg-type]  # its passes are known
    state = hv.stub.guest(domid).state()
    assert state.running and not state.logdirty
    assert hv.stub.leaks() == {}
    return caught.value


def test_disk_full(hv: StubBackend) -> None:
    with open("/dev/full", "wb") as out:
        error = run_to(hv, out.fileno())
    assert isinstance(error, pyxcsr.OutputError) and error.errno == errno.ENOSPC


def test_file_size_limit_in_mid_stream(hv: StubBackend, tmp_path: Path) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, before[1]))
    try:
        with open(tmp_path / "s", "wb") as out:
            error = run_to(hv, out.fileno())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert isinstance(error, pyxcsr.OutputError) and error.errno == errno.EFBIG
    assert error.offset == 5 << 20


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_the_reader_goes_away(hv: StubBackend, kind: str) -> None:
    reader, writer = os.pipe() if kind == "pipe" else (x.detach() for x in socket.socketpair())

    def read_a_little() -> None:
        got = 0
        while got < 1 << 20:
            got += len(os.read(reader, 65536))
        os.close(reader)

    thread = threading.Thread(target=read_a_little, daemon=True)
    thread.start()
    error = run_to(hv, writer)
    thread.join()
    os.close(writer)
    assert isinstance(error, pyxcsr.OutputError) and error.errno in (errno.EPIPE, errno.ECONNRESET)


def test_no_reader_at_all(hv: StubBackend) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    error = run_to(hv, writer)
    assert isinstance(error, pyxcsr.OutputError) and error.errno == errno.EPIPE
    os.close(writer)


def test_read_only_and_closed_descriptors(hv: StubBackend, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with open(tmp_path / "f", "rb") as out:
        assert run_to(hv, out.fileno()).errno == errno.EBADF
        fd = out.fileno()
    assert run_to(hv, fd).errno == errno.EBADF


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_cancel_while_the_output_is_stalled(hv: StubBackend, kind: str) -> None:
    """Nobody reads: the save must still notice the wish to cancel, and at once."""
    reader, writer = os.pipe() if kind == "pipe" else (x.detach() for x in socket.socketpair())
    began = time.monotonic()
    error = run_to(hv, writer, cancel=lambda: time.monotonic() - began > 0.2)
    assert isinstance(error, pyxcsr.Cancelled)
    assert time.monotonic() - began < 5.0
    assert os.get_blocking(writer), "the caller's descriptor has been changed"
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("polls", [0, 1, 2, 3, 5, 7, 9])
def test_cancel_at_any_moment(hv: StubBackend, polls: int) -> None:
    asked = 0

    def cancel() -> bool:
        nonlocal asked
        asked += 1
        return asked > polls

    with open("/dev/null", "wb") as out:
        assert isinstance(run_to(hv, out.fileno(), cancel=cancel), pyxcsr.Cancelled)


class Boom(Exception):
    """A caller's callback that breaks."""


@pytest.mark.parametrize("phase", ["setup", "pass", "suspend", "final", "tail"])
def test_a_callback_raises(hv: StubBackend, phase: str) -> None:
    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == phase:
            raise Boom

    domid = hv.stub.create(pyxcsr.StubGuest.pv64(**GUEST))
    with open("/dev/null", "wb") as out, pytest.raises(Boom):
        save(hv, domid, out, progress=progress)
    assert hv.stub.guest(domid).running and not hv.stub.guest(domid).state().logdirty
    assert hv.stub.leaks() == {}


def test_keyboard_interrupt(hv: StubBackend) -> None:
    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == "final":
            raise KeyboardInterrupt

    domid = hv.stub.create(pyxcsr.StubGuest.pv64(**GUEST))
    with open("/dev/null", "wb") as out, pytest.raises(KeyboardInterrupt):
        save(hv, domid, out, progress=progress)
    assert hv.stub.guest(domid).running and not hv.stub.guest(domid).state().logdirty
    assert hv.stub.leaks() == {}


@pytest.mark.parametrize("kind", ["crash", "poweroff", "ignore", "ack-only"])
def test_a_guest_that_does_not_suspend(hv: StubBackend, kind: str) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", suspend=kind))
    suspend = pyxcsr.XenstoreSuspend(hv, domid, timeout=0.1)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.SuspendError) as caught:
        save(hv, domid, out, suspend=suspend)
    state = hv.stub.guest(domid).state()
    assert not state.logdirty
    assert hv.stub.leaks() == {}
    if kind in ("ignore", "ack-only"):
        assert isinstance(caught.value, pyxcsr.SuspendTimeout) and state.running
    else:
        assert {"crash": 3, "poweroff": 0}[kind] == caught.value.reason


def test_a_suspend_that_lies(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.SuspendError, match="has not been suspended"):
        save(hv, domid, out, suspend=lambda: None)
    assert hv.stub.guest(domid).running


def test_the_domain_is_destroyed_half_way(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)
    seen = 0

    def destroy(name: str, count: int) -> None:
        nonlocal seen
        seen += name == "xc_logdirty_control"
        if name == "xc_logdirty_control" and seen == 2:
            guest.destroy()

    with hv.stub.hook(destroy), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.XcsrError):
        save(hv, domid, out)
    assert hv.stub.leaks() == {}


def test_a_paused_domain_is_refused_before_anything_is_copied(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.domain_pause(domid)
    with pytest.raises(pyxcsr.SuspendError, match="paused"):
        save_to(hv, domid, tmp_path / "s")
    assert (tmp_path / "s").stat().st_size == 0
    hv.domain_unpause(domid)


# -- bad input


def test_no_such_domain(hv: StubBackend) -> None:
    for domid in (4711, -1, 0x7FF2, 1 << 40):
        with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.DomainNotFound) as caught:
            save(hv, domid, out)
        assert str(domid) in str(caught.value)


def test_a_domain_that_has_shut_down(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.guest(domid).shut_down(3)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.DomainDying, match="crash"):
        save(hv, domid, out)


def test_no_shadow_paging(hv: StubBackend, tmp_path: Path) -> None:
    hv.stub.reset(shadow=False)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    with (
        open("/dev/null", "wb") as out,
        pytest.raises(pyxcsr.LogDirtyUnsupported, match="--no-live") as caught,
    ):
        save(hv, domid, out)
    assert caught.value.errno == errno.EOPNOTSUPP
    assert hv.stub.guest(domid).running
    save_to(hv, domid, tmp_path / "s", live=False)
    judge(hv, domid, tmp_path / "s", xen=False)


def test_another_release(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.fail("xc_domain_getinfolist", 1, errno.EACCES)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.VersionMismatch, match="running hypervisor"):
        save(hv, domid, out)


def test_no_privcmd(hv: StubBackend) -> None:
    for function, code in (("xc_interface_open", errno.ENOENT), ("xenforeignmemory_open", errno.EACCES)):
        hv.stub.fail(function, 1, code)
        with pytest.raises(pyxcsr.PrivilegeError, match="dom0"):
            pyxcsr.open_hypervisor("stub")
        hv.stub.clear_failures()


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("guest", ["pv64:mem=4M", "pvh:mem=4M,compact=yes"])
def test_want_of_memory_is_not_the_guests_fault(hv: StubBackend, tmp_path: Path, guest: str, live: bool) -> None:
    """Whichever mapping it is that finds no memory: it is this machine's, and no frame is called wrong."""
    for nth in range(1, 100):
        domid = hv.stub.create(pyxcsr.StubGuest.parse(guest))
        hv.stub.fail("xenforeignmemory_map", nth, errno.ENOMEM)
        with open(tmp_path / "s", "wb") as out:
            try:
                pyxcsr.save(hv, domid, out, live=live)
            except pyxcsr.XcsrError as error:
                assert type(error) is pyxcsr.HypervisorError and error.errno == errno.ENOMEM, (nth, error)
            else:
                break
        hv.stub.destroy(domid)
        hv.stub.clear_failures()
    assert nth > 2, "some mapping failed"


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("kind", ["pv64:mem=4M", "pvh:mem=4M"])
@pytest.mark.parametrize("first", [1, 2])
def test_a_domain_that_is_destroyed_meanwhile(hv: StubBackend, kind: str, refused: bool, first: int) -> None:
    """Its log-dirty calls do nothing until Xen 4.17, and are refused since 4.18: the error says why, either way."""
    hv.stub.reset(dying_refused=refused)
    domid = hv.stub.create(pyxcsr.StubGuest.parse(kind))
    asked = []

    def dies(name: str, _count: int) -> None:
        asked.extend([name] * (name == "xc_logdirty_control"))
        if len(asked) == first:
            hv.stub.guest(domid).poke_domain("dying", 1)

    gone = (pyxcsr.DomainDying, pyxcsr.DomainNotFound)
    with hv.stub.hook(dies), open("/dev/null", "wb") as out, pytest.raises(gone, match="destroyed") as caught:
        pyxcsr.save(hv, domid, out)
    assert "besides" not in str([caught.value, *getattr(caught.value, "__notes__", [])])
