"""A thousand saves of guests that change their p2m meanwhile, by both savers, restored by both: who did it right?

``python -m peer.storm FOLDER FIRST LAST`` (FOLDER: build.py's) prints a line of JSON for each seed from FIRST up to,
not including, LAST. libxenguest may abort the process: ``run`` starts it again behind the seed that did it.

``PYTHONPATH=tests python -m peer.storm --all N`` does N seeds and prints the table of docs/p2m-changes.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peer.build import SONAME, build, find_libxenguest
from peer.driver import load_module
from peer.libxenguest import Libxenguest

TESTS = Path(__file__).resolve().parent.parent
FEW = 50


class Seeds:
    """The savers and restorers on one machine, seed after seed."""

    def __init__(self, folder: Path) -> None:
        libxenguest = find_libxenguest()
        assert libxenguest is not None
        self.hv: Any = None
        self.peer = Libxenguest(folder / SONAME, libxenguest)
        self.stream = folder / f"stream-{os.getpid()}"

    def seed(self, seed: int) -> dict[str, Any]:
        """What became of one seed: of each saver's save, and of its stream at each restorer."""
        import pyxcsr

        found: dict[str, Any] = {"seed": seed}
        for by in ("pyxcsr", "libxenguest"):
            with pyxcsr.open_hypervisor("stub") as self.hv:
                self.hv.stub.reset(force=True)
                found[by] = self._save(seed, by)
        return found

    def _save(self, seed: int, by: str) -> dict[str, Any]:
        from support.storm import Storm

        storm = Storm(self.hv, seed)
        with open(self.stream, "wb") as out, self.hv.stub.hook(storm.hook):
            done: dict[str, Any] = getattr(self, f"_save_by_{by}")(storm, out)
        done.update(kind=storm.kind, live=storm.live, did=storm.done)
        if done["rc"] == 0:
            done["wrong"] = self._wrong(storm)
            if done["wrong"] is None:
                done["restored"] = self._restored(storm)
        return done

    def _save_by_pyxcsr(self, storm: Any, out: Any) -> dict[str, Any]:
        import pyxcsr
        from pyxcsr.hypervisor import saving

        saving.BATCHES_US = 0 if storm.often else 20_000
        policy = pyxcsr.SimplePolicy(max_iterations=storm.max_iterations)
        limits = pyxcsr.P2mLimits(settle_seconds=0.05)
        try:
            report = pyxcsr.save(
                self.hv,
                storm.domid,
                out,
                live=storm.live,
                policy=policy,
                cancel=storm.polled,
                p2m_changes="follow",
                p2m_limits=limits,
            )
        except pyxcsr.XcsrError as error:
            return {"rc": -1, "error": f"{type(error).__name__}: {error}"}
        p2m = {k: v for k, v in vars(report.p2m).items() if k != "changes"}
        return {"rc": 0, "p2m": p2m, "pages": report.pages}

    def _save_by_libxenguest(self, storm: Any, out: Any) -> dict[str, Any]:
        from pyxcsr.suspend.xenstore import XenstoreSuspend

        def suspend() -> bool:
            XenstoreSuspend(self.hv, storm.domid, timeout=60.0)()
            return True

        def precopy(iteration: int, written: int, dirty: int) -> int:
            return int(iteration >= storm.max_iterations or 0 <= dirty < FEW)

        rc, error = self.peer.save(out.fileno(), storm.domid, live=storm.live, suspend=suspend, precopy=precopy)
        return {"rc": rc, "error": os.strerror(error) if error else "errno 0"} if rc else {"rc": 0}

    def _wrong(self, storm: Any) -> Any:
        """What is wrong with the stream's memory, by the guest's own, suspended; None if nothing is."""
        from support.judge import judge_pages

        try:
            judge_pages(self.hv, storm.domid, self.stream)
        except AssertionError as error:
            return str(error)[:200] or "a check failed"
        return None

    def _restored(self, storm: Any) -> dict[str, Any]:
        from support.storm import MAX_MEM

        from peer.image import differences, image_of

        saved = image_of(self.hv, storm.domid)
        result: dict[str, Any] = {}
        for by in ("pyxcsr", "libxenguest"):
            new = self.hv.stub.create_empty(MAX_MEM, vcpus=storm.guest_vcpus)
            with open(self.stream, "rb") as source:
                problem = self._restore(new, source, by)
            if problem is None:
                other = differences(saved, image_of(self.hv, new, saved["leaves"]))
                problem = "; ".join(self._meant(other, by, saved)[:3]) or None
            result[by] = problem
            self.hv.stub.destroy(new)
        return result

    def _restore(self, domid: int, source: Any, by: str) -> Any:
        import pyxcsr

        if by == "pyxcsr":
            try:
                pyxcsr.restore(self.hv, domid, source, store_evtchn=1, console_evtchn=2)
            except pyxcsr.XcsrError as error:
                return f"{type(error).__name__}: {error}"
            return None
        done = self.peer.restore(source.fileno(), domid, store_evtchn=1, console_evtchn=2)
        return None if done.rc == 0 else f"rc {done.rc}, errno {done.errno}"

    def _meant(self, other: list[str], by: str, saved: dict[str, Any]) -> list[str]:
        """libxenguest leaves pages that were ballooned out in the domain, and in its p2m."""
        if by == "pyxcsr":
            return other
        kept = [x for x in other if ("was None, is" in x) or x == "p2m differs"]
        return [x for x in other if x not in kept or (x == "p2m differs" and len(kept) == 1)]


def child(folder: Path, first: int, last: int) -> None:
    """Prints a line a seed."""
    load_module(folder)
    seeds = Seeds(folder)
    for seed in range(first, last):
        print(json.dumps({"began": seed}), flush=True)
        print(json.dumps(seeds.seed(seed)), flush=True)


def run(folder: Path, first: int, last: int) -> Iterator[dict[str, Any]]:
    """All seeds' results; one that ended the process is {"seed": n, "died": signal}."""
    while first < last:
        began = first - 1
        command = [sys.executable, "-m", "peer.storm", str(folder), str(first), str(last)]
        path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = json.loads(line)
                if "began" in found:
                    began = found["began"]
                else:
                    first = found["seed"] + 1
                    yield found
        if first < last:
            assert began == first, f"the process ended before it began seed {first}"
            yield {"seed": first, "died": process.returncode}
            first += 1


def table(results: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Counts by saver: right, aborted, wrong; and of right streams those that a restorer did not bring back."""
    counts: dict[str, Counter[str]] = {"pyxcsr": Counter(), "libxenguest": Counter()}
    for found in results:
        for by, count in counts.items():
            if "died" in found:
                count["process died"] += 1
            else:
                count.update(_judgement(found[by]))
    return counts


def _judgement(done: dict[str, Any]) -> list[str]:
    never = " (never settles)" if done["kind"] == "never settles" else ""
    if done["rc"]:
        return [f"aborted{never}"]
    if done["wrong"]:
        return [f"wrong image{never}"]
    bad = [f"not restored right by {by}" for by, problem in done["restored"].items() if problem]
    return [f"right{never}", *bad]


def main() -> None:
    """The program."""
    if sys.argv[1] != "--all":
        child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
        return
    libxenguest = find_libxenguest()
    assert libxenguest is not None, "libxenguest 4.17 is not installed"
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), libxenguest)
        results = []
        for found in run(Path(folder), 0, int(sys.argv[2])):
            print(json.dumps(found), file=sys.stderr)
            results.append(found)
    for by, count in table(results).items():
        print(by, dict(sorted(count.items())))


if __name__ == "__main__":
    main()
