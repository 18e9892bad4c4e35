"""The n-th call of everything fails, for all n: of a live save, one of a guest that changes its p2m, a non-live one,
ones into a pipe and a socket, ones that map ahead, a restore.

    python tests/faults/build.py FOLDER && PYTHONPATH=tests python -m faults.sweep FOLDER [--places N] [--json]

Two kinds of calls: those into libxenctrl (by the stub's script) and the core's own calls into libc (by faulty.c: its
allocations and what it does with the stream). After each: an XcsrError that tells the errno, or success all the same;
nothing mapped or allocated, log-dirty mode off, the guest running; no file that looks complete unless it is, page for
page; and the very next save, or restore, is right. ``--places N`` tries only N places of each function.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import importlib.util
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

from support.ordinary import ordinary_pages

from faults.build import MODULE

GUEST = "pv64:mem=5M,max_mem=24M,writes=12,vcpus=2,holes=0.02,seed=3"
FRAMES = 1 << 14
SHORT = -1

# What Xen, Linux's privcmd or xenstored give there. The first is the usual one; the others are tried as well.
ERRNOS: dict[str, tuple[int, ...]] = {
    "xc_interface_open": (errno.ENOENT, errno.EACCES, errno.EMFILE),
    "xenforeignmemory_open": (errno.ENOENT, errno.EACCES),
    "xs_open": (errno.ECONNREFUSED, errno.ENOENT),
    "xc_domain_getinfolist": (errno.EPERM, errno.EACCES, errno.ENOMEM),
    "xc_domain_get_guest_width": (errno.ESRCH,),
    "xc_domain_nr_gpfns": (errno.ESRCH,),
    "xc_maximum_ram_page": (errno.ENOSYS,),
    "xc_machphys_mfn_list": (errno.EFAULT,),
    "xenforeignmemory_map": (errno.EINVAL, errno.ENOMEM, errno.ENOENT),
    "xenforeignmemory_unmap": (errno.EINVAL,),
    "xc_get_pfn_type_batch": (errno.EINVAL, errno.ESRCH, errno.ENOMEM),
    "xc_shadow_control": (errno.EBUSY, errno.EINVAL, errno.ENOMEM),
    "xc_logdirty_control": (errno.ENOMEM, errno.EBUSY, errno.EINVAL),
    "xc_version": (errno.EFAULT,),
    "xc_vcpu_getinfo": (errno.ESRCH,),
    "xc_vcpu_getcontext": (errno.ENODATA, errno.ESRCH),
    "xc_domctl": (errno.EINVAL, errno.ENOBUFS, errno.EFAULT),
    "xc_domain_get_tsc_info": (errno.EFAULT,),
    "xc_domain_resume": (errno.EBUSY,),
    "xc_cpu_policy_init": (errno.ENOMEM,),
    "xc_cpu_policy_get_size": (errno.EFAULT,),
    "xc_cpu_policy_get_domain": (errno.EBADF, errno.ESRCH),
    "xc_cpu_policy_serialise": (errno.ENOBUFS,),
    "xc__hypercall_buffer_alloc": (errno.ENOMEM,),
    "xc__hypercall_buffer_alloc_pages": (errno.ENOMEM,),
    "xs_read": (errno.EIO, errno.ENOENT),
    "xs_write": (errno.ENOSPC, errno.EACCES),
    "xs_transaction_start": (errno.ENOSPC,),
    "xs_transaction_end": (errno.EIO, errno.EAGAIN),
    "xs_resume_domain": (errno.EIO,),
    "xc_domain_populate_physmap_exact": (errno.EBUSY,),
    "xc_domain_decrease_reservation_exact": (errno.EBUSY,),
    "xc_mmuext_op": (errno.EINVAL, errno.EBUSY),
    "xc_vcpu_setcontext": (errno.EINVAL,),
    "xc_domain_set_tsc_info": (errno.EINVAL,),
    "xc_set_domain_cpu_policy": (errno.ERANGE, errno.EINVAL),
    "xc_dom_gnttab_seed": (errno.EINVAL,),
    "malloc": (errno.ENOMEM,),
    "calloc": (errno.ENOMEM,),
    "realloc": (errno.ENOMEM,),
    "mmap": (errno.ENOMEM,),
    "write": (errno.ENOSPC, errno.EIO, errno.EINTR, SHORT),
    "writev": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR, errno.EAGAIN, SHORT),
    "sendmsg": (errno.EPIPE, errno.ECONNRESET, errno.EINTR, errno.EAGAIN, SHORT),
    "readv": (errno.EIO, errno.EINTR, errno.EAGAIN, SHORT),
    "poll": (errno.ENOMEM, errno.EINTR),
    "fcntl": (errno.EBADF,),
    "fstat": (errno.EIO,),
    "open": (errno.EMFILE, errno.EACCES),
    "pthread_create": (errno.EAGAIN,),
}
HARMLESS = (errno.EINTR, errno.EAGAIN, SHORT)
UNMAP = "xenforeignmemory_unmap"


class Point(NamedTuple):
    """One place: a scenario, a function, its n-th call, and what it fails with."""

    scenario: str
    function: str
    nth: int
    error: int


class Broken(Exception):
    """Something that must hold after a failure does not."""


def load(folder: Path) -> Any:
    """Makes build.py's module pyxcsr's stub; gives its control functions."""
    spec = importlib.util.spec_from_file_location("pyxcsr._stub", folder / MODULE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyxcsr._stub"] = module
    spec.loader.exec_module(module)
    return ctypes.CDLL(str(folder / MODULE))


class Sweep:
    """All points of all scenarios. ``libc``: the control functions of faulty.c."""

    def __init__(self, libc: Any, work: Path, places: Optional[int] = None) -> None:
        from faults.build import redirected

        self._libc, self._work, self._places = libc, work, places
        self._own = redirected()
        self.tried: dict[tuple[str, str], list[int]] = {}  # (scenario, function) -> [points, of them that failed]
        self.broken: list[str] = []

    # -- the points

    def run(self, scenarios: list[str]) -> None:
        """Tries every point."""
        for scenario in scenarios:
            for point in list(self._points(scenario)):
                counts = self.tried.setdefault((scenario, point.function), [0, 0])
                counts[0] += 1
                try:
                    counts[1] += self._try(point)
                except Broken as error:
                    self.broken.append(f"{point}: {error}")

    def _points(self, scenario: str) -> Iterator[Point]:
        with self._machine() as hv:
            self._prepare(hv, scenario)
            hv.stub.clear_calls()
            self._set(None)
            self._do(hv, scenario)
            counts = {**hv.stub.calls(), **{x: self._libc.fault_calls(x.encode()) for x in self._own}}
        for function, total in counts.items():
            for at, error in enumerate(ERRNOS.get(function, ())):
                for nth in self._nths(total, at):
                    yield Point(scenario, function, nth, error)

    def _nths(self, total: int, at: int) -> list[int]:
        """All, or some; of a further errno fewer."""
        if self._places is None:
            return list(range(1, total + 1))
        between = {total * i // self._places for i in range(1, self._places)}
        wanted = {total // 2 + 1} if at else {1, total, *between}
        return sorted(x for x in wanted if 0 < x <= total)

    # -- one of them

    def _try(self, point: Point) -> bool:
        """Whether it failed; raises Broken."""
        with self._machine() as hv:
            subject = self._prepare(hv, point.scenario)
            self._set(point, hv)
            raised = self._attempt(hv, point)
            self._set(None)
            hv.stub.clear_failures()
            self._judge(hv, subject, point, raised)
        if hv.stub.leaks(handles=True) and point.function != UNMAP:
            raise Broken(f"left behind after closing: {hv.stub.leaks(handles=True)}")
        hv.stub.reset(force=True, frames=FRAMES)
        return raised is not None

    def _attempt(self, hv: Any, point: Point) -> Optional[BaseException]:
        from pyxcsr.errors import XcsrError

        try:
            self._do(hv, point.scenario)
        except XcsrError as error:
            return error
        except Exception as error:
            raise Broken(f"an error of the wrong kind: {error!r}") from error
        return None

    @contextmanager
    def _machine(self) -> Iterator[Any]:
        import pyxcsr

        with pyxcsr.open_hypervisor("stub") as hv:
            hv.stub.reset(frames=FRAMES, force=True)
            yield hv
            for domid in list(hv.stub.domains):
                hv.stub.destroy(domid)

    def _set(self, point: Optional[Point], hv: Any = None) -> None:
        for name in self._own:
            self._libc.fault_set(name.encode(), 0, 0)
        if point is None:
            return
        if point.function in self._own:
            self._libc.fault_set(point.function.encode(), point.nth, point.error)
        else:
            hv.stub.fail(point.function, nth=point.nth, errno=point.error)

    # -- what is done

    def _prepare(self, hv: Any, scenario: str) -> int:
        import pyxcsr

        self._domid: int
        if scenario == "restore":
            self._domid = hv.stub.create_empty("24M", vcpus=2)
        else:
            self._domid = hv.stub.create(pyxcsr.StubGuest.parse(GUEST))
        return self._domid

    def _do(self, hv: Any, scenario: str) -> None:
        DOING[scenario](hv, self._domid, self._work / "stream")

    # -- what must hold

    def _judge(self, hv: Any, domid: int, point: Point, raised: Optional[BaseException]) -> None:
        if raised is not None:
            self._judge_error(point, raised)
        leaks = {k: v for k, v in hv.stub.leaks().items() if k != "paused_domains" or point.scenario != "restore"}
        if leaks and point.function != UNMAP:
            raise Broken(f"left behind: {leaks}")
        if point.scenario == "restore":
            self._judge_restored(hv, domid, raised)
        else:
            self._judge_saved(hv, domid, point, raised)

    def _judge_error(self, point: Point, raised: BaseException) -> None:
        from pyxcsr.errors import XcsrError

        if point.error in HARMLESS:
            return
        chain = [raised]
        while chain[-1].__cause__ is not None:
            chain.append(chain[-1].__cause__)
        codes = [x.facts.get("errno") for x in chain if isinstance(x, XcsrError)]
        if point.error not in codes and point.function != "open":
            raise Broken(f"{raised!r} does not tell errno {point.error}")

    def _judge_saved(self, hv: Any, domid: int, point: Point, raised: Optional[BaseException]) -> None:
        from support.judge import judge

        state, path = hv.stub.guest(domid).state(), self._work / "stream"
        if state.logdirty or state.paused:
            raise Broken("log-dirty mode is on, or the guest is paused")
        if raised is None:
            self._right(judge, hv, domid, path)
            hv.domain_resume(domid)
        elif not state.running:
            raise Broken("the guest does not run")
        elif complete(path):
            raise Broken("the save failed, and its stream is complete")
        if point.function == UNMAP:
            return
        try:
            DOING[point.scenario](hv, domid, path)
        except Exception as error:
            raise Broken(f"the next save fails: {error!r}") from error
        self._right(judge, hv, domid, path)

    def _right(self, judge: Callable[..., None], hv: Any, domid: int, path: Path) -> None:
        try:
            judge(hv, domid, path, xen=False)
        except AssertionError as error:
            raise Broken(f"a wrong image: {error}") from error

    def _judge_restored(self, hv: Any, domid: int, raised: Optional[BaseException]) -> None:
        guest = hv.stub.guest(domid)
        if guest.running or not guest.state().paused:
            raise Broken("a half-built domain runs")
        if raised is not None:
            hv.stub.destroy(domid)
            domid = hv.stub.create_empty("24M", vcpus=2)
            try:
                restore_file(hv, domid, self._work / "stream")
            except Exception as error:
                raise Broken(f"the next restore fails: {error!r}") from error
        hv.stub.guest(domid).adopt()
        hv.domain_pause(domid)


def complete(path: Path) -> bool:
    """Whether a stream looks like one that may be restored."""
    from pyxcsr.errors import StreamError
    from pyxcsr.stream.reader import StreamReader
    from pyxcsr.stream.rules.verify import verify

    with open(path, "rb") as stream:
        try:
            return verify(StreamReader(stream)).ok
        except StreamError:
            return False


# -- scenarios


def save_file(hv: Any, domid: int, path: Path, **options: Any) -> None:
    """Into a file."""
    import pyxcsr

    with open(path, "wb") as out:
        pyxcsr.save(hv, domid, out, **options)


def save_changing(hv: Any, domid: int, path: Path) -> None:
    """Of a guest whose p2m changes meanwhile: pages of it, its place and size, and what is in it."""
    guest, seen = hv.stub.guest(domid), {"xc_logdirty_control": 0, "xc_get_pfn_type_batch": 0}
    places = (0xFFFFC91000000000, 0xFFFFC92000000000)
    grown = guest.nr_pfns + 300
    elsewhere = places[guest.shared_info("p2m_vaddr") == places[0]]
    actions: dict[tuple[str, int], Callable[[], object]] = {
        ("xc_get_pfn_type_batch", 2): lambda: guest.balloon_out(ordinary_pages(guest)[-1]),
        ("xc_logdirty_control", 1): lambda: guest.replace_leaf(1),
        ("xc_logdirty_control", 2): lambda: guest.move_p2m(elsewhere, True),
        ("xc_logdirty_control", 3): lambda: guest.resize_p2m(grown) or guest.balloon_in(grown - 9),
    }

    def hook(name: str, count: int) -> None:
        if name in seen and guest.running:
            seen[name] += 1
            actions.get((name, seen[name]), lambda: None)()

    with hv.stub.hook(hook):
        save_file(hv, domid, path)


def save_through(make: Callable[[], tuple[int, int]]) -> Callable[[Any, int, Path], None]:
    """Into a pipe or socket with a reader that puts it into a file."""

    def save(hv: Any, domid: int, path: Path) -> None:
        import pyxcsr

        reader, writer = make()
        thread = threading.Thread(target=drain, args=(reader, path))
        thread.start()
        try:
            pyxcsr.save(hv, domid, writer)
        finally:
            os.close(writer)
            thread.join()

    return save


def drain(reader: int, path: Path) -> None:
    """All of it into the file."""
    with open(reader, "rb") as source, open(path, "wb") as out:
        while piece := source.read(1 << 20):
            out.write(piece)


def socket_pair() -> tuple[int, int]:
    """Two descriptors."""
    one, two = socket.socketpair()
    return one.detach(), two.detach()


def restore_file(hv: Any, domid: int, path: Path) -> None:
    """From a pipe, so that the input is waited for. The stream is made once."""
    import pyxcsr

    good = path.with_name("good")
    if not good.exists():
        make_stream(good)
    reader, writer = os.pipe()
    thread = threading.Thread(target=feed, args=(writer, good.read_bytes()))
    thread.start()
    try:
        pyxcsr.restore(hv, domid, reader)
    finally:
        os.close(reader)
        thread.join()


def feed(writer: int, data: bytes) -> None:
    """As much of it as is wanted."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(writer, view) :]
    except BrokenPipeError:
        pass  # the restore has failed, as it was to
    finally:
        os.close(writer)


def make_stream(path: Path) -> None:
    """In a machine of another process: the stub has one machine a process."""
    pid = os.fork()
    if pid == 0:
        import pyxcsr

        with pyxcsr.open_hypervisor("stub") as hv:
            hv.stub.reset(frames=FRAMES, force=True)
            save_file(hv, hv.stub.create(pyxcsr.StubGuest.parse(GUEST)), path)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("no stream to restore could be made")


DOING: dict[str, Callable[[Any, int, Path], None]] = {
    "live": save_file,
    "follow": save_changing,
    "non-live": lambda hv, domid, path: save_file(hv, domid, path, live=False),
    "verify": lambda hv, domid, path: save_file(hv, domid, path, verify=True),
    "pipe": save_through(os.pipe),
    "socket": save_through(socket_pair),
    "ahead": lambda hv, domid, path: save_file(hv, domid, path, map_ahead=True),
    "ahead, non-live": lambda hv, domid, path: save_file(hv, domid, path, live=False, map_ahead=True),
    "restore": restore_file,
}


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="the n-th of each call fails")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--places", type=int, help="so many places of each function (default: all)")
    parser.add_argument("--scenario", action="append", choices=list(DOING))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    began, libc = time.monotonic(), load(args.folder)
    with tempfile.TemporaryDirectory() as work:
        make_stream(Path(work, "good"))
        sweep = Sweep(libc, Path(work), args.places)
        sweep.run(args.scenario or list(DOING))
    report(sweep, args.json, time.monotonic() - began)


def report(sweep: Sweep, as_json: bool, seconds: float) -> None:
    """To standard output."""
    sums: dict[str, list[int]] = {}
    for (scenario, function), (tried, failed) in sweep.tried.items():
        kind = "libc" if function in sweep._own else "libxenctrl"
        one = sums.setdefault(f"{scenario}, {kind}", [0, 0, 0])
        sums[f"{scenario}, {kind}"] = [one[0] + 1, one[1] + tried, one[2] + failed]
    if as_json:
        json.dump({"sums": sums, "broken": sweep.broken, "seconds": seconds}, sys.stdout)
        return
    for name, (functions, tried, failed) in sums.items():
        print(f"{name:24} {functions:3} functions {tried:6} points {failed:6} failed")
    print(f"{sum(x[1] for x in sums.values())} points, {len(sweep.broken)} broken, {seconds:.0f} s")
    for text in sweep.broken:
        print("BROKEN", text)


if __name__ == "__main__":
    main()
