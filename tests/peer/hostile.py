"""The hostile guests and tampered streams of our own tests, through both savers and restorers: what comes of each.

    python tests/peer/build.py FOLDER && PYTHONPATH=tests python -m peer.hostile FOLDER [--json] [NAME...]

prints a table. Every case runs in a child process of its own, forked from this one, with limits on time, memory and the
stream's size; libxenguest may crash or hang in it. The classes:

crash     the process died of a signal (an assertion, a segmentation fault)
hang      it did not end within the time limit
silent    it reported success, but the image is not the guest's, or (restore) the stream was tampered with
swollen   the stream was more in each pass than the guest owns and 1 %, and eight bytes for each pfn that it claims
left      it reported failure, and left log-dirty mode on or memory mapped
refused   it reported failure, and left nothing
right     it reported success, and the image is right
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer.build import SONAME, find_libxenguest
from peer.driver import load_module
from peer.libxenguest import Libxenguest

SECONDS = 20
MEMORY = 8 << 30
STREAM = 256 << 20
SAVERS = ("libxenguest", "pyxcsr")
CLASSES = ("crash", "hang", "silent", "swollen", "left", "refused", "right")
FRAMES = 1 << 14


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="hostile guests and tampered streams through both")
    parser.add_argument("folder", type=Path, help="where tests/peer/build.py has put the stand-in")
    parser.add_argument("names", nargs="*", help="cases whose names contain one of these (default: all)")
    parser.add_argument("--json", action="store_true", help="all results, as JSON")
    parser.add_argument("--guests-only", action="store_true")
    parser.add_argument("--width", type=int, choices=(8, 4), default=8, help="of the guests: bytes of a word (8)")
    parser.add_argument("--streams-only", action="store_true")
    args = parser.parse_args()
    load_module(args.folder)
    found = results(args)
    if args.json:
        json.dump(found, sys.stdout, indent=1)
    else:
        show(found)


def results(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One for each case and program: name, kind, by, class, text."""
    out: list[dict[str, Any]] = []
    kinds: list[tuple[str, list[tuple[str, Any]], Callable[..., tuple[str, str]]]] = []
    if not args.streams_only:
        kinds.append(("guest", guest_cases(args.width), save_case))
    if not args.guests_only:
        kinds.append(("stream", stream_cases(), restore_case))
    for kind, cases, run in kinds:
        for name, case in cases:
            if args.names and not any(x in name for x in args.names):
                continue
            for by in SAVERS:
                what, text = in_child(lambda case=case, by=by, run=run: run(args.folder, case, by))
                out.append({"kind": kind, "name": name, "by": by, "class": what, "text": text})
    return out


def in_child(do: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """(class, text) of what ``do`` says in a forked child, or of how that ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(do, writer)
    os.close(writer)
    ready = select.select([reader], [], [], SECONDS)[0]
    if not ready:
        os.kill(pid, signal.SIGKILL)
    data = b"".join(iter(lambda: os.read(reader, 65536), b"")) if ready else b""
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    if not ready:
        return "hang", f"did not end within {SECONDS} s"
    if status < 0:
        return "crash", signal.Signals(-status).name
    what, text = json.loads(data)
    return what, text


def _child(do: Callable[[], tuple[str, str]], writer: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 2)
    try:
        answer = do()
    except BaseException as error:
        answer = ("error", repr(error))  # of this program: a test looks for it
    os.write(writer, json.dumps(answer).encode())
    os._exit(0)


def _machine(hv: Any) -> None:
    """A small machine; it lies in a file in memory, and the one before was large: limits come after that."""
    hv.stub.reset(frames=FRAMES)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (STREAM, STREAM))


def show(found: list[dict[str, Any]]) -> None:
    """The counts, and the cases in which libxenguest did other than refuse or save right."""
    for kind in ("guest", "stream"):
        some = [x for x in found if x["kind"] == kind]
        if not some:
            continue
        print(f"\n{kind}s: {len(some) // len(SAVERS)}")
        for by in SAVERS:
            counts = Counter(x["class"] for x in some if x["by"] == by)
            print(f"  {by:12}", ", ".join(f"{counts[x]} {x}" for x in (*CLASSES, "error") if counts[x]))
    for x in found:
        if x["class"] not in ("refused", "right"):
            print(f"{x['class']:8} {x['by']:12} {x['name']}: {x['text']}")


# -- guests


def guest_cases(width: int) -> list[tuple[str, Any]]:
    """Every hostile PV guest of that width, live and not."""
    from hostile.guests import GUESTS as WIDE
    from hostile.pv32_guests import GUESTS as NARROW

    both = [(x, live) for x in (WIDE if width == 8 else NARROW) for live in (True, False) if live or not x.live_only]
    return [(f"{x.name}, {'live' if live else 'non-live'}", (x, live)) for x, live in both]


def save_case(folder: Path, case: Any, by: str) -> tuple[str, str]:
    """Saves one hostile guest."""
    from hostile.run import save_hostile

    import pyxcsr

    guest, live = case
    with tempfile.TemporaryDirectory() as work, pyxcsr.open_hypervisor("stub") as hv:
        _machine(hv)
        path = Path(work, "s")
        saver = by_libxenguest(folder) if by == "libxenguest" else by_pyxcsr
        inside, cost, raised, _ = save_hostile(hv, guest, path, live, saver)
        return class_of(hv, inside, cost, raised, path, guest, live)


def by_libxenguest(folder: Path) -> Callable[[Any, int, Path, bool, float], None]:
    """A saver for save_hostile; raises RuntimeError with the errno where libxenguest fails."""
    from pyxcsr.errors import XcsrError
    from pyxcsr.suspend.xenstore import XenstoreSuspend

    library = find_libxenguest()
    assert library is not None
    peer = Libxenguest(folder / SONAME, library)

    def save(hv: Any, domid: int, path: Path, live: bool, patience: float) -> None:
        def suspend() -> bool:
            try:
                XenstoreSuspend(hv, domid, timeout=patience)()
            except XcsrError:
                return False
            return True

        with open(path, "wb") as out:
            rc, error = peer.save(out.fileno(), domid, live=live, suspend=suspend)
        peer.close()
        if rc:
            raise RuntimeError(f"rc {rc}, errno {error}")

    return save


def by_pyxcsr(hv: Any, domid: int, path: Path, live: bool, patience: float = 60.0) -> None:
    """A saver for save_hostile."""
    import pyxcsr

    with open(path, "wb") as out:
        pyxcsr.save(hv, domid, out, live=live, suspend=pyxcsr.XenstoreSuspend(hv, domid, timeout=patience))


def class_of(hv: Any, inside: Any, cost: Any, raised: Any, path: Path, guest: Any, live: bool) -> tuple[str, str]:
    """What came of a save."""
    from hostile.run import PASSES

    here = inside.domid in hv.stub.domains
    state = inside.guest.state() if here else None
    if state is not None:
        claimed = min(inside.guest.shared_info("max_pfn"), 1 << 23)
        if cost.nr_bytes > (state.max_pages * 4096 + 8 * claimed) * (PASSES if live else 1) * 1.01 + 65536:
            return "swollen", f"{cost.nr_bytes >> 20} MiB of a guest of {state.max_pages >> 8} MiB; {raised!r}"
    if raised is not None:
        left = hv.stub.leaks()
        return ("left", str(left)) if left or (state is not None and state.logdirty) else ("refused", repr(raised))
    wrong = judged(hv, inside.domid, path, guest)
    return ("silent", wrong) if wrong else ("right", "")


def judged(hv: Any, domid: int, path: Path, guest: Any) -> str:
    """What is wrong with an image; empty if nothing is."""
    from support.judge import judge_pages, judge_rules, judge_state

    try:
        judge_rules(path, xen=False)
        judge_pages(hv, domid, path, given_back=guest.gives_back)
        judge_state(hv, domid, path)
    except Exception as error:  # an assertion, or the stub's refusal to say what an entry should be
        return f"{type(error).__name__}: {error}"[:200]
    return ""


# -- streams


def stream_cases() -> list[tuple[str, Any]]:
    """Tampered streams, each of which ours has to refuse, as changes of the records of a good one."""
    from support.surgery import PAGE_DATA, Piece
    from transfer.test_restore_bad import TAMPERED, table_slot, without_page

    def nth_page_record_missing(pieces: list[Piece], n: int) -> list[Piece]:
        at = [i for i, x in enumerate(pieces) if x.code == PAGE_DATA][n]
        return pieces[:at] + pieces[at + 1 :]

    cases: dict[str, Any] = {name: change for name, (change, _) in TAMPERED.items()}
    for n in (0, 1):
        cases[f"PAGE_DATA record {n} is missing"] = lambda p, n=n: nth_page_record_missing(p, n)
    for nth in (100, 500):
        cases[f"ordinary page {nth} is missing"] = lambda p, nth=nth: without_page(p, ordinary(p)[nth])
    for level in (1, 2, 3, 4):
        for name, value in (("beyond the p2m", 0x67 | 0xFFFFFF << 12), ("of 2^52", 0x67 | ((1 << 40) - 1) << 12)):
            cases[f"level {level} entry {name}"] = lambda p, level=level, value=value: entry(
                p, *table_slot(p, level), value
            )
        if level > 1:
            cases[f"level {level} superpage"] = lambda p, level=level: entry(p, *table_slot(p, level), 0xE7)
    return list(cases.items())


def ordinary(pieces: Any) -> list[int]:
    """The pfns of the first record's ordinary pages."""
    from support.surgery import PAGE_DATA, entries_of

    body = next(x.body for x in pieces if x.code == PAGE_DATA)
    return [x & (1 << 52) - 1 for x in entries_of(body) if x >> 60 == 0]


def entry(pieces: Any, nth: int, at: int, value: int) -> Any:
    """Another word in the nth PAGE_DATA record."""
    import struct

    from support.surgery import PAGE_DATA, changed

    return changed(pieces, PAGE_DATA, lambda body: struct.pack_into("<Q", body, at, value), nth)


def restore_case(folder: Path, change: Any, by: str) -> tuple[str, str]:
    """Restores one tampered stream into an empty domain."""
    from support.surgery import put_together, take_apart

    import pyxcsr

    with tempfile.TemporaryDirectory() as work, pyxcsr.open_hypervisor("stub") as hv:
        _machine(hv)
        good, bad = Path(work, "good"), Path(work, "bad")
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="6M", vcpus=2, holes=0.05, writer="none"))
        by_pyxcsr(hv, domid, good, live=False)
        hv.stub.destroy(domid)
        head, pieces = take_apart(good)
        bad.write_bytes(put_together(head, change(pieces)))
        domid = hv.stub.create_empty("12M", vcpus=2)
        with open(bad, "rb") as source:
            failed = restore_by(folder, by, hv, domid, source)
        if failed is None:
            return "silent", "a tampered stream is restored with success"
        leaks = {k: v for k, v in hv.stub.leaks().items() if k != "paused_domains"}
        return ("left", str(leaks)) if leaks else ("refused", failed)


def restore_by(folder: Path, by: str, hv: Any, domid: int, source: Any) -> str | None:
    """How it failed, or None."""
    import pyxcsr

    if by == "pyxcsr":
        try:
            pyxcsr.restore(hv, domid, source)
        except pyxcsr.XcsrError as error:
            return repr(error)
        return None
    library = find_libxenguest()
    assert library is not None
    peer = Libxenguest(folder / SONAME, library)
    done = peer.restore(source.fileno(), domid, store_evtchn=1, console_evtchn=2)
    peer.close()
    return f"rc {done.rc}, errno {done.errno}" if done.rc else None


if __name__ == "__main__":
    began = time.monotonic()
    with contextlib.suppress(BrokenPipeError):
        main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
