"""The helper's command line, parsed by hand: argparse would cost more than all the rest of the start."""

from __future__ import annotations

from typing import NamedTuple, Optional

from pyxcsr.errors import UsageError

SAVE = "--save-domain"
RESTORE = "--restore-domain"

XCFLAGS_LIVE = 1
XCFLAGS_DEBUG = 2
"""Bits of XCFLAGS (xenguest.h)."""

STREAM_TYPES = {0: "plain", 1: "Remus", 2: "COLO"}

USAGE = """\
usage: pyxcsr-save-helper --save-domain STREAM_FD BACK_FD DOMID XCFLAGS CBFLAGS STREAM_TYPE
       pyxcsr-save-helper --restore-domain ...   (handed over to Xen's own helper)

libxl runs this program in place of libxl-save-helper when the environment says so:
    LIBXL_SAVE_HELPER=$(command -v pyxcsr-save-helper) xl save GUEST FILE
It is not for use by hand: `pyxcsr save` is.
"""

_SAVE_FIELDS = ("STREAM_FD", "BACK_FD", "DOMID", "XCFLAGS", "CBFLAGS", "STREAM_TYPE")
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


def parse_save(words: list[str]) -> SaveArguments:
    """Parses what follows ``--save-domain``. Raises UsageError that names the argument."""
    if len(words) != len(_SAVE_FIELDS):
        raise UsageError(f"{SAVE} takes {len(_SAVE_FIELDS)} arguments ({' '.join(_SAVE_FIELDS)}), "
                         f"not {len(words)}")
    stream_fd = _number("STREAM_FD", words[0], 0, _INT_MAX)
    if stream_fd <= 2:
        raise UsageError(f"STREAM_FD {stream_fd} is one of stdin, stdout, stderr: these carry the messages")
    back_fd = _number("BACK_FD", words[1], -1, _INT_MAX)
    return SaveArguments(
        stream_fd=stream_fd,
        back_fd=None if back_fd == -1 else back_fd,
        domid=_number("DOMID", words[2], 0, 0x7FEF),  # DOMID_FIRST_RESERVED - 1 (xen.h)
        xcflags=_number("XCFLAGS", words[3], 0, _U32_MAX),
        cbflags=_number("CBFLAGS", words[4], 0, _U32_MAX),
        stream_type=_number("STREAM_TYPE", words[5], 0, _U32_MAX),
    )


def _number(name: str, word: str, least: int, most: int) -> int:
    digits = word[1:] if word.startswith("-") else word
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"{name} is {word!r}, not a decimal number")
    if len(word) > len(str(_U32_MAX)) + 1 or not least <= int(word) <= most:
        raise UsageError(f"{name} is {word}, not in {least}..{most}")
    return int(word)
