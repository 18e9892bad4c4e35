"""SIGINT and SIGTERM at random moments of `pyxcsr save`, each in a process of its own, forked from this one.

    PYTHONPATH=tests python -m faults.signals [--moments 200] [--seed N]

The moments are spread over a whole save: from its first step to some time after its end. After each: the guest runs,
nothing is mapped, log-dirty mode is off; and either the program says so (128 + the signal's number) and there is no
file, or it succeeded and there is one, complete.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Optional

from faults.sweep import complete

GUEST = "pv64:mem=24M,writer=thread,rate=20000,pt_updates=2,vcpus=2"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Moment:
    """One save in a child, and the signal that it gets."""

    def __init__(self, folder: Path, number: Optional[signal.Signals], delay: float) -> None:
        self.folder, self.number, self.delay = folder, number, delay
        self.seconds, self.status, self.seen = 0.0, 0, dict[str, Any]()

    def run(self) -> str:
        """What came of it: "cancelled", "complete", or what is wrong."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            child(self.folder / "stream", writer)
        os.close(writer)
        os.read(reader, 1)  # the save begins
        began = time.monotonic()
        if self.number is not None:
            time.sleep(self.delay)
            os.kill(pid, self.number)
        data = b"".join(iter(lambda: os.read(reader, 65536), b""))
        os.close(reader)
        self.status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.seconds = time.monotonic() - began
        self.seen = json.loads(data) if data else {}
        return self._judge()

    def _judge(self) -> str:
        files = [x.name for x in self.folder.iterdir()]
        ended_before = self.number is not None and self.status == -self.number and files == ["stream"]
        if self.status == 0 or ended_before:  # the signal came after the save had ended, or never mattered
            good = files == ["stream"] and complete(self.folder / "stream") and self._well()
            return "complete" if good else f"status {self.status}, {files}, {self.seen}"
        good = self.number is not None and self.status == 128 + self.number and files == [] and self._well()
        return "cancelled" if good else f"status {self.status}, {files}, {self.seen}"

    def _well(self) -> bool:
        return bool(self.seen) and self.seen["running"] and not self.seen["logdirty"] and self.seen["leaks"] == {}


def child(path: Path, writer: int) -> NoReturn:
    """Saves with the program's own main function; tells when it begins, and how it leaves the guest."""
    os.setpgid(0, 0)
    try:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 2)
        _watch(writer)
        from pyxcsr.cli import main

        status = main.main(["save", "--backend", "stub", GUEST, os.fspath(path), "--quiet"])
    except KeyboardInterrupt:
        status = 130
    os._exit(status)


def _watch(writer: int) -> None:
    from pyxcsr.cli.signals import CancelBySignal
    from pyxcsr.hypervisor.open import StubBackend

    installed, close = CancelBySignal.installed, StubBackend.close

    @contextmanager
    def tell(self: CancelBySignal) -> Iterator[CancelBySignal]:
        with installed(self) as cancel:
            os.write(writer, b"+")
            yield cancel

    def closing(self: StubBackend) -> None:
        if self._handle is not None and self.stub.domains:
            state = self.stub.guest(self.stub.domains[-1]).state()
            seen = {"running": state.running, "logdirty": state.logdirty, "leaks": self.stub.leaks()}
            os.write(writer, json.dumps(seen).encode())
        close(self)

    CancelBySignal.installed = tell  # type: ignore[method-assign]
    StubBackend.close = closing  # type: ignore[method-assign]


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="signals at random moments of a save")
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    counts = sweep(args.moments, random.Random(args.seed))
    for what, count in counts.most_common():
        print(f"{count:5} {what}")
    sys.exit(bool(set(counts) - {"cancelled", "complete"}))


def sweep(moments: int, rng: random.Random) -> Counter[str]:
    """What came of so many moments, how often."""
    import pyxcsr.cli.save
    import pyxcsr.hypervisor.stub.machine  # noqa: F401  (imported once, before the forks)

    whole = sorted(one(None, 0.0)[1] for _ in range(3))[1]
    return Counter(one(rng.choice(SIGNALS), rng.uniform(0, whole * 1.05))[0] for _ in range(moments))


def one(number: Optional[signal.Signals], delay: float) -> tuple[str, float]:
    """What came of one moment, and how long the save took."""
    with tempfile.TemporaryDirectory() as folder:
        moment = Moment(Path(folder), number, delay)
        return moment.run(), moment.seconds


if __name__ == "__main__":
    main()
