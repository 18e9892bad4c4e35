"""The n-th call of everything fails, for all n: of saves and restores of PV, PVH and HVM guests (scenarios.py).

    python tests/faults/build.py FOLDER && PYTHONPATH=tests python -m faults.sweep FOLDER [--places N] [--json]

Two kinds of calls: those into libxenctrl (by the stub's script) and the core's own calls into libc (by faulty.c: its
allocations and what it does with the stream). After each: an XcsrError that tells the errno, or success all the same;
nothing mapped or allocated, log-dirty mode off, the guest running, and its device model with it, which tracks nothing;
no file that looks complete unless it is, page for page; and the very next save, or restore, is right. ``--places N``
tries only N places of each function.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

from faults.build import MODULE
from faults.scenarios import FRAMES, MOST, SCENARIOS, stream_of

SHORT = -1

# What Xen, Linux's privcmd or xenstored give there. The first is the usual one; the others are tried as well.
ERRNOS: dict[str, tuple[int, ...]] = {
    "xc_interface_open": (errno.ENOENT, errno.EACCES, errno.EMFILE),
    "xenforeignmemory_open": (errno.ENOENT, errno.EACCES),
    "xs_open": (errno.ECONNREFUSED, errno.ENOENT),
    "xc_domain_getinfolist": (errno.EPERM, errno.EACCES, errno.ENOMEM),
    "xc_domain_get_guest_width": (errno.ESRCH,),
    "xc_domain_nr_gpfns": (errno.ESRCH,),
    "xc_domain_get_pod_target": (errno.EINVAL,),
    "xc_hvm_param_get": (errno.EINVAL, errno.ESRCH),
    "xc_domain_hvm_getcontext": (errno.EINVAL, errno.ENOSPC),
    "xc_domain_shutdown": (errno.ESRCH,),
    "xc_domain_populate_physmap": (errno.EFAULT,),
    "xc_hvm_param_set": (errno.EEXIST, errno.EINVAL),
    "xc_domain_hvm_setcontext": (errno.EINVAL, errno.ENODATA),
    "xc_maximum_ram_page": (errno.ENOSYS,),
    "xc_machphys_mfn_list": (errno.EFAULT,),
    "xc_memory_op": (errno.ENOSYS, errno.EFAULT),
    "xenforeignmemory_map": (errno.EINVAL, errno.ENOMEM, errno.ENOENT),
    "xenforeignmemory_unmap": (errno.EINVAL,),
    "xc_get_pfn_type_batch": (errno.EINVAL, errno.ESRCH, errno.ENOMEM),
    "xc_shadow_control": (errno.ENOMEM, errno.EINVAL, errno.EBUSY),
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
    "xc_sched_id": (errno.EFAULT,),
    "xc_sched_credit2_domain_get": (errno.ESRCH, errno.EINVAL),
    "xc_sched_credit2_domain_set": (errno.EINVAL,),
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
RETRIED = {("xc_domain_hvm_getcontext", errno.ENOSPC)}
"""It is asked again then, with more room, and may give up with another errno."""


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

        what = SCENARIOS[scenario]
        self._domid: int
        if what.restores:
            stream_of(what.guest, self._work, what.checkpointed)
            self._domid = hv.stub.create_empty(MOST, vcpus=2, kind=what.kind)
        else:
            self._domid = hv.stub.create(pyxcsr.StubGuest.parse(what.guest))
        return self._domid

    def _do(self, hv: Any, scenario: str) -> None:
        SCENARIOS[scenario].do(hv, self._domid, self._work / "stream")

    # -- what must hold

    def _judge(self, hv: Any, domid: int, point: Point, raised: Optional[BaseException]) -> None:
        if raised is not None:
            self._judge_error(point, raised)
        restores = SCENARIOS[point.scenario].restores
        leaks = {k: v for k, v in hv.stub.leaks().items() if k != "paused_domains" or not restores}
        if leaks and point.function != UNMAP:
            raise Broken(f"left behind: {leaks}")
        if restores:
            self._judge_restored(hv, domid, point, raised)
        else:
            self._judge_saved(hv, domid, point, raised)

    def _judge_error(self, point: Point, raised: BaseException) -> None:
        from pyxcsr.errors import XcsrError

        if point.error in HARMLESS or (point.function, point.error) in RETRIED:
            return
        chain = [raised]
        while chain[-1].__cause__ is not None:
            chain.append(chain[-1].__cause__)
        codes = [x.facts.get("errno") for x in chain if isinstance(x, XcsrError)]
        if point.error not in codes and point.function != "open":
            raise Broken(f"{raised!r} does not tell errno {point.error}")

    def _judge_saved(self, hv: Any, domid: int, point: Point, raised: Optional[BaseException]) -> None:
        guest, path = hv.stub.guest(domid), self._work / "stream"
        state = guest.state()
        if state.logdirty or state.paused or state.devmodel_logdirty:
            raise Broken("writes are tracked still, or the guest is paused")
        if raised is None:
            self._right(hv, domid, path)
            hv.domain_resume(domid)
            if state.devmodel_stopped:
                guest.devmodel_run(True)
        elif not state.running or state.devmodel_stopped:
            raise Broken("the guest does not run, or not with its device model")
        elif complete(path):
            raise Broken("the save failed, and its stream is complete")
        if point.function == UNMAP:
            return
        try:
            SCENARIOS[point.scenario].do(hv, domid, path)
        except Exception as error:
            raise Broken(f"the next save fails: {error!r}") from error
        self._right(hv, domid, path)

    def _right(self, hv: Any, domid: int, path: Path) -> None:
        from support.hvm_guests import judge_hvm
        from support.judge import judge

        try:
            (judge_hvm if hv.domain_info(domid).hvm else judge)(hv, domid, path, xen=False)
        except AssertionError as error:
            raise Broken(f"a wrong image: {error}") from error

    def _judge_restored(self, hv: Any, domid: int, point: Point, raised: Optional[BaseException]) -> None:
        guest, what = hv.stub.guest(domid), SCENARIOS[point.scenario]
        if guest.running or not guest.state().paused:
            raise Broken("a half-built domain runs")
        if raised is not None:
            hv.stub.destroy(domid)
            domid = hv.stub.create_empty(MOST, vcpus=2, kind=what.kind)
            try:
                what.do(hv, domid, self._work / "stream")
            except Exception as error:
                raise Broken(f"the next restore fails: {error!r}") from error
        hv.stub.guest(domid).adopt()
        hv.domain_pause(domid)


def ends(path: Path) -> bool:
    """Whether the last bytes may be an END record."""
    with open(path, "rb") as stream:
        return stream.seek(0, os.SEEK_END) > 8 and stream.seek(-8, os.SEEK_END) >= 0 and not any(stream.read())


def complete(path: Path) -> bool:
    """Whether a stream looks like one that may be restored."""
    from support.judge import looks_complete

    return ends(path) and looks_complete(path)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="the n-th of each call fails")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--places", type=int, help="so many places of each function (default: all)")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    began, libc = time.monotonic(), load(args.folder)
    wait_less()
    with tempfile.TemporaryDirectory() as work:
        sweep = Sweep(libc, Path(work), args.places)
        sweep.run(args.scenario or list(SCENARIOS))
    report(sweep, args.json, time.monotonic() - began)


def wait_less() -> None:
    """A guest that could not be asked to suspend is waited for, as it may have been asked. These answer at once."""
    from pyxcsr.suspend import xenstore

    xenstore.SECONDS_AFTER_CANCEL = 0.2


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
