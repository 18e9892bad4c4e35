"""The messages as bytes, against bytes written by hand, and the channel over real pipes."""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import threading
import time

import pytest

from pyxcsr.errors import HypervisorError, UsageError
from pyxcsr.helper import protocol
from pyxcsr.helper.protocol import Channel, ChannelClosed

little = pytest.mark.skipif(sys.byteorder != "little", reason="bytes written by hand are little-endian")


@little
@pytest.mark.parametrize(
    ("made", "by_hand"),
    [
        (protocol.encode_log(8, 22, "ab", "no"),
         b"\x18\x00" b"\x01\x00" b"\x08\x00\x00\x00" b"\x16\x00\x00\x00" b"\x03\x00\x00\x00ab\x00"
         b"\x03\x00\x00\x00no\x00"),
        (protocol.encode_log(1, protocol.NO_ERRNO, "", ""),
         b"\x14\x00" b"\x01\x00" b"\x01\x00\x00\x00" b"\xff\xff\xff\xff" b"\x01\x00\x00\x00\x00"
         b"\x01\x00\x00\x00\x00"),
        (protocol.encode_progress("p", "q", 1, 0x0102030405060708),
         b"\x1e\x00" b"\x02\x00" b"\x02\x00\x00\x00p\x00" b"\x02\x00\x00\x00q\x00"
         b"\x01\x00\x00\x00\x00\x00\x00\x00" b"\x08\x07\x06\x05\x04\x03\x02\x01"),
        (protocol.encode_suspend(), b"\x02\x00\x03\x00"),
        (protocol.encode_switch_qemu_logdirty(300, True),
         b"\x0a\x00\x07\x00" b"\x2c\x01\x00\x00" b"\x01\x00\x00\x00"),
        (protocol.encode_complete(0, 0), b"\x0a\x00\x0a\x00" + bytes(8)),
        (protocol.encode_complete(-1, 5), b"\x0a\x00\x0a\x00" b"\xff\xff\xff\xff" b"\x05\x00\x00\x00"),
    ],
    ids=["log", "log-empty", "progress", "suspend", "switch_qemu_logdirty", "complete", "complete-failed"],
)
def test_messages(made: bytes, by_hand: bytes) -> None:
    assert made == by_hand


@little
@pytest.mark.parametrize(
    ("data", "value"),
    [(b"\x01\x00\x00\x00", 1), (bytes(4), 0), (b"\xff\xff\xff\xff", -1), (b"\x00\x00\x00\x80", -(1 << 31))],
)
def test_answers(data: bytes, value: int) -> None:
    assert protocol.decode_answer(data) == value


@pytest.mark.parametrize("size", [0, 3, 5])
def test_an_answer_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="4 bytes"):
        protocol.decode_answer(bytes(size))


@pytest.mark.parametrize(
    ("text", "limit", "data"),
    [
        ("", 8, b"\0"),
        ("12345678", 8, b"12345678\0"),
        ("123456789", 8, b"12345...\0"),
        ("ééééé", 8, "éé...\0".encode()),  # not half a character
        ("a\nb\0c\r", 8, b"a b c \0"),
        ("\udcff", 8, b"?\0"),  # undecodable file names come as lone surrogates
    ],
)
def test_strings(text: str, limit: int, data: bytes) -> None:
    assert protocol.encode_string(text, limit) == struct.pack("=I", len(data)) + data


def test_the_longest_messages_fit() -> None:
    huge = "x" * 100_000
    for message in (protocol.encode_log(8, 5, huge, huge), protocol.encode_progress(huge, huge, 1, 2)):
        (length,) = struct.unpack_from("=H", message)
        assert length == len(message) - 2


def test_a_message_beyond_u16_is_refused() -> None:
    assert len(protocol.frame(1, bytes(0xFFFF - 2))) == 0xFFFF + 2
    with pytest.raises(ValueError, match="does not fit"):
        protocol.frame(1, bytes(0xFFFF - 1))


class Pipes:
    """A channel and libxl's ends of its pipes."""

    def __init__(self, cbflags: int = 1 << 3) -> None:
        answers_fd, self.answer_fd = os.pipe()
        self.message_fd, messages_fd = os.pipe()
        self.fds = {answers_fd, self.answer_fd, self.message_fd, messages_fd}
        self.channel = Channel(answers_fd, messages_fd, cbflags)

    def close(self, fd: int) -> None:
        os.close(fd)
        self.fds.remove(fd)


@pytest.fixture
def pipes():
    made = Pipes()
    yield made
    for fd in made.fds:
        os.close(fd)


@pytest.mark.parametrize("answer", [1, 0, -1, 77])
def test_suspend_asks_and_returns_the_answer(pipes: Pipes, answer: int) -> None:
    os.write(pipes.answer_fd, struct.pack("=i", answer))
    assert pipes.channel.suspend() == answer
    assert os.read(pipes.message_fd, 100) == protocol.encode_suspend()


@pytest.mark.parametrize("ask", ["suspend", "postcopy", "checkpoint"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_guest_is_watched_until_the_answer_comes(ask: str, fails: bool) -> None:
    """And the answer is read though watching fails: it would be taken for the next one."""
    pipes, calls = Pipes(1 << 3 | 1 << 4 | 1 << 5), 0

    def watch() -> None:
        nonlocal calls
        calls += 1
        if fails or calls == 3:
            os.write(pipes.answer_fd, struct.pack("=i", 6))
        if fails:
            raise HypervisorError("Xen does not say", op="domain_info", errno=3)

    pipes.channel.watch = watch
    assert getattr(pipes.channel, ask)() == 6
    assert calls == (1 if fails else 3)
    pipes.channel.watch = None
    os.write(pipes.answer_fd, struct.pack("=i", 7))
    assert getattr(pipes.channel, ask)() == 7
    for fd in pipes.fds:
        os.close(fd)


def test_libxl_dies_while_the_guest_is_watched(pipes: Pipes) -> None:
    pipes.channel.watch = lambda: pipes.answer_fd in pipes.fds and pipes.close(pipes.answer_fd)
    with pytest.raises(ChannelClosed, match="instead of answering"):
        pipes.channel.suspend()


def test_an_answer_in_pieces(pipes: Pipes) -> None:
    def slowly() -> None:
        for byte in struct.pack("=i", 0x01020304):
            os.write(pipes.answer_fd, bytes([byte]))
            time.sleep(0.02)

    thread = threading.Thread(target=slowly)
    thread.start()
    assert pipes.channel.suspend() == 0x01020304
    thread.join()


def test_signals_cut_neither_messages_nor_answers_short(pipes: Pipes) -> None:
    """A message larger than the pipe, an answer that comes late, and signals all the while."""
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    taken = bytearray()

    def libxl() -> None:
        while len(taken) < 300_000 and select.select([pipes.message_fd], [], [], 5)[0]:
            time.sleep(0.001)
            taken.extend(os.read(pipes.message_fd, 4096))
        time.sleep(0.05)
        os.write(pipes.answer_fd, struct.pack("=i", 5))

    thread = threading.Thread(target=libxl)
    thread.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        protocol.write_all(pipes.channel._messages_fd, bytes(300_000 - 4))
        assert pipes.channel.suspend() == 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        thread.join()
    assert seen
    assert bytes(taken) == bytes(300_000 - 4) + protocol.encode_suspend()


def test_a_callback_without_its_bit_is_not_sent(pipes: Pipes) -> None:
    os.write(pipes.answer_fd, bytes(4))  # should it be sent after all, it shall not wait
    with pytest.raises(UsageError, match="switch_qemu_logdirty"):
        pipes.channel.switch_qemu_logdirty(1, True)
    os.set_blocking(pipes.message_fd, False)
    with pytest.raises(BlockingIOError):
        os.read(pipes.message_fd, 1)


@pytest.mark.parametrize("nr_bytes", [0, 3])
def test_eof_instead_of_an_answer(pipes: Pipes, nr_bytes: int) -> None:
    os.write(pipes.answer_fd, bytes(nr_bytes))
    pipes.close(pipes.answer_fd)
    with pytest.raises(ChannelClosed, match="instead of answering"):
        pipes.channel.suspend()


def test_epipe(pipes: Pipes) -> None:
    pipes.close(pipes.message_fd)
    with pytest.raises(ChannelClosed, match="Broken pipe"):
        pipes.channel.log(8, "nobody listens")


@pytest.mark.parametrize("end", ["answer_fd", "message_fd"])
def test_peer_gone(pipes: Pipes, end: str) -> None:
    assert not pipes.channel.peer_gone()
    os.write(pipes.answer_fd, b"data that is not an end")
    assert not pipes.channel.peer_gone()
    pipes.close(getattr(pipes, end))
    assert pipes.channel.peer_gone()
