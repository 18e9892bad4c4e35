"""The helper's own parts on a guest of the stub that exchanges pages while libxl's answer is waited for.

libxl keeps to Remus's interval in its part of a checkpoint, and waits for the guest to suspend: all that the helper
does meanwhile is to ask how many pages the guest has. The guest gives pages back and gets pages for the same gfns. So
whatever is looked at later is as it was.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from pathlib import Path

import pytest
from support.hvm_guests import wrong_pages

import pyxcsr
from pyxcsr.container.checkpoints import convert_checkpoint
from pyxcsr.helper.checkpoints import CheckpointsThroughLibxl
from pyxcsr.helper.protocol import CHECKPOINT, POSTCOPY, SUSPEND, Channel
from pyxcsr.helper.resuming import Resuming
from pyxcsr.helper.saving import SuspendThroughLibxl
from pyxcsr.helper.stubguest import goes_on_in_step, suspend_in_step
from pyxcsr.hypervisor.open import StubBackend

INFO = "xc_domain_getinfolist"
CALLBACKS = 1 << SUSPEND | 1 << POSTCOPY | 1 << CHECKPOINT
SECONDS = 0.15


class SlowLibxl:
    """Takes its time for each answer. ``asked``: the message that waits for one now, and how many of it there were."""

    def __init__(self) -> None:
        answers, self._answers = os.pipe()
        self._messages, messages = os.pipe()
        self.channel, self._fds = Channel(answers, messages, CALLBACKS), (answers, messages)
        self.asked = (0, 0)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> SlowLibxl:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fds[1])
        self._thread.join()
        for fd in (self._fds[0], self._answers, self._messages):
            os.close(fd)

    def _serve(self) -> None:
        counts: dict[int, int] = {}
        while head := os.read(self._messages, 4):
            _length, number = struct.unpack("=HH", head)
            counts[number] = counts.get(number, 0) + 1
            self.asked = (number, counts[number])
            time.sleep(SECONDS)
            self.asked = (0, 0)
            os.write(self._answers, struct.pack("=i", 1))


class Exchange:
    """At the second question while libxl does ``moment`` the guest gives pages back; at the sixth it gets others."""

    def __init__(self, hv: StubBackend, libxl: SlowLibxl, moment: tuple[int, int]) -> None:
        self.domid = hv.stub.create(pyxcsr.StubGuest.parse("pvh:mem=8M,writes=0,compact=yes"))
        self._guest, self._libxl, self._moment = hv.stub.guest(self.domid), libxl, moment
        self._gfns = [x for x in self._guest.pfns_with_memory() if x < 0x400][-5:]
        self.calls = 0

    def __call__(self, name: str, _count: int) -> None:
        if name != INFO or self._libxl.asked != self._moment:
            return
        self.calls += 1
        if self.calls == 2:
            self._guest.balloon_out(self._gfns)
        if self.calls == 6:
            self._guest.balloon_in(self._gfns)
            for gfn in self._gfns:
                self._guest.write_page(gfn, os.urandom(4096))


@pytest.mark.parametrize(("message", "nth"), [(CHECKPOINT, 1), (CHECKPOINT, 2), (SUSPEND, 1), (SUSPEND, 2)])
def test_between_two_checkpoints(hv: StubBackend, tmp_path: Path, message: int, nth: int) -> None:
    with SlowLibxl() as libxl, open(tmp_path / "s", "w+b") as stream:
        exchange = Exchange(hv, libxl, (message, nth))
        domid, channel = exchange.domid, libxl.channel
        checkpointed = CheckpointsThroughLibxl(channel, domid)
        checkpointed.count = 3
        goes_on_in_step(hv, domid, checkpointed)
        suspend = suspend_in_step(hv, domid, SuspendThroughLibxl(channel, domid))
        with hv.stub.hook(exchange):
            report = pyxcsr.save(hv, domid, stream, policy="libxc", suspend=suspend, checkpointed=checkpointed)
        stream.seek(0)
        with open(tmp_path / "third", "wb") as out:
            convert_checkpoint(stream, out.write, 3)
        assert channel.watch is not None
        channel.watch()  # the save is over, and has let go of it
    assert exchange.calls > 6, "it was watched"
    assert wrong_pages(hv, domid, tmp_path / "third") == []
    assert report.physmap.may_have_missed and report.physmap.sent_again >= 1


@pytest.mark.parametrize("resumes", [False, True])
def test_in_a_live_save(hv: StubBackend, tmp_path: Path, resumes: bool) -> None:
    with SlowLibxl() as libxl, open(tmp_path / "s", "wb") as out:
        exchange = Exchange(hv, libxl, (SUSPEND, 1))
        suspend = suspend_in_step(hv, exchange.domid, SuspendThroughLibxl(libxl.channel, exchange.domid))
        if resumes:
            suspend = Resuming(hv, exchange.domid, suspend, lambda text: None)
        with hv.stub.hook(exchange):
            report = pyxcsr.save(hv, exchange.domid, out, policy="libxc", suspend=suspend)
    assert exchange.calls > 6, "it was watched"
    assert wrong_pages(hv, exchange.domid, tmp_path / "s") == []
    assert report.physmap.may_have_missed and report.physmap.sent_again >= 1
