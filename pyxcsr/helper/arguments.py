"""The helper's command line, parsed by hand: argparse would cost more than all the rest of the start."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.plain import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Optional

SAVE = "--save-domain"
RESTORE = "--restore-domain"

XCFLAGS_LIVE = 1
XCFLAGS_DEBUG = 2
"""Bits of XCFLAGS (xenguest.h)."""

PLAIN, REMUS, COLO = 0, 1, 2
STREAM_TYPES = {PLAIN: "plain", REMUS: "Remus", COLO: "COLO"}

USAGE = """\
usage: pyxcsr-save-helper --save-domain STREAM_FD BACK_FD DOMID XCFLAGS CBFLAGS STREAM_TYPE
       pyxcsr-save-helper --restore-domain STREAM_FD BACK_FD DOMID STORE_EVTCHN STORE_DOMID
                          CONSOLE_EVTCHN CONSOLE_DOMID CBFLAGS STREAM_TYPE

libxl runs this program in place of libxl-save-helper when the environment says so:
    LIBXL_SAVE_HELPER=$(command -v pyxcsr-save-helper) xl save GUEST FILE
    LIBXL_SAVE_HELPER=$(command -v pyxcsr-save-helper) xl restore FILE
It is not for use by hand: `pyxcsr save` and `pyxcsr restore` are.
"""

_SAVE_FIELDS = ("STREAM_FD", "BACK_FD", "DOMID", "XCFLAGS", "CBFLAGS", "STREAM_TYPE")
_RESTORE_FIELDS = ("STREAM_FD", "BACK_FD", "DOMID", "STORE_EVTCHN", "STORE_DOMID", "CONSOLE_EVTCHN",
                   "CONSOLE_DOMID", "CBFLAGS", "STREAM_TYPE")
_DOMID_MAX = 0x7FEF  # DOMID_FIRST_RESERVED - 1 (xen.h)
_INT_MAX = (1 << 31) - 1
_U32_MAX = (1 << 32) - 1


class SaveArguments(NamedTuple):
    """What libxl asks for; ``back_fd`` is None where there is no back channel."""

    stream_fd: int
    back_fd: Optional[int]
    domid: int
    xcflags: int
    cbflags: int
    stream_type: int

    @property
    def live(self) -> bool:
        """Whether the guest runs while its memory is copied."""
        return bool(self.xcflags & XCFLAGS_LIVE)


class RestoreArguments(NamedTuple):
    """What libxl asks for: the stream, the new domain, and its event channels with the domains at their ends."""

    stream_fd: int
    back_fd: Optional[int]
    domid: int
    store_evtchn: int
    store_domid: int
    console_evtchn: int
    console_domid: int
    cbflags: int
    stream_type: int


def parse_save(words: list[str]) -> SaveArguments:
    """Parses what follows ``--save-domain``. Raises UsageError that names the argument."""
    _count(SAVE, _SAVE_FIELDS, words)
    stream_fd, back_fd, domid = _fds_and_domid(words)
    return SaveArguments(
        stream_fd, back_fd, domid, *(_number(*pair, 0, _U32_MAX) for pair in zip(_SAVE_FIELDS[3:], words[3:]))
    )


def parse_restore(words: list[str]) -> RestoreArguments:
    """Parses what follows ``--restore-domain``. Raises UsageError that names the argument."""
    _count(RESTORE, _RESTORE_FIELDS, words)
    stream_fd, back_fd, domid = _fds_and_domid(words)
    rest = [
        _number(name, word, 0, _DOMID_MAX if name.endswith("_DOMID") else _U32_MAX)
        for name, word in zip(_RESTORE_FIELDS[3:], words[3:])
    ]
    return RestoreArguments(stream_fd, back_fd, domid, *rest)


def _count(mode: str, fields: tuple[str, ...], words: list[str]) -> None:
    if len(words) != len(fields):
        raise UsageError(f"{mode} takes {len(fields)} arguments ({' '.join(fields)}), not {len(words)}")


def _fds_and_domid(words: list[str]) -> tuple[int, Optional[int], int]:
    stream_fd = _number("STREAM_FD", words[0], 0, _INT_MAX)
    if stream_fd <= 2:
        raise UsageError(f"STREAM_FD {stream_fd} is one of stdin, stdout, stderr: these carry the messages")
    back_fd = _number("BACK_FD", words[1], -1, _INT_MAX)
    return stream_fd, None if back_fd == -1 else back_fd, _number("DOMID", words[2], 0, _DOMID_MAX)


def _number(name: str, word: str, least: int, most: int) -> int:
    digits = word[1:] if word.startswith("-") else word
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"{name} is {word!r}, not a decimal number")
    if len(word) > len(str(_U32_MAX)) + 1 or not least <= int(word) <= most:
        raise UsageError(f"{name} is {word}, not in {least}..{most}")
    return int(word)
