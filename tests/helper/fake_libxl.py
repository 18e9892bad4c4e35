"""A libxl for tests: starts the helper over pipes as libxl does and speaks its protocol.

Decodes messages with its own few lines of struct, not with the helper's, so that a mistake there shows here.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import pyxcsr.errors

HERE = Path(__file__).parent
PACKAGE_PARENT = Path(pyxcsr.errors.__file__).parents[1]
PROGRAM = [sys.executable, "-m", "pyxcsr.helper.main"]
WITH_FAKE_CORE = [sys.executable, str(HERE / "fake_core.py")]

SUSPEND, COMPLETE = 3, 10
SUSPEND_BIT = 1 << SUSPEND
CBFLAGS = 136  # what libxl 4.17 and 4.20 pass: suspend, switch_qemu_logdirty
RESTORE_CBFLAGS = 768  # and for a restore: static_data_done, restore_results
REMUS_CBFLAGS = CBFLAGS | 1 << 4 | 1 << 5  # with Remus also postcopy and checkpoint
REMUS_RESTORE_CBFLAGS = RESTORE_CBFLAGS | 1 << 5  # and checkpoint
RINGS = ("2", "0", "1", "3")  # store's event channel and domain, console's event channel and domain

NAMES = {
    1: "log",
    2: "progress",
    3: "suspend",
    4: "postcopy",
    5: "checkpoint",
    7: "switch_qemu_logdirty",
    8: "static_data_done",
    9: "restore_results",
    10: "complete",
}


class Message(NamedTuple):
    """A decoded message."""

    name: str
    fields: tuple[object, ...]


class ProtocolError(Exception):
    """The helper sent something that libxl would not understand."""


def decode(body: bytes) -> Message:
    """Decodes what follows the length, and insists on every byte of it."""
    (number,) = struct.unpack_from("=H", body)
    if number not in NAMES:
        raise ProtocolError(f"message number {number}: {body!r}")
    rest = body[2:]
    fields: list[object] = []
    for kind in {1: "IISS", 2: "SSQQ", 3: "", 4: "", 5: "", 7: "II", 8: "I", 9: "QQ", 10: "ii"}[number]:
        if kind == "S":
            (size,) = struct.unpack_from("=I", rest)
            text = rest[4 : 4 + size]
            if size == 0 or len(text) != size or text.index(0) != size - 1:
                raise ProtocolError(f"bad string in {body!r}")
            fields.append(text[:-1].decode())
            rest = rest[4 + size :]
        else:
            fields.append(struct.unpack_from("=" + kind, rest)[0])
            rest = rest[struct.calcsize("=" + kind) :]
    if rest:
        raise ProtocolError(f"{len(rest)} bytes too many in {body!r}")
    return Message(NAMES[number], tuple(fields))


class FakeLibxl:
    """One run of the helper. A context manager: whatever is left of the process is killed at the end."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        program: list[str] = WITH_FAKE_CORE,
        arguments: list[str] | None = None,
        mode: str = "--save-domain",
        xcflags: int = 1,
        cbflags: int | None = None,
        stream_type: int = 0,
        domid: int = 7,
        env: dict[str, str] | None = None,
        read_stream: bool = True,
        feed: bytes | None = None,
    ) -> None:
        """``feed``: the stream to restore, in place of one to be read; the pipe stays open after it."""
        stream_out, stream_in = os.pipe()
        self.stream_fd, theirs = (stream_out, stream_in) if feed is None else (stream_in, stream_out)
        self.stream = bytearray()
        self._feed = feed
        if arguments is None:
            middle = [str(xcflags)] if mode == "--save-domain" else list(RINGS)
            if cbflags is None:
                cbflags = CBFLAGS if mode == "--save-domain" else RESTORE_CBFLAGS
            arguments = [mode, str(theirs), "-1", str(domid), *middle, str(cbflags), str(stream_type)]
        self._stderr_path = tmp_path / "stderr"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYXCSR_")}
        environ.update(PYTHONPATH=str(PACKAGE_PARENT), FAKE_RECORD=str(tmp_path / "record"), **(env or {}))
        with self._stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                pass_fds=[theirs], env=environ, cwd=tmp_path, bufsize=0,
            )
        self.left_fd = theirs if feed is not None else -1  # what the helper has not read can be read here
        self._ending: threading.Thread | None = None
        if feed is None:
            os.close(theirs)
        self.messages: list[Message] = []
        self._reader = threading.Thread(target=self._read_stream if feed is None else self._feed_stream, daemon=True)
        if read_stream:
            self.start_reading()

    def __enter__(self) -> FakeLibxl:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close_pipes()
        if self.left_fd >= 0:
            os.close(self.left_fd)  # ends a feeder that nobody reads from
        self.finish_reading()
        if self._ending is not None:
            self._ending.join()  # it may be about to close what is closed here
        if self.stream_fd >= 0:
            os.close(self.stream_fd)

    def left_over(self) -> bytes:
        """What the helper, which has ended, did not read of a fed stream."""
        ending = self.start_ending()
        data = b""
        while piece := os.read(self.left_fd, 1 << 16):
            data += piece
        ending.join()
        return data

    def start_ending(self) -> threading.Thread:
        """Has the fed stream end once all of it has been taken."""
        self._ending = threading.Thread(target=self.end_feed)
        self._ending.start()
        return self._ending

    def end_feed(self) -> None:
        """The fed stream ends here, as when the sender dies."""
        self.finish_reading()
        os.close(self.stream_fd)
        self.stream_fd = -1

    def start_reading(self) -> None:
        """Begins to take the stream, or to feed it."""
        self._reader.start()

    def finish_reading(self) -> None:
        """Waits for the stream's end."""
        if self._reader.is_alive():
            self._reader.join(10)
            assert not self._reader.is_alive(), "the stream does not end"

    def next_message(self, timeout: float = 20.0) -> Message:
        """The next message. Raises ProtocolError at EOF and TimeoutError."""
        (length,) = struct.unpack("=H", self._take(2, timeout))
        message = decode(self._take(length, timeout))
        self.messages.append(message)
        return message

    def next_named(self, name: str, timeout: float = 20.0) -> Message:
        """The next message of that name; others are noted and passed over."""
        while True:
            message = self.next_message(timeout)
            if message.name == name:
                return message

    def at_end(self) -> bool:
        """True if the helper has closed its stdout without a further byte."""
        assert self.process.stdout is not None
        return not self.process.stdout.read(1)

    def answer(self, value: int) -> None:
        """Answers the message that waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(struct.pack("=i", value))

    def serve(self, *, suspend: int = 1, static_data_done: int = 0, qemu: int = 0) -> int:
        """Plays libxl to the end; returns the exit status."""
        while True:
            message = self.next_message()
            if message.name == "suspend":
                self.answer(suspend)
            elif message.name == "static_data_done":
                self.answer(static_data_done)
            elif message.name == "switch_qemu_logdirty":
                self.answer(qemu)
            elif message.name == "complete":
                return self.finish()

    def finish(self) -> int:
        """Takes ``complete``, which has just come, to its end: answer, EOF, exit."""
        self.answer(0)
        assert self.at_end(), "something follows complete"
        return self.exit_status()

    def exit_status(self) -> int:
        """Waits for the exit, and the stream's end."""
        status = self.process.wait(20)
        if self._feed is None:
            self.finish_reading()
        return status

    def terminate(self) -> float:
        """SIGTERM, as libxl's abort; returns the time."""
        self.process.send_signal(signal.SIGTERM)
        return time.monotonic()

    def close_pipes(self) -> None:
        """What libxl's death looks like to the helper."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

    @property
    def stderr(self) -> str:
        """What the helper wrote to stderr so far."""
        return self._stderr_path.read_text()

    @property
    def completed(self) -> tuple[object, ...]:
        """(retval, errno) of the complete message, which must have come once, as the last."""
        found = [message for message in self.messages if message.name == "complete"]
        assert len(found) == 1
        assert self.messages[-1] is found[0]
        return found[0].fields

    def logged(self, level: int) -> list[str]:
        """The texts logged at that level."""
        return [str(m.fields[3]) for m in self.messages if m.name == "log" and m.fields[0] == level]

    def _take(self, size: int, timeout: float) -> bytes:
        assert self.process.stdout is not None
        data = b""
        end = time.monotonic() + timeout
        while len(data) < size:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no message within {timeout} s; stderr: {self.stderr}")
            piece = os.read(self.process.stdout.fileno(), size - len(data))
            if not piece:
                raise ProtocolError(f"EOF; stderr: {self.stderr}")
            data += piece
        return data

    def _feed_stream(self) -> None:
        view = memoryview(self._feed or b"")
        try:
            while view:
                view = view[os.write(self.stream_fd, view) :]
        except BrokenPipeError:
            return  # the test is over

    def _read_stream(self) -> None:
        while piece := os.read(self.stream_fd, 1 << 16):
            self.stream += piece
