"""The real program at both ends of a Remus stream, on the stub, with a libxl in between that cuts the link.

What becomes of the guest's memory is tests/transfer/test_checkpoints.py's; here it is about libxl's messages, their
order, and what is said to it in the end.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import time
from pathlib import Path

import pytest
from fake_libxl import PROGRAM, REMUS_CBFLAGS, REMUS_RESTORE_CBFLAGS, FakeLibxl, Message

GUEST = "pv64:mem=8M,writes=20,vcpus=2"
CHECKPOINT_RECORD = struct.pack("<II", 0xE, 0)
LIBXLS = struct.pack("<II", 2, 16) + struct.pack("<IIQ", 2, 0, 7) + struct.pack("<II", 4, 0)
"""An EMULATOR_XENSTORE_DATA of libxl's, and its CHECKPOINT_END."""


class Link:
    """The saver's end of the link: serves its helper, and writes libxl's records behind each CHECKPOINT."""

    def __init__(self, tmp_path: Path, **more: object) -> None:
        env = {"PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": GUEST, **more.pop("env", {})}  # type: ignore[dict-item]
        self.libxl = FakeLibxl(
            tmp_path, program=PROGRAM, env=env, cbflags=REMUS_CBFLAGS, stream_type=1, **more  # type: ignore[arg-type]
        )

    def settled(self) -> bool:
        """Waits until all that the helper has written has been read, which must end with CHECKPOINT."""
        until = time.monotonic() + 10
        while self.libxl.stream[-8:] != CHECKPOINT_RECORD and time.monotonic() < until:
            time.sleep(0.01)
        return bytes(self.libxl.stream[-8:]) == CHECKPOINT_RECORD

    def serve(self, checkpoints: int, *, postcopy: int = 1) -> None:
        """Plays libxl up to so many checkpoints, then the link breaks."""
        while True:
            message = self.libxl.next_message()
            if message.name == "suspend":
                self.libxl.answer(1)
            elif message.name == "postcopy":
                assert self.settled(), "the guest goes on once all is written"
                self.libxl.answer(postcopy)
            elif message.name == "checkpoint":
                self.libxl.stream += LIBXLS
                checkpoints -= 1
                self.libxl.answer(int(checkpoints > 0))
            elif message.name == "complete":
                assert self.libxl.finish() == 0
                return


def order(messages: list[Message]) -> list[str]:
    """The callbacks, in their order."""
    return [m.name for m in messages if m.name not in ("log", "progress")]


def protected(tmp_path: Path, checkpoints: int = 3) -> bytes:
    """A stream of so many checkpoints, as it arrives at the other end."""
    link = Link(tmp_path)
    with link.libxl:
        link.serve(checkpoints)
        return bytes(link.libxl.stream)


def test_libxls_order(tmp_path: Path) -> None:
    link = Link(tmp_path)
    with link.libxl as libxl:
        link.serve(3)
        assert order(libxl.messages) == ["suspend", "postcopy", "checkpoint"] * 3 + ["complete"]
        assert libxl.completed == (-1, errno.EPIPE)
        assert "libxl ended the checkpoints of domain 7 after 3 of them (answer 0)" in libxl.logged(8)[0]
        assert re.match(r"domain 7: 3 checkpoints; each after the first one \d+ pages, ", libxl.logged(5)[0])
        assert libxl.stream.count(CHECKPOINT_RECORD + LIBXLS) == 3
        assert libxl.stderr == ""


def test_libxl_does_not_let_the_guest_go_on(tmp_path: Path) -> None:
    link = Link(tmp_path)
    with link.libxl as libxl:
        link.serve(3, postcopy=0)
        assert order(libxl.messages) == ["suspend", "postcopy", "complete"]
        assert libxl.completed[0] == -1
        assert "did not let domain" in libxl.logged(8)[0]


def test_sigterm_between_two_checkpoints(tmp_path: Path) -> None:
    """libxl's abort. It is answered first: an answer that nobody reads would be taken for the next one."""
    link = Link(tmp_path)
    with link.libxl as libxl:
        for name in ("suspend", "postcopy", "checkpoint"):
            libxl.next_named(name)
            if name == "checkpoint":
                libxl.terminate()
            libxl.answer(1)
        while libxl.next_message().name != "complete":
            pass
        assert libxl.finish() == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        assert "SIGTERM" in libxl.logged(8)[0]


def test_a_timeout_is_for_saves_that_end(tmp_path: Path) -> None:
    link = Link(tmp_path, env={"PYXCSR_TIMEOUT": "1h"})
    with link.libxl as libxl:
        link.serve(1)
        assert "the timeout does not hold" in libxl.logged(7)[0]


class OtherEnd:
    """The receiver's end: what has arrived is fed to its helper, and libxl's records are taken out between."""

    def __init__(self, tmp_path: Path, data: bytes) -> None:
        env = {"PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": GUEST}
        self.libxl = FakeLibxl(
            tmp_path, program=PROGRAM, mode="--restore-domain", env=env, cbflags=REMUS_RESTORE_CBFLAGS, stream_type=1,
            feed=data,
        )  # fmt: skip

    def serve(self, *, answers: dict[int, int] | None = None) -> int:
        """Plays libxl; returns how many checkpoints were whole. ``answers``: to a checkpoint's message, by number."""
        self.libxl.start_ending()
        asked = whole = 0
        while True:
            message = self.libxl.next_message()
            if message.name == "static_data_done":
                self.libxl.answer(0)
            elif message.name == "checkpoint":
                asked += 1
                answer = (answers or {}).get(asked, 1 if self._take() else 2)
                whole += answer == 1
                self.libxl.answer(answer)
            elif message.name == "complete":
                assert self.libxl.finish() == 0
                return whole

    def _take(self) -> bool:
        """libxl's records, from the descriptor that the helper reads from."""
        got = b""
        while len(got) < len(LIBXLS):
            piece = os.read(self.libxl.left_fd, len(LIBXLS) - len(got))
            if not piece:
                return False
            got += piece
        assert got == LIBXLS, "the helper has read more than its own"
        return True


def wholes(data: bytes) -> int:
    return data.count(CHECKPOINT_RECORD + LIBXLS)


@pytest.mark.parametrize("left", [0, 1, 20, len(LIBXLS), len(LIBXLS) + 8, 5000, 30_000])
def test_the_other_end_takes_over(tmp_path: Path, left: int) -> None:
    """The link breaks so many bytes before the end of the third checkpoint."""
    data = protected(tmp_path)
    data = data[: len(data) - left]
    end = OtherEnd(tmp_path, data)
    with end.libxl as libxl:
        whole = end.serve()
        assert whole == wholes(data) >= 1
        names = order(libxl.messages)
        assert names[0] == "static_data_done" and names[-2:] == ["restore_results", "complete"]
        assert set(names[1:-2]) == {"checkpoint"}
        assert libxl.completed == (0, 0)
        assert "takes over" in libxl.logged(7)[0]
        assert re.search(f"restored from checkpoint {whole} of a version 3 stream", libxl.logged(5)[0])
        assert libxl.stderr == ""


def test_libxl_fails_at_a_later_checkpoint(tmp_path: Path) -> None:
    end = OtherEnd(tmp_path, protected(tmp_path))
    with end.libxl as libxl:
        assert end.serve(answers={2: 0}) == 1
        assert libxl.completed[0] == -1
        assert "could not take its part of a checkpoint" in libxl.logged(8)[0]


def test_there_is_nothing_to_fail_over_to(tmp_path: Path) -> None:
    data = protected(tmp_path, 1)
    end = OtherEnd(tmp_path, data[: len(data) - 1])
    with end.libxl as libxl:
        assert end.serve() == 0
        assert libxl.completed[0] == -1
        assert "there is no whole checkpoint" in libxl.logged(8)[0]


def test_sigterm_is_no_failover(tmp_path: Path) -> None:
    """libxl gives up: the domain is not to run here."""
    end = OtherEnd(tmp_path, protected(tmp_path))
    with end.libxl as libxl:
        libxl.next_named("static_data_done")
        libxl.answer(0)
        libxl.next_named("checkpoint")
        assert end._take()
        libxl.terminate()
        libxl.answer(1)
        while libxl.next_message().name != "complete":
            pass
        assert libxl.finish() == 0
        assert libxl.completed == (-1, errno.ECANCELED)
