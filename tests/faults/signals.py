"""SIGINT and SIGTERM at random moments of `pyxcsr save`, each in a process of its own, forked from this one.

    PYTHONPATH=tests python -m faults.signals [--moments 200] [--seed N] [--kind pvh] [--checkpointed]

The moments are spread over a whole save: from its first step to some time after its end. After each: the guest runs,
nothing is mapped, log-dirty mode is off, also in the device model, which runs, too; and either the program says so
(128 + the signal's number) and there is no file, or it succeeded and there is one, complete.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Optional

from faults.sweep import complete, ends
from pyxcsr.container.verify import verify_input

GUESTS = {
    "pv64": "pv64:mem=24M,writer=thread,rate=20000,pt_updates=2,vcpus=2",
    "pv32": "pv32:mem=24M,writer=thread,rate=20000,pt_updates=2,vcpus=2",
    "pvh": "pvh:mem=24M,writer=thread,rate=20000,vcpus=2,compact=yes",
    "hvm": "hvm:mem=24M,writer=thread,rate=20000,vcpus=2,vram=1M,devmodel=5,compact=yes",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CHECKPOINTED = ("--checkpointed", "5ms", "--checkpoints", "6")


class Moment:
    """One save in a child, and the signal that it gets. ``guest``: as text; ``options``: of the command."""

    def __init__(
        self, folder: Path, guest: str, options: tuple[str, ...], number: Optional[signal.Signals], delay: float
    ) -> None:
        self.folder, self.guest, self.options, self.number, self.delay = folder, guest, options, number, delay
        self.seconds, self.status, self.seen = 0.0, 0, dict[str, Any]()

    def run(self) -> str:
        """What came of it: "cancelled", "complete", or what is wrong."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            child(self.folder / "stream", self.guest, self.options, writer)
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
            good = files == ["stream"] and self._complete() and self._well()
            return "complete" if good else f"status {self.status}, {files}, {self.seen}"
        good = self.number is not None and self.status == 128 + self.number and files == [] and self._well()
        return "cancelled" if good else f"status {self.status}, {files}, {self.seen}"

    def _complete(self) -> bool:
        path = self.folder / "stream"
        if self.options != CHECKPOINTED:
            return complete(path)
        with open(path, "rb") as stream:
            found = verify_input(stream, checkpointed=True)
        return ends(path) and found.ok and found.checkpoints == int(CHECKPOINTED[-1])

    def _well(self) -> bool:
        return bool(self.seen) and self.seen["running"] and not self.seen["logdirty"] and self.seen["leaks"] == {}


def child(path: Path, guest: str, options: tuple[str, ...], writer: int) -> NoReturn:
    """Saves with the program's own main function; tells when it begins, and how it leaves the guest."""
    os.setpgid(0, 0)
    try:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 2)
        _watch(writer)
        if guest.startswith("hvm"):
            _with_qemu(path.parent.with_name("qmp"))
        from pyxcsr.cli import main

        status = main.main(["save", "--backend", "stub", guest, os.fspath(path), "--quiet", *options])
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
            seen = {
                "running": state.running and not state.devmodel_stopped,
                "logdirty": state.logdirty or state.devmodel_logdirty,
                "leaks": self.stub.leaks(),
            }
            os.write(writer, json.dumps(seen).encode())
        close(self)

    CancelBySignal.installed = tell  # type: ignore[method-assign]
    StubBackend.close = closing  # type: ignore[method-assign]


def _with_qemu(at: Path) -> None:
    """The command takes QEMU for a guest's device model on real Xen only. Here the stub's guest has one, too."""
    from devicemodel.stub_qemu import qemu_of

    from pyxcsr.cli import save
    from pyxcsr.cli.suspending import GuestParts
    from pyxcsr.devicemodel.qemu import Qemu
    from pyxcsr.suspend.hvm import HvmSuspend

    keep = ExitStack()

    def parts(hv: Any, domid: int, timeout: float, cancel: Any) -> GuestParts:
        keep.enter_context(qemu_of(hv.stub.guest(domid), at))
        qemu = Qemu(domid, os.fspath(at))
        return GuestParts(HvmSuspend(hv, domid, qemu, timeout, cancel), qemu, qemu)

    save.guest_parts = parts


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="signals at random moments of a save")
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=list(GUESTS), default="pv64")
    parser.add_argument("--checkpointed", action="store_true", help="the save is one with checkpoints (Remus)")
    args = parser.parse_args()
    options = CHECKPOINTED if args.checkpointed else ()
    counts = sweep(args.moments, random.Random(args.seed), GUESTS[args.kind], options)
    for what, count in counts.most_common():
        print(f"{count:5} {what}")
    sys.exit(bool(set(counts) - {"cancelled", "complete"}))


def sweep(moments: int, rng: random.Random, guest: str, options: tuple[str, ...] = ()) -> Counter[str]:
    """What came of so many moments, how often."""
    import pyxcsr.cli.save
    import pyxcsr.hypervisor.stub.machine
    import pyxcsr.suspend.hvm  # noqa: F401  (imported once, before the forks)

    whole = sorted(one(guest, options, None, 0.0)[1] for _ in range(3))[1]
    moment = (rng.uniform(0, whole * 1.05) for _ in range(moments))
    return Counter(one(guest, options, rng.choice(SIGNALS), delay)[0] for delay in moment)


def one(guest: str, options: tuple[str, ...], number: Optional[signal.Signals], delay: float) -> tuple[str, float]:
    """What came of one moment, and how long the save took."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.mkdir()
        moment = Moment(out, guest, options, number, delay)
        return moment.run(), moment.seconds


if __name__ == "__main__":
    main()
