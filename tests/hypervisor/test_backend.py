"""The handle itself: who may use it, what it releases, what the module is."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import pyxcsr._stub
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.errors import notes_on
from pyxcsr.hypervisor import faults
from pyxcsr.hypervisor.interface import results
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.save import save

F_GETPIPE_SZ = 1032  # fcntl has it since Python 3.10


def test_another_process_is_refused(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    pid = os.fork()
    if pid == 0:  # the child must leave by _exit, whatever happens
        status = 1
        try:
            hv.domain_info(domid)
        except pyxcsr.UsageError as error:
            status = 0 if "another process" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert hv.domain_info(domid).domid == domid


def test_another_thread_at_the_same_time_is_refused(hv: StubBackend) -> None:
    """A save stalls in one thread; another one tries the same handle."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    reader, writer = os.pipe()
    stop, seen, refused = threading.Event(), [], []

    def other() -> None:
        while select.select([], [writer], [], 0)[1]:
            time.sleep(0.01)
        time.sleep(0.1)  # from here on the save is nearly always within one call, which waits for the pipe
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                hv.domain_info(domid)
            except pyxcsr.UsageError as error:
                refused.append(str(error))
                break
            except BaseException as error:
                seen.append(error)
        stop.set()

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(pyxcsr.XcsrError):
        save(hv, domid, writer, cancel=stop.is_set)
    thread.join()
    os.close(reader)
    os.close(writer)
    assert refused and "another thread" in refused[0], seen


def test_a_closed_handle_says_so() -> None:
    hv = pyxcsr.open_hypervisor("stub")
    hv.close()
    hv.close()
    with pytest.raises(pyxcsr.UsageError, match="closed"):
        hv.domains()


def test_closing_releases_what_is_open() -> None:
    hv = pyxcsr.open_hypervisor("stub")
    assert isinstance(hv, StubBackend)
    hv.stub.reset()
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    guest = hv.stub.guest(domid)
    leaves = [guest.mfn(x) for x in guest.leaf_pfns()]
    p2m = hv.map_p2m(domid, guest.nr_pfns, leaves)
    frames = hv.map_frames(domid, leaves[:1])
    saving = hv.new_save(domid, guest.nr_pfns, p2m)
    saving.logdirty_enable()
    assert hv.stub.leaks() != {}
    hv.close()
    assert hv.stub.leaks(handles=True) == {}
    for use in (frames.copy, saving.merge_deferred, p2m.leaf_pfns):
        with pytest.raises(pyxcsr.UsageError):
            use()


def test_loads_are_bounded(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    with hv.map_frames(domid, [hv.stub.guest(domid).mfn(9)]) as frames:
        assert frames.load(4088, 8) == int.from_bytes(frames.copy()[4088:], "little")
        for offset in (-8, 4096, 4089):
            with pytest.raises(pyxcsr.UsageError):
                frames.load(offset, 8)


def test_handles_do_not_mix(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    guest = hv.stub.guest(domid)
    p2m = hv.map_p2m(domid, guest.nr_pfns, [guest.mfn(x) for x in guest.leaf_pfns()])
    with pyxcsr.open_hypervisor("stub") as other, pytest.raises(pyxcsr.UsageError, match="another hypervisor handle"):
        other.new_save(domid, guest.nr_pfns, p2m)
    p2m.close()


def test_kinds_and_codes_are_those_of_the_header() -> None:
    lib = pyxcsr._stub.lib
    assert (faults.E_OUTPUT, faults.E_PTE) == (lib.XCSR_E_OUTPUT, lib.XCSR_E_PTE)
    assert (faults.E_PAGE, faults.E_P2M) == (lib.XCSR_E_PAGE, lib.XCSR_E_P2M)
    assert faults.E_CONTEXT == lib.XCSR_E_CONTEXT
    assert (faults.E_INPUT, faults.E_STREAM, faults.E_STATE) == (lib.XCSR_E_INPUT, lib.XCSR_E_STREAM, lib.XCSR_E_STATE)
    assert (faults.OTHER_PROCESS, faults.OTHER_THREAD) == (lib.XCSR_OTHER_PROCESS, lib.XCSR_OTHER_THREAD)
    reached = (lib.XCSR_END_NOTHING, lib.XCSR_END_FETCHED, lib.XCSR_END_SENT, lib.XCSR_END_COMPLETE)
    assert reached == (results.NOTHING, results.FETCHED, results.SENT, results.COMPLETE)


@pytest.mark.parametrize(
    "name", ["xcsr_error", "xcsr_domain", "xcsr_tsc", "xcsr_batch_result", "stub_guest_config", "stub_domain_state"]
)
def test_every_struct_of_the_cdef_is_the_compilers(name: str) -> None:
    """cffi compares a struct with the compiler's view when it is first used: here at the latest."""
    ffi = pyxcsr._stub.ffi
    assert ffi.sizeof(name) > 0 and ffi.typeof(name).fields


def test_modules_are_what_they_are_called() -> None:
    """Objects of one variant must not have been linked into the other."""
    assert hasattr(pyxcsr._stub.lib, "stub_reset")
    try:
        import pyxcsr._xen as xen
    except ImportError:
        pytest.skip("pyxcsr._xen was not built here, or its libraries are missing (libxen-dev)")
    assert not hasattr(xen.lib, "stub_reset")
    text = Path(str(xen.__file__)).read_bytes()
    assert b"libxenctrl.so" in text and b"stub_reset" not in text
    assert b"libxenctrl.so" not in Path(str(pyxcsr._stub.__file__)).read_bytes()


def test_xen_where_there_is_none() -> None:
    pytest.importorskip("pyxcsr._xen", reason="pyxcsr._xen was not built here (libxen-dev)", exc_type=ImportError)
    if Path("/dev/xen/privcmd").exists():
        pytest.skip("this is a Xen host")
    with pytest.raises(pyxcsr.PrivilegeError) as caught:
        pyxcsr.open_hypervisor("xen")
    assert "dom0" in str(caught.value) and caught.value.errno in (errno.ENOENT, errno.EACCES)


def test_there_is_no_other_backend() -> None:
    with pytest.raises(pyxcsr.UsageError, match="xen and stub"):
        pyxcsr.open_hypervisor("auto")


def test_a_backend_that_was_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from pyxcsr.hypervisor import open as opening

    monkeypatch.setitem(sys.modules, "pyxcsr._xen", None)  # as if it were not there: ModuleNotFoundError
    monkeypatch.setitem(sys.modules, "pyxcsr._loader", None)
    monkeypatch.setattr(opening, "is_source_tree", lambda package: False)
    with pytest.raises(pyxcsr.BackendUnavailable, match=r"libxen-dev.*--backend stub"):
        pyxcsr.open_hypervisor("xen")


def test_which_module_is_xen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is linked, if it was built; the loader, if not, or if a libxenctrl is named."""
    from pyxcsr.hypervisor import loading
    from pyxcsr.hypervisor import open as opening

    built = {"xen", "loader"}
    loaded: list[object] = []
    monkeypatch.setattr(opening, "_built", lambda name: name if name in built else None)
    monkeypatch.setattr(loading, "load", loaded.append)
    monkeypatch.delenv(loading.NAMED, raising=False)
    assert opening._linked() == "xen" and loaded == []
    monkeypatch.setenv(loading.NAMED, "/somewhere/libxenctrl.so")
    assert opening._linked() == "loader" and loaded == ["loader"]
    monkeypatch.delenv(loading.NAMED)
    built.remove("xen")
    assert opening._linked() == "loader"
    built.clear()
    with pytest.raises(pyxcsr.BackendUnavailable, match=r"without the xen backend|has not been built"):
        opening._linked()
    built.add("xen")
    monkeypatch.setenv(loading.NAMED, "/somewhere/libxenctrl.so")
    with pytest.raises(pyxcsr.BackendUnavailable, match="PYXCSR_LIBXENCTRL is for the loader"):
        opening._linked()


def test_a_module_for_another_xen_beside_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader is used; if it cannot be either, the error tells of both; without it the error is the module's."""
    from pyxcsr.hypervisor import loading
    from pyxcsr.hypervisor import open as opening

    built = {"loader"}
    loads: list[object] = []

    def module(name: str) -> object:
        if name == "xen":
            cause = ImportError("libxenctrl.so.4.17: cannot open")
            raise pyxcsr.BackendUnavailable(f"the xen backend cannot be loaded: {cause}", backend="xen") from cause
        return name if name in built else None

    monkeypatch.setattr(opening, "_built", module)
    monkeypatch.setattr(loading, "load", loads.append)
    monkeypatch.delenv(loading.NAMED, raising=False)
    assert opening._linked() == "loader" and loads == ["loader"]
    assert opening.passed_over() == "libxenctrl.so.4.17: cannot open"

    def refuse(module: object) -> None:
        raise pyxcsr.VersionMismatch("of another release", op="xcsr_load", errno=errno.EACCES)

    monkeypatch.setattr(loading, "load", refuse)
    with pytest.raises(pyxcsr.VersionMismatch) as caught:
        opening._linked()
    assert any("either: libxenctrl.so.4.17" in x for x in notes_on(caught.value))
    built.clear()
    with pytest.raises(pyxcsr.BackendUnavailable, match=r"cannot be loaded: libxenctrl\.so\.4\.17"):
        opening._linked()
    assert opening.passed_over() == ""


ALIASES = ("BackendName", "P2mChanges", "Phase", "Policy")  # of types: Python keeps no docstring of theirs


def test_the_public_names_exist() -> None:
    assert set(pyxcsr.__all__) == {"__version__", *pyxcsr._WHERE}
    for name in pyxcsr.__all__:
        assert getattr(pyxcsr, name).__doc__ or name == "__version__" or name in ALIASES
    with pytest.raises(AttributeError):
        pyxcsr.nothing_of_the_kind  # noqa: B018


def test_no_zero_copy_out_of_foreign_memory() -> None:
    """privcmd's mappings refuse get_user_pages (EFAULT); over the stub's memfd these would look workable."""
    text = Path(str(pyxcsr._stub.__file__)).read_bytes()
    for name in (b"vmsplice", b"process_vm_readv", b"io_uring_"):
        assert name not in text
    source = Path(__file__).parents[2] / "csrc"
    if source.exists():
        core = b"".join(x.read_bytes() for x in source.glob("*.c"))
        assert b"O_DIRECT" not in core and b"MSG_ZEROCOPY" not in core


def test_no_module_shadows_a_public_name() -> None:
    """Importing a submodule sets the package's attribute of that name: a function must not be called like one."""
    import importlib
    import pkgutil

    for module in pkgutil.iter_modules(pyxcsr.__path__):
        assert module.name not in pyxcsr.__all__, f"pyxcsr.{module.name} would hide the function"
    importlib.import_module("pyxcsr.transfer.saver")
    assert callable(pyxcsr.save)


def test_an_input_or_output_that_cannot_be_one(hv: StubBackend, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer, folder = os.open(tmp_path / "fifo", os.O_WRONLY), os.open(tmp_path, os.O_RDONLY)
    try:
        for fd, words in ((writer, "writing only"), (folder, "is a directory"), (99999, "not open")):
            with pytest.raises(pyxcsr.InputError, match=words) as caught:
                hv.open_source(fd)
            assert caught.value.offset == 0
        for fd, words in ((reader, "reading only"), (99999, "not open")):
            with pytest.raises(pyxcsr.OutputError, match=words):
                hv.open_sink(fd)
        os.close(reader)
        with pytest.raises(pyxcsr.OutputError, match="nobody reads") as lost:
            hv.open_sink(writer)
        assert lost.value.errno == errno.EPIPE
    finally:
        os.close(writer)
        os.close(folder)


def test_how_long_an_output_is_waited_for(hv: StubBackend) -> None:
    """Not what it takes at once; and not the time between two attempts."""
    reader, writer = os.pipe()
    sink = hv.open_sink(writer)
    sink.write(bytes(4096), lambda: None)
    assert sink.seconds_waited < 0.05, "there was room"

    def drain() -> None:
        time.sleep(0.3)
        while os.read(reader, 1 << 20):
            pass

    thread = threading.Thread(target=drain)
    thread.start()
    sink.write(bytes(4 << 20), lambda: time.sleep(0.02))
    waited = sink.seconds_waited
    sink.close()
    os.close(writer)
    thread.join()
    os.close(reader)
    assert 0.1 < waited < 5


def test_what_an_output_holds(hv: StubBackend, tmp_path: Path) -> None:
    """A pipe takes just as much without a reader; a socket about half of what the kernel says; of a file nobody knows.
    """
    reader, writer = os.pipe()
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "f", "wb") as file:
        sink = hv.open_sink(writer)
        room = sink.room
        assert room is not None and room == fcntl.fcntl(writer, F_GETPIPE_SZ)
        sink.write(bytes(room), lambda: pytest.fail("it has to wait"))
        sink.close()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        assert hv.open_sink(ours.fileno()).room == ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2 >= 65536
        assert hv.open_sink(file.fileno()).room is None
        assert ours.getblocking()
    os.close(writer)
    os.close(reader)


def msr_policy(*numbers: int) -> bytes:
    return b"".join(x.to_bytes(4, "little") + bytes(12) for x in numbers)


def leaf_policy(leaf: int, subleaf: int) -> bytes:
    return leaf.to_bytes(4, "little") + subleaf.to_bytes(4, "little") + bytes(16)


@pytest.mark.parametrize(
    ("leaves", "msrs", "said"),
    [
        (b"", msr_policy(0x123), ": it refuses MSR 0x123: "),
        (leaf_policy(0x5000_0000, 7), b"", ": it refuses CPUID leaf 0x50000000, subleaf 0x7: "),
        (leaf_policy(0x5000_0000, 0xFFFF_FFFF), b"", ": it refuses CPUID leaf 0x50000000: "),
    ],
)
def test_what_of_a_cpu_policy_is_refused(hv: StubBackend, leaves: bytes, msrs: bytes, said: str) -> None:
    """Xen fills what it does not name with ones, which say nothing to a reader."""
    domid = hv.stub.create_empty("4M")
    with pytest.raises(pyxcsr.HypervisorError) as caught:
        hv.set_cpu_policy(domid, leaves, msrs)
    assert f"its CPU policy{said}" in str(caught.value) and "0xffffffff" not in str(caught.value)


def test_a_cpu_policy_refused_as_a_whole(hv: StubBackend) -> None:
    domid = hv.stub.create_empty("4M")
    hv.stub.fail("xc_set_domain_cpu_policy", errno=errno.EINVAL)
    with pytest.raises(pyxcsr.HypervisorError, match="its CPU policy: xc_set_domain_cpu_policy failed") as caught:
        hv.set_cpu_policy(domid, b"", b"")
    assert "0x" not in str(caught.value)


LIMITED = """
import resource, sys
limit, value = sys.argv[1:]
resource.setrlimit(getattr(resource, limit), (int(value),) * 2)
import pyxcsr, pyxcsr._stub
try:
    pyxcsr.open_hypervisor("stub").close()
except pyxcsr.HypervisorError as error:
    print(type(error).__name__, error.errno, error)
"""


def test_a_limit_on_files_is_no_matter_of_privilege(tmp_path: Path) -> None:
    words = [sys.executable, "-c", LIMITED, "RLIMIT_FSIZE", "1048576"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"HypervisorError {errno.EFBIG} ") and "ulimit -f" in said and "root" not in said


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM, errno.ENOENT])
def test_what_keeps_a_hypervisor_from_being_opened(hv: StubBackend, number: int) -> None:
    hv.stub.fail("xc_interface_open", errno=number)
    with pytest.raises(pyxcsr.HypervisorError) as caught:
        pyxcsr.open_hypervisor("stub")
    privilege = number in (errno.EPERM, errno.ENOENT)
    assert isinstance(caught.value, pyxcsr.PrivilegeError) == privilege == ("must run as root" in str(caught.value))


def test_a_state_that_xen_refuses_is_no_matter_of_privilege(hv: StubBackend, tmp_path: Path) -> None:
    """Releases before 4.16 say EPERM where later ones say what is wrong."""
    with open(tmp_path / "s", "w+b") as stream:
        save(hv, hv.stub.create(pyxcsr.StubGuest.parse("pvh:mem=4M,writes=0")), stream, live=False)
        stream.seek(0)
        new = hv.stub.create_empty("4M", kind="pvh")
        hv.stub.fail("xc_domain_hvm_setcontext", errno=errno.EPERM)
        with pytest.raises(pyxcsr.HypervisorError, match="HVM context") as caught:
            pyxcsr.restore(hv, new, stream)
    assert type(caught.value) is pyxcsr.HypervisorError and "root" not in str(caught.value)


@pytest.mark.parametrize("width", [4, 8])
def test_words_are_compared_with_what_they_are_now(hv: StubBackend, width: int) -> None:
    guest = hv.stub.guest(domid := hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="none")))
    pfn = ordinary_pages(guest)[0]
    with hv.map_frames(domid, [guest.mfn(pfn)]) as frames:
        values = [frames.load(at, width) for at in (0, 16, 4096 - width)]
        as_they_are = frames.comparing([(at, width, x) for at, x in zip((0, 16, 4096 - width), values)])
        assert as_they_are() and as_they_are() and frames.comparing([])()
        for at in (0, 16, 4096 - width):
            page = bytearray(guest.read_page(pfn))
            page[at + width - 1] ^= 0x80
            guest.write_page(pfn, bytes(page))
            assert not as_they_are()
            page[at + width - 1] ^= 0x80
            guest.write_page(pfn, bytes(page))
            assert as_they_are()
        for at in (1, 4096, 4096 - width + 1, -width):
            with pytest.raises(pyxcsr.UsageError, match="is not one of a word"):
                frames.comparing([(at, width, 0)])
    with pytest.raises(pyxcsr.UsageError, match="not mapped any more"):
        as_they_are()


@pytest.mark.parametrize("seed", range(12))
def test_how_many_frames_are_different(hv: StubBackend, seed: int) -> None:
    chance = random.Random(seed)
    some = [chance.randrange(1 << chance.choice([3, 20, 64])) for _ in range(chance.choice([0, 1, 2, 500]))]
    for frames in (some, sorted(some), sorted(set(some)), sorted(set(some), reverse=True), some * 3):
        assert hv.nr_distinct(frames) == len(set(frames))
    assert hv.nr_distinct(range(100)) == 100


def test_left_open_when_python_ends() -> None:
    """Then there is nothing to say, and nothing can be imported any more; before, it is told."""
    program = "import pyxcsr; hv = pyxcsr.open_hypervisor('stub')"
    for rest, expected in (("", ""), ("; hv = None", "ResourceWarning: a hypervisor was left open")):
        words = [sys.executable, "-W", "always", "-c", program + rest]
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stderr
        assert (expected in said) if expected else said == ""
