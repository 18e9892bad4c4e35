"""Rules on what libxl and xl put around a libxc stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from pyxcsr.container import config as conf
from pyxcsr.container import reader as cont
from pyxcsr.container.reader import Body, LibxlHeader, LibxlType, OptionalData, RecordHeader, XlHeader
from pyxcsr.stream.rules.complaints import Complaints
from pyxcsr.stream.wrapping import Container

BODY_KEPT = 1 << 20
"""Bytes of a libxl record's body that are looked at; only xenstore data, which is some hundred bytes, needs any."""

_T = LibxlType
_EMPTY = frozenset({_T.END, _T.LIBXC_CONTEXT, _T.CHECKPOINT_END})
_CHECKPOINT_STATE_LENGTH = 8
_PATH = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@")


# The xl header and the configuration


def check_xl_header(header: XlHeader, complaints: Complaints) -> None:
    """The flags."""
    unknown = header.mandatory_flags & ~cont.XL_MANDATORY
    if unknown:
        text = f"unknown mandatory flags 0x{unknown:x}: xl refuses the file"
        complaints.add("xl-mandatory-flags", text, offset=0, record=cont.XL_HEADER_NAME)
    if header.optional_flags:
        text = f"optional flags 0x{header.optional_flags:x}, none is defined"
        complaints.add("xl-optional-flags", text, offset=0, record=cont.XL_HEADER_NAME)


def check_config(header: XlHeader, data: OptionalData, complaints: Complaints, *, converted: bool) -> None:
    """The configuration: its length; and if it is JSON its NUL and its form.

    ``converted``: the libxl stream was a legacy one. xl of that time saved guests that it knew no configuration of.
    """

    def complain(rule: str, text: str, *, note: bool = False) -> None:
        complaints.add(rule, text, offset=data.offset, record=cont.CONFIG_NAME, note=note)

    left = header.optional_length - cont.CONFIG_LENGTH.size
    if not header.optional_length or data.declared == 0:
        complain("xl-config", "there is no configuration: xl restore needs one as a file besides", note=converted)
    if data.declared is None:
        if header.optional_length:
            text = f"{header.optional_length} bytes of optional data are too few for the configuration's length"
            complain("xl-config-length", text)
        return
    if data.declared != left:
        complain("xl-config-length", f"length {data.declared}, but there are {left} bytes of optional data for it")
    if data.config is None:
        complain("xl-config-limit", f"{data.declared} bytes, more than {conf.CONFIG_MAX}: not looked at")
    elif data.config and header.mandatory_flags & cont.XL_CONFIG_IS_JSON:
        _check_json(data.config, complain)


def _check_json(config: bytes, complain: Any) -> None:
    """Of a configuration that is not JSON, as xl wrote it up to Xen 4.4, xl takes the bytes that its length tells."""
    nul = config.find(b"\0")
    if nul < 0:
        complain("xl-config-nul", "no NUL at the end: xl reads on beyond it")
    elif nul != len(config) - 1:
        complain("xl-config-nul", f"a NUL at byte {nul} of {len(config)}: xl reads no further")
    try:
        problem = conf.problem(conf.parse(_without_nul(config)))
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        complain("xl-config-json", problem)


def _without_nul(config: bytes) -> bytes:
    return config.split(b"\0", 1)[0]


def note_config(header: XlHeader, data: OptionalData, facts: Container) -> None:
    """Notes what is in xl's header and optional data."""
    facts.mandatory_flags, facts.optional_flags = header.mandatory_flags, header.optional_flags
    if data.declared is None:
        return
    facts.config_offset = data.offset + cont.CONFIG_LENGTH.size
    facts.config_bytes = data.declared
    if data.config and header.mandatory_flags & cont.XL_CONFIG_IS_JSON:
        try:
            facts.config = conf.parse(_without_nul(data.config))
        except ValueError:
            return  # check_config says why
        facts.guest = conf.summary(facts.config)._asdict()


# The libxl stream


def check_libxl_header(header: LibxlHeader, offset: int, complaints: Complaints) -> None:
    """The options."""
    reserved = header.options & cont.LIBXL_OPTIONS_RESERVED
    if reserved:
        text = f"reserved option bits 0x{reserved:x} are set"
        complaints.add("libxl-options", text, offset=offset, record=cont.LIBXL_HEADER_NAME)


def check_body(header: RecordHeader, body: Body, complaints: Complaints) -> None:
    """A record's length, padding and content."""

    def complain(rule: str, text: str) -> None:
        complaints.add(rule, text, offset=header.offset, record=header.name)

    if any(body.padding):
        complain("padding", f"padding is {body.padding.hex()}, not zero")
    if header.code in _EMPTY and header.length:
        complain("libxl-length", f"{header.length} bytes, must be 0")
    if header.code == _T.CHECKPOINT_STATE and header.length != _CHECKPOINT_STATE_LENGTH:
        complain("libxl-length", f"{header.length} bytes, must be {_CHECKPOINT_STATE_LENGTH}")
    if header.code in cont.EMULATOR_TYPES:
        _check_emulator(header, body, complain)


def _check_emulator(header: RecordHeader, body: Body, complain: Any) -> None:
    size = cont.EMULATOR_HEADER.size
    if header.length < size:
        complain("libxl-length", f"{header.length} bytes, must be at least {size}")
        return
    emulator, _index = cont.EMULATOR_HEADER.unpack_from(body.head)
    if emulator not in cont.EMULATORS:
        complain("emulator-id", f"emulator {emulator} is not known")
    if header.code == _T.EMULATOR_XENSTORE_DATA:
        if header.length > len(body.head):
            complain("emulator-xenstore", f"{header.length} bytes, more than {BODY_KEPT}: not looked at")
            return
        problem = _why_bad_pairs(body.head[size:])
        if problem is not None:
            complain("emulator-xenstore", problem)


def _why_bad_pairs(data: bytes) -> Optional[str]:
    if not data:
        return None
    if not data.endswith(b"\0"):
        return "the last string has no NUL"
    strings = data[:-1].split(b"\0")
    if len(strings) % 2:
        return f"{len(strings)} strings, which are not pairs of path and value"
    for path in strings[::2]:
        if not path:
            return "an empty path"
        if path.startswith(b"/"):
            return f"path {path.decode('latin-1')!a} is not relative"
        if not _PATH.issuperset(path):
            return f"path {path.decode('latin-1')!a} has characters that xenstore does not allow"
    return None


class CheckpointRules:
    """libxl's records of one checkpoint: the device model's, and then CHECKPOINT_END."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._place = 0

    def check(self, header: RecordHeader) -> bool:
        """The next record; False if the stream cannot be followed any further."""
        place = _PLACES.get(header.code, 0)
        if header.code == _T.CHECKPOINT_END:
            return True
        if header.code not in cont.EMULATOR_TYPES:
            text = "ends what is known of Remus: a stream of COLO, or none that has checkpoints"
            self._complaints.add("libxl-checkpoint", text, offset=header.offset, record=header.name)
            return False
        if place <= self._place:
            text = "comes once in a checkpoint, the xenstore data ahead of the context"
            self._complaints.add("libxl-order", text, offset=header.offset, record=header.name)
        self._place = place
        return True


_PLACES = {int(_T.LIBXC_CONTEXT): 0, int(_T.EMULATOR_XENSTORE_DATA): 1, int(_T.EMULATOR_CONTEXT): 2}


class OrderRules:
    """Follows the sequence of libxl's records."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._seen: dict[int, RecordHeader] = {}

    def check(self, header: RecordHeader) -> None:
        """The next record: may it be there, and here?"""
        code = header.code
        if code not in list(_T):
            self._complain("libxl-unknown-record", header, "no such record is defined: libxl refuses the stream")
            return
        if code in cont.CHECKPOINT_TYPES:
            self._complain("libxl-checkpoint", header, "belongs to a checkpointed stream, not to a plain one")
            return
        first = self._seen.setdefault(code, header)
        if first is not header:
            self._complain("libxl-once", header, f"comes once; the first was at offset 0x{first.offset:x}")
            return
        self._check_place(header)

    def _check_place(self, header: RecordHeader) -> None:
        place = _PLACES.get(header.code)
        if place is None:
            return
        later = [seen for code, seen in self._seen.items() if _PLACES.get(code, -1) > place]
        if later:
            text = f"belongs ahead of {later[0].name}, which is at offset 0x{later[0].offset:x}"
            self._complain("libxl-order", header, text)

    def finish(self, end: RecordHeader, stream: Optional[str], guest: Optional[Mapping[str, Any]]) -> None:
        """Asks for what must have come, for a guest of the ``stream``'s kind (PV, HVM) and the configuration's."""
        if _T.LIBXC_CONTEXT not in self._seen:
            self._complain("libxl-missing", end, "there is no LIBXC_CONTEXT record")
        kind = guest["type"] if guest else None
        wanted = conf.STREAM_KINDS.get(kind) if isinstance(kind, str) else None
        if wanted and stream and wanted != stream:
            text = f"the configuration is for a guest of type {kind}, but the libxc stream holds a {stream} guest"
            self._complain("xl-config-guest", end, text)
            return
        if stream == "PV" or kind == "pvh":
            self._refuse_emulators(kind if isinstance(kind, str) else "pv")
        elif kind == "hvm" and _T.EMULATOR_CONTEXT not in self._seen:
            self._miss_emulator(end, has_none=bool(guest and guest.get("device_model") == "none"))

    def _miss_emulator(self, end: RecordHeader, *, has_none: bool) -> None:
        """Xen 4.7 to 4.9 had guests of the type hvm without a device model: PVH guests, before there was that type."""
        text = "there is no EMULATOR_CONTEXT record, which an HVM guest needs"
        if has_none:
            text = "there is no EMULATOR_CONTEXT record: the configuration is for an HVM guest without a device model"
        self._complain("libxl-missing", end, text, note=has_none)

    def _refuse_emulators(self, kind: str) -> None:
        for code in sorted(cont.EMULATOR_TYPES & self._seen.keys()):
            self._complain("emulator-guest", self._seen[code], f"a {kind} guest has no emulator: libxl refuses this")

    def _complain(self, rule: str, header: RecordHeader, text: str, *, note: bool = False) -> None:
        self._complaints.add(rule, text, offset=header.offset, record=header.name, note=note)
