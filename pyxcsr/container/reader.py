"""What libxl and xl put around a libxc stream: layouts, and a reader that finds its way through them.

Sources: Xen's docs/specs/libxl-migration-stream (version 2) and the header that xl writes (tools/xl/xl.h).

An xl save file is the xl header, optional data (the guest's configuration), and a libxl stream. A libxl stream is a
header and records, framed as in a libxc stream; behind the body of its LIBXC_CONTEXT record, which is empty, stands
the whole libxc stream without any framing, and behind that libxl's records go on.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple, Optional

from pyxcsr.container.config import CONFIG_MAX
from pyxcsr.errors import NotAStream, StreamError, StreamTruncated
from pyxcsr.stream import format as fmt
from pyxcsr.stream.source import Source

# The xl header: magic, byte order, mandatory flags, optional flags, length of the optional data (48 bytes).
XL_HEADER = struct.Struct("<32s4I")
XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
XL_BYTE_ORDER = 0x0102_0304
XL_CONFIG_IS_JSON = 0x1
XL_STREAM_V2 = 0x2
XL_MANDATORY = XL_CONFIG_IS_JSON | XL_STREAM_V2
CONFIG_LENGTH = struct.Struct("<I")

# The libxl header: ident, version, options (big-endian, 16 bytes).
LIBXL_HEADER = struct.Struct(">8sII")
LIBXL_MAGIC = b"LibxlFmt"
LIBVIRT_MAGIC, XENSERVER_MAGIC = b"libvirt-xml\n \0 \r", b"XenSavedDomv2-\n"  # container/foreign.py reads these
LIBXL_VERSION = 2
LIBXL_BIG_ENDIAN = 0x1
LIBXL_CONVERTED = 0x2
LIBXL_OPTIONS_RESERVED = 0xFFFF_FFFC

EMULATOR_HEADER = struct.Struct("<II")  # emulator id, index; begins EMULATOR_* bodies
EMULATORS = {0: "unknown (of a legacy stream)", 1: "qemu-traditional", 2: "qemu-upstream"}

XL_HEADER_NAME = "xl header"
CONFIG_NAME = "xl configuration"
LIBXL_HEADER_NAME = "libxl header"


class Kind(str, enum.Enum):
    """What an input is, going by its first bytes."""

    LIBXC = "libxc"
    LIBXL = "libxl"
    XL = "xl"
    LIBVIRT = "libvirt"
    XENSERVER = "xenserver"

    @property
    def words(self) -> str:
        """The same in words."""
        return _WORDS[self.value]

    @property
    def an(self) -> str:
        """The same with an article."""
        return f"{'an' if self.value == 'xl' else 'a'} {self.words}"


OUTPUTS = (Kind.LIBXC, Kind.LIBXL, Kind.XL)
"""What can be written."""

_WORDS = {
    "libxc": "libxc stream",
    "libxl": "libxl stream",
    "xl": "xl save file",
    "libvirt": "libvirt save file",
    "xenserver": "XenServer suspend image",
}


class LibxlType(enum.IntEnum):
    """Record types of a libxl stream."""

    END = 0
    LIBXC_CONTEXT = 1
    EMULATOR_XENSTORE_DATA = 2
    EMULATOR_CONTEXT = 3
    CHECKPOINT_END = 4
    CHECKPOINT_STATE = 5


EMULATOR_TYPES = frozenset({LibxlType.EMULATOR_XENSTORE_DATA, LibxlType.EMULATOR_CONTEXT})
CHECKPOINT_TYPES = frozenset({LibxlType.CHECKPOINT_END, LibxlType.CHECKPOINT_STATE})
_NAMES = {int(kind): f"libxl {kind.name}" for kind in LibxlType}


def record_name(code: int) -> str:
    """The name of a libxl record type, "libxl" ahead of it: some have the same names as libxc's."""
    return _NAMES.get(code) or f"libxl unknown 0x{code:08x}"


def kind_of(source: Source) -> Kind:
    """What begins here; nothing is read. Whatever is no container is LIBXC, for its reader to say what it is."""
    head = source.peek(len(XL_MAGIC))
    if head == XL_MAGIC:
        return Kind.XL
    for magic, kind in ((LIBVIRT_MAGIC, Kind.LIBVIRT), (XENSERVER_MAGIC, Kind.XENSERVER)):
        if head.startswith(magic):
            return kind
    return Kind.LIBXL if head.startswith(LIBXL_MAGIC) else Kind.LIBXC


class XlHeader(NamedTuple):
    """xl's header. ``optional_length`` is how many bytes there are between it and the libxl stream."""

    mandatory_flags: int
    optional_flags: int
    optional_length: int

    def encode(self) -> bytes:
        """The bytes of the header."""
        return XL_HEADER.pack(XL_MAGIC, XL_BYTE_ORDER, *self)


class LibxlHeader(NamedTuple):
    """libxl's header, of a version that can be read."""

    version: int = LIBXL_VERSION
    options: int = 0

    def encode(self) -> bytes:
        """The bytes of the header."""
        return LIBXL_HEADER.pack(LIBXL_MAGIC, *self)


class OptionalData(NamedTuple):
    """What stands between xl's header and the libxl stream.

    ``offset`` is where it begins. ``declared`` is the configuration's length by its own length field, or None where
    there is no such field; ``config`` the configuration as far as it is there, or None if it is longer than
    CONFIG_MAX; ``rest`` how many bytes follow it.
    """

    offset: int
    declared: Optional[int]
    config: Optional[bytes]
    rest: int


class RecordHeader(NamedTuple):
    """The header of a libxl record. ``length`` is its body's, without padding."""

    offset: int
    code: int
    length: int

    @property
    def name(self) -> str:
        """The record type's name."""
        return record_name(self.code)

    @property
    def size(self) -> int:
        """Bytes that the whole record takes."""
        return fmt.RECORD_HEADER.size + self.length + fmt.padding_of(self.length)


class Body(NamedTuple):
    """A libxl record's body, as much of it as was asked for, and the padding behind it."""

    head: bytes
    padding: bytes


def record(code: LibxlType, body: bytes = b"") -> bytes:
    """A whole libxl record."""
    return fmt.RECORD_HEADER.pack(code, len(body)) + body + bytes(fmt.padding_of(len(body)))


def prefix(config: Optional[bytes]) -> bytes:
    """What stands ahead of a PV guest's libxc stream in a libxl stream or, with a configuration, in an xl save file.

    ``config`` is the JSON text without NUL.
    """
    libxl = LibxlHeader().encode() + record(LibxlType.LIBXC_CONTEXT)
    return libxl if config is None else xl_prefix(config) + libxl


def xl_prefix(config: bytes) -> bytes:
    """What stands ahead of the libxl stream in an xl save file."""
    text = config + b"\0"
    data = CONFIG_LENGTH.pack(len(text)) + text
    return XlHeader(XL_MANDATORY, 0, len(data)).encode() + data


SUFFIX = record(LibxlType.END)
"""What stands behind the libxc stream of a guest without a device model."""


class ContainerReader:
    """Reads the parts of a container from a Source, one after the other, in the order of the methods here.

    It insists on what it needs to find its way. What it raises has offset and record: NotAStream for something that
    cannot be read as such a part at all (legacy, big-endian, another version), StreamTruncated; OSError from reading.
    Memory is bounded by what is asked for, whatever lengths stand in the file.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def known_xl_header(self) -> XlHeader:
        """xl's header; StreamError if it has mandatory flags that are unknown."""
        offset = self.source.offset
        header = self.xl_header()
        unknown = header.mandatory_flags & ~XL_MANDATORY
        if unknown:
            text = f"unknown mandatory flags 0x{unknown:x} in xl's header"
            raise StreamError(text, offset=offset, record=XL_HEADER_NAME)
        return header

    def xl_header(self) -> XlHeader:
        """xl's header; one with unknown flags, too."""
        data = self._exactly(XL_HEADER.size, self.source.offset, XL_HEADER_NAME)
        magic, order, *fields = XL_HEADER.unpack(data)
        header = XlHeader(*fields)
        text = _why_not_xl(magic, order, header)
        if text is not None:
            raise NotAStream(text, offset=self.source.offset - XL_HEADER.size, record=XL_HEADER_NAME)
        return header

    def optional_data(self, header: XlHeader) -> OptionalData:
        """What follows xl's header."""
        offset, left = self.source.offset, header.optional_length
        declared: Optional[int] = None
        if left >= CONFIG_LENGTH.size:
            (declared,) = CONFIG_LENGTH.unpack(self._exactly(CONFIG_LENGTH.size, offset, CONFIG_NAME))
            left -= CONFIG_LENGTH.size
        wanted = min(declared or 0, left)
        config: Optional[bytes] = None
        if wanted <= CONFIG_MAX:
            config = self._exactly(wanted, offset, CONFIG_NAME)
        else:
            self._skip(wanted, offset, CONFIG_NAME)
        self._skip(left - wanted, offset, CONFIG_NAME)
        return OptionalData(offset, declared, config, left - wanted)

    def says_converted(self) -> bool:
        """Whether a libxl header follows that says that the stream was a legacy one; nothing is read."""
        head = self.source.peek(LIBXL_HEADER.size)
        if len(head) < LIBXL_HEADER.size:
            return False
        magic, _, options = LIBXL_HEADER.unpack(head)
        return magic == LIBXL_MAGIC and bool(options & LIBXL_CONVERTED)

    def libxl_header(self) -> LibxlHeader:
        """libxl's header; one with unknown options, too."""
        offset = self.source.offset
        magic, version, options = LIBXL_HEADER.unpack(self._exactly(LIBXL_HEADER.size, offset, LIBXL_HEADER_NAME))
        text = _why_not_libxl(magic, version, options)
        if text is not None:
            raise NotAStream(text, offset=offset, record=LIBXL_HEADER_NAME)
        return LibxlHeader(version, options)

    def record_header(self) -> RecordHeader:
        """The next libxl record's header. Behind LIBXC_CONTEXT's body it is for the caller to read the libxc stream."""
        offset = self.source.offset
        head = bytes(self.source.read(fmt.RECORD_HEADER.size))
        if len(head) < fmt.RECORD_HEADER.size:
            text = (
                f"the input ends at byte {self.source.offset} "
                + ("within a record's header" if head else "without an END record of libxl")
                + ": it is not complete"
            )
            raise StreamTruncated(
                text, offset=offset, record=None, wanted=fmt.RECORD_HEADER.size, got=len(head)
            )
        return RecordHeader(offset, *fmt.RECORD_HEADER.unpack(head))

    def libxc_context(self) -> None:
        """The record behind which the libxc stream begins; StreamError if another is next, or one with a body."""
        first = self.record_header()
        if first.code != LibxlType.LIBXC_CONTEXT or first.length:
            text = f"the first record is {first.name} of {first.length} bytes, not an empty LIBXC_CONTEXT"
            raise StreamError(text, offset=first.offset, record=first.name)

    def body(self, header: RecordHeader, room: int) -> Body:
        """A record's body up to ``room`` bytes; what is beyond is read and forgotten."""
        kept = min(header.length, room)
        head = self._exactly(kept, header.offset, header.name)
        self._skip(header.length - kept, header.offset, header.name)
        padding = self._exactly(fmt.padding_of(header.length), header.offset, header.name)
        return Body(head, padding)

    def _exactly(self, wanted: int, offset: int, name: str) -> bytes:
        got = bytes(self.source.read(wanted)) if wanted else b""
        self._check(wanted, len(got), offset, name)
        return got

    def _skip(self, wanted: int, offset: int, name: str) -> None:
        self._check(wanted, self.source.skip(wanted), offset, name)

    def _check(self, wanted: int, got: int, offset: int, name: str) -> None:
        if got < wanted:
            text = f"the input ends at byte {self.source.offset}: {got} of {wanted} bytes are there"
            raise StreamTruncated(text, offset=offset, record=name, wanted=wanted, got=got)


def _why_not_xl(magic: bytes, order: int, header: XlHeader) -> Optional[str]:
    if magic != XL_MAGIC:
        return "not a save file of xl"
    if order == int.from_bytes(XL_BYTE_ORDER.to_bytes(4, "little"), "big"):
        return "a save file of xl from a big-endian machine; no x86 saver writes one"
    if order != XL_BYTE_ORDER:
        return f"a save file of xl with the byte order 0x{order:08x} for 0x{XL_BYTE_ORDER:08x}: it is damaged"
    if not header.mandatory_flags & XL_STREAM_V2:
        return (
            "a save file of xl with a legacy (version 1) stream, of Xen 4.5 or older; restore it with xl, which "
            "converts it, or convert it with `convert-legacy-stream`, which comes with Xen"
        )
    return None


def _why_not_libxl(magic: bytes, version: int, options: int) -> Optional[str]:
    if magic != LIBXL_MAGIC:
        return f"not a libxl stream: it begins with {magic.hex(' ')}, not with {LIBXL_MAGIC.decode()!r}"
    if version != LIBXL_VERSION:
        age = ", a legacy one" if version < LIBXL_VERSION else ""
        return f"a libxl stream of version {version}{age}; this release reads version 2 (Xen 4.6 and later)"
    if options & LIBXL_BIG_ENDIAN:
        return "a big-endian libxl stream; no x86 saver writes one"
    return None
