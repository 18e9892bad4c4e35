"""The messages between a save helper and libxl, as bytes, and the channel that carries them.

A message is ``length:u16`` (of what follows), ``number:u16``, then its fields, all in host byte order
and size without padding; a string is ``size:u32`` (its NUL counted), the bytes and the NUL. libxl answers
some messages with one int32. Source: Xen's ``tools/libs/light/libxl_save_msgs_gen.pl`` (the table of
messages) and ``libxl_save_helper.c`` (the framing).
"""

from __future__ import annotations

import os
import struct

from pyxcsr.errors import UsageError, XcsrError
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import suppress

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

WATCH_MS = 4
"""Milliseconds between two calls of Channel.watch."""

LOG = 1
PROGRESS = 2
SUSPEND = 3
POSTCOPY = 4
CHECKPOINT = 5
WAIT_CHECKPOINT = 6
SWITCH_QEMU_LOGDIRTY = 7
STATIC_DATA_DONE = 8
RESTORE_RESULTS = 9
COMPLETE = 10

CALLBACKS = {
    SUSPEND: "suspend",
    POSTCOPY: "postcopy",
    CHECKPOINT: "checkpoint",
    WAIT_CHECKPOINT: "wait_checkpoint",
    SWITCH_QEMU_LOGDIRTY: "switch_qemu_logdirty",
    STATIC_DATA_DONE: "static_data_done",
    RESTORE_RESULTS: "restore_results",
}
"""Messages that libxl takes only if their bit is set in CBFLAGS."""

XTL_DEBUG = 1
XTL_INFO = 5
XTL_WARN = 7
XTL_ERROR = 8
"""Levels of the log message (xentoollog.h)."""

NO_ERRNO = 0xFFFFFFFF
"""The log message's errno when there is none: -1 to xentoollog, which otherwise appends strerror() of it."""

MAX_CONTEXT = 64
MAX_TEXT = 8192
"""Longest strings sent, in bytes without the NUL. The protocol's own limit is 65535 for a whole message."""

_U16 = struct.Struct("=H")
_I32 = struct.Struct("=i")


class ChannelClosed(XcsrError):
    """libxl's end of the pipes is gone (EOF or EPIPE): nobody is left to report to. Facts: direction."""


class LibxlRefused(XcsrError):
    """libxl could not do its part of a save or a restore. Facts: domid, answer."""


def encode_string(text: str, limit: int) -> bytes:
    """A STRING field: ``text`` as UTF-8, cut to ``limit`` bytes at a character's border.

    NULs would end the string early for C, and line ends break xl's log: both become spaces.
    """
    for ch in "\0\n\r":
        text = text.replace(ch, " ")
    data = text.encode("utf-8", "replace")
    if len(data) > limit:
        data = data[: limit - 3].decode("utf-8", "ignore").encode("utf-8") + b"..."
    return struct.pack("=I", len(data) + 1) + data + b"\0"


def frame(number: int, fields: bytes = b"") -> bytes:
    """A whole message: length, number, fields. Raises ValueError if it does not fit a u16 length."""
    length = 2 + len(fields)
    if length > 0xFFFF:
        raise ValueError(f"message {number} of {length} bytes does not fit the protocol")
    return _U16.pack(length) + _U16.pack(number) + fields


def encode_log(level: int, errno: int, context: str, text: str) -> bytes:
    """Message 1. ``errno``: a positive error number, or NO_ERRNO."""
    fields = struct.pack("=II", level, errno)
    return frame(LOG, fields + encode_string(context, MAX_CONTEXT) + encode_string(text, MAX_TEXT))


def encode_progress(context: str, doing_what: str, done: int, total: int) -> bytes:
    """Message 2: ``done`` of ``total``, two C unsigned longs; xl shows a percentage."""
    fields = encode_string(context, MAX_CONTEXT) + encode_string(doing_what, MAX_CONTEXT)
    return frame(PROGRESS, fields + struct.pack("=QQ", done, total))


def encode_suspend() -> bytes:
    """Message 3; the answer is 0 if the guest did not suspend."""
    return frame(SUSPEND)


def encode_switch_qemu_logdirty(domid: int, enable: bool) -> bytes:
    """Message 7; the answer is 0 if all is well."""
    return frame(SWITCH_QEMU_LOGDIRTY, struct.pack("=II", domid, int(enable)))


def encode_static_data_done(missing: int) -> bytes:
    """Message 8; ``missing``: bit 0 CPUID policy, bit 1 MSR policy. The answer is 0 if all is well."""
    return frame(STATIC_DATA_DONE, struct.pack("=I", missing))


def encode_restore_results(store_gfn: int, console_gfn: int) -> bytes:
    """Message 9, without an answer: the frames of the new domain's rings."""
    return frame(RESTORE_RESULTS, struct.pack("=QQ", store_gfn, console_gfn))


def encode_complete(retval: int, errno: int) -> bytes:
    """Message 10, the last one: ``retval`` 0 or -1, and the error number that goes with -1."""
    return frame(COMPLETE, struct.pack("=ii", retval, errno))


def decode_answer(data: bytes) -> int:
    """The int32 that libxl answers with. Raises ValueError unless it is four bytes."""
    if len(data) != _I32.size:
        raise ValueError(f"an answer has {_I32.size} bytes, not {len(data)}")
    (value,) = _I32.unpack(data)
    return int(value)


def write_all(fd: int, data: bytes) -> None:
    """Writes all of ``data``; a signal (EINTR) does not lose any of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def read_exactly(fd: int, size: int) -> bytes:
    """Reads ``size`` bytes, however they are cut up; returns fewer only at EOF. Raises OSError."""
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            break
        data += piece
    return data


class Channel:
    """The pipes to libxl: messages out, answers in.

    ``cbflags``: libxl's callback bits; a callback whose bit is not set is refused here (UsageError), never
    sent. All methods raise ChannelClosed once libxl's end is gone. Not for use by two threads at once.
    """

    def __init__(self, answers_fd: int, messages_fd: int, cbflags: int = 0) -> None:
        self._answers_fd = answers_fd
        self._messages_fd = messages_fd
        self._cbflags = cbflags
        self.watch: Optional[Callable[[], None]] = None
        """Called every few milliseconds while a callback's answer is waited for: the guest may run meanwhile."""

    @classmethod
    def take_over_stdio(cls, cbflags: int) -> Channel:
        """Moves the protocol from fds 0 and 1 to private ones, so that nothing else can speak there.

        fd 1 becomes stderr (a stray print, or a C library's, then ends up in libxl's log instead of
        corrupting the protocol), fd 0 becomes /dev/null. Raises OSError if fd 0 or 1 is not open.
        """
        answers_fd = _duplicate_above_stdio(0)
        messages_fd = _duplicate_above_stdio(1)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # started without a stderr
            os.dup2(null, 1)
        if null > 2:
            os.close(null)
        return cls(answers_fd, messages_fd, cbflags)

    def has_callback(self, number: int) -> bool:
        """Whether libxl takes this callback."""
        return bool(self._cbflags >> number & 1)

    def log(self, level: int, text: str, *, errno: int = NO_ERRNO, context: str = "pyxcsr") -> None:
        """Puts a line into the log of the program above libxl (xl's stderr)."""
        self._send(encode_log(level, errno, context, text))

    def progress(self, doing_what: str, done: int, total: int, *, context: str = "pyxcsr") -> None:
        """Tells how far things are."""
        self._send(encode_progress(context, doing_what, done, total))

    def suspend(self) -> int:
        """Has libxl suspend the guest; returns its answer, 0 if that failed."""
        return self._call(SUSPEND, encode_suspend())

    def postcopy(self) -> int:
        """Has libxl let the guest go on after a checkpoint; above 0 if it did."""
        return self._call(POSTCOPY, frame(POSTCOPY))

    def checkpoint(self) -> int:
        """Has libxl do its part of a checkpoint. Its answer: 0 for an error, 1 to go on, 2 (restoring) to fail over."""
        return self._call(CHECKPOINT, frame(CHECKPOINT))

    def switch_qemu_logdirty(self, domid: int, enable: bool) -> int:
        """Has libxl switch the device model's tracking of its writes; 0 if all is well."""
        return self._call(SWITCH_QEMU_LOGDIRTY, encode_switch_qemu_logdirty(domid, enable))

    def static_data_done(self, missing: int) -> int:
        """Tells libxl what the stream's CPU policy lacks; 0 if it has made up for that."""
        return self._call(STATIC_DATA_DONE, encode_static_data_done(missing))

    def restore_results(self, store_gfn: int, console_gfn: int) -> None:
        """Tells libxl where the restored domain's rings are; it needs that before ``complete``."""
        self._send(encode_restore_results(store_gfn, console_gfn))

    def complete(self, retval: int, errno: int, log: str = "") -> None:
        """Sends the result and waits until libxl has taken it. Nothing may follow but exit(0).

        ``log``: a line for the log, sent before it in one write: libxl then wakes up once.
        """
        line = encode_log(XTL_INFO, NO_ERRNO, "pyxcsr", log) if log else b""
        self._send(line + encode_complete(retval, errno))
        self._answer()

    def peer_gone(self) -> bool:
        """True if libxl has closed its end of the pipes; never waits."""
        import select

        poll = select.poll()
        poll.register(self._answers_fd, 0)  # POLLHUP and POLLERR are reported unasked
        poll.register(self._messages_fd, 0)
        return bool(poll.poll(0))

    def _call(self, number: int, message: bytes) -> int:
        if not self.has_callback(number):
            raise UsageError(f"libxl offers no {CALLBACKS[number]} callback (CBFLAGS {self._cbflags})")
        self._send(message)
        if self.watch is not None:
            self._watch_until_answered(self.watch)
        return self._answer()

    def _watch_until_answered(self, watch: Callable[[], None]) -> None:
        """If ``watch`` fails, the answer is waited for without it: one that nobody reads is taken for the next one."""
        import select

        poll = select.poll()
        poll.register(self._answers_fd, select.POLLIN)
        with suppress(XcsrError):
            while not poll.poll(WATCH_MS):
                watch()

    def _send(self, message: bytes) -> None:
        try:
            write_all(self._messages_fd, message)
        except OSError as error:
            raise ChannelClosed(f"cannot write to libxl: {error.strerror}", direction="messages") from error

    def _answer(self) -> int:
        try:
            data = read_exactly(self._answers_fd, _I32.size)
        except OSError as error:
            raise ChannelClosed(f"cannot read from libxl: {error.strerror}", direction="answers") from error
        if len(data) < _I32.size:
            raise ChannelClosed("libxl closed the pipe instead of answering", direction="answers")
        return decode_answer(data)


def _duplicate_above_stdio(fd: int) -> int:
    """A close-on-exec duplicate of ``fd`` that is not 0, 1 or 2, even if one of those is free."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
