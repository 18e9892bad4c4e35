"""Seed after seed through both savers, each stream restored by both: a command for guests of any kind.

A kind is a module with ``Seeds`` and a line that calls :func:`main`: see storm.py and hvm_storm.py. libxenguest may
abort the process: ``run`` starts it again behind the seed that did it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peer.build import SONAME, build, find_libxenguest
from peer.driver import load_module
from peer.libxenguest import Libxenguest

TESTS = Path(__file__).resolve().parent.parent
FEW = 50
BY = ("pyxcsr", "libxenguest")


class Seeds(ABC):
    """The savers and restorers on one machine, seed after seed."""

    frames = 2 << 20
    """Of the machine."""

    def __init__(self, folder: Path) -> None:
        libxenguest = find_libxenguest()
        assert libxenguest is not None
        self.hv: Any = None
        self.peer = Libxenguest(folder / SONAME, libxenguest)
        self.stream = folder / f"stream-{os.getpid()}"

    @abstractmethod
    def storm(self, seed: int) -> Any:
        """The guest, with ``hook``, ``kind``, ``live`` and ``done``."""

    @abstractmethod
    def wrong(self, storm: Any) -> Any:
        """What is wrong with the stream's memory, by the guest's own, suspended; None if nothing is."""

    @abstractmethod
    def save_by_pyxcsr(self, storm: Any, out: Any) -> dict[str, Any]:
        """``rc`` 0, or -1 and ``error``."""

    @abstractmethod
    def save_by_libxenguest(self, storm: Any, out: Any) -> dict[str, Any]:
        """The same."""

    @abstractmethod
    def restored(self, storm: Any) -> dict[str, Any]:
        """Restorer -> what it did not bring back, None if it brought all back."""

    def seed(self, seed: int) -> dict[str, Any]:
        """What became of one seed: of each saver's save, and of its stream at each restorer."""
        import pyxcsr

        found: dict[str, Any] = {"seed": seed}
        for by in BY:
            with pyxcsr.open_hypervisor("stub") as self.hv:
                self.hv.stub.reset(force=True, frames=self.frames)
                found[by] = self._save(seed, by)
        return found

    def _save(self, seed: int, by: str) -> dict[str, Any]:
        storm = self.storm(seed)
        save = self.save_by_pyxcsr if by == "pyxcsr" else self.save_by_libxenguest
        with open(self.stream, "wb") as out, self.hv.stub.hook(storm.hook):
            done = save(storm, out)
        done.update(kind=storm.kind, live=storm.live, did=storm.done)
        if done["rc"] == 0:
            done["wrong"] = self.wrong(storm)
            if done["wrong"] is None:
                done["restored"] = self.restored(storm)
        return done

    def ours(self, storm: Any, out: Any, **options: Any) -> Any:
        """The report of our save, or how it failed, as the result that save_by_pyxcsr gives."""
        import pyxcsr
        from pyxcsr.hypervisor import saving

        saving.BATCHES_US = storm.batches_us
        policy = pyxcsr.SimplePolicy(max_iterations=storm.max_iterations)
        try:
            return pyxcsr.save(self.hv, storm.domid, out, live=storm.live, policy=policy, **options)
        except pyxcsr.XcsrError as error:
            return {"rc": -1, "error": f"{type(error).__name__}: {error}"}

    def precopy(self, storm: Any, iteration: int, written: int, dirty: int) -> int:
        """libxenguest's policy: 1 when the rest may be copied while the guest is suspended."""
        return int(iteration >= storm.max_iterations or 0 <= dirty < FEW)

    def restore(self, domid: int, source: Any, by: str) -> Any:
        """What went wrong, None if nothing did."""
        import pyxcsr

        if by == "pyxcsr":
            try:
                pyxcsr.restore(self.hv, domid, source, store_evtchn=1, console_evtchn=2)
            except pyxcsr.XcsrError as error:
                return f"{type(error).__name__}: {error}"
            return None
        done = self.peer.restore(source.fileno(), domid, store_evtchn=1, console_evtchn=2)
        return None if done.rc == 0 else f"rc {done.rc}, errno {done.errno}"


def ended(rc: int, error: int) -> dict[str, Any]:
    """What libxenguest gave back, as a save's result."""
    return {"rc": rc, "error": os.strerror(error) if error else "errno 0"} if rc else {"rc": 0}


def child(seeds: type[Seeds], folder: Path, first: int, last: int) -> None:
    """Prints a line a seed."""
    load_module(folder)
    made = seeds(folder)
    for seed in range(first, last):
        print(json.dumps({"began": seed}), flush=True)
        print(json.dumps(made.seed(seed)), flush=True)


def run(module: str, folder: Path, first: int, last: int) -> Iterator[dict[str, Any]]:
    """All seeds' results; one that ended the process is {"seed": n, "died": signal}."""
    while first < last:
        began = first - 1
        command = [sys.executable, "-m", module, str(folder), str(first), str(last)]
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


def table(results: list[dict[str, Any]], apart: tuple[str, ...]) -> dict[str, Counter[str]]:
    """Counts by saver: right, aborted, wrong; and of right streams those that a restorer did not bring back.

    ``apart``: the kinds of guests that are counted apart.
    """
    counts: dict[str, Counter[str]] = {by: Counter() for by in BY}
    for found in results:
        for by, count in counts.items():
            if "died" in found:
                count["process died"] += 1
            else:
                count.update(_judgement(found[by], apart))
    return counts


def _judgement(done: dict[str, Any], apart: tuple[str, ...]) -> list[str]:
    kind = f" ({done['kind']})" if done["kind"] in apart else ""
    if done["rc"]:
        return [f"aborted{kind}"]
    if done["wrong"]:
        return [f"wrong image{', and warned of' if done.get('warned') else ''}{kind}"]
    bad = [f"not restored right by {by}" for by, problem in done["restored"].items() if problem]
    return [f"right{kind}", *bad]


def main(module: str, seeds: type[Seeds], apart: tuple[str, ...]) -> None:
    """The program: ``FOLDER FIRST LAST``, ``--all N`` or ``--range FIRST LAST``."""
    if sys.argv[1] not in ("--all", "--range"):
        child(seeds, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
        return
    first, last = (0, int(sys.argv[2])) if sys.argv[1] == "--all" else (int(sys.argv[2]), int(sys.argv[3]))
    libxenguest = find_libxenguest()
    assert libxenguest is not None, "libxenguest 4.17 is not installed"
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), libxenguest)
        results = []
        for found in run(module, Path(folder), first, last):
            print(json.dumps(found), file=sys.stderr, flush=True)
            results.append(found)
    for by, count in table(results, apart).items():
        print(by, dict(sorted(count.items())))
