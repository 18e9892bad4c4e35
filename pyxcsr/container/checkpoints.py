"""One checkpoint out of a checkpointed stream (Remus), as a plain stream.

Such a stream goes on behind the state of the guest: CHECKPOINT, the pages written since, the state again, and so on. By
itself it is libxc's alone; in a container, behind each CHECKPOINT stand libxl's records of the device model, up to
CHECKPOINT_END, and a checkpoint is whole only then. A plain stream has all pages up to a checkpoint, and only the state
of that one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, NamedTuple, Optional, Union

from pyxcsr.container import reader as cont
from pyxcsr.container.copy import Conversion, Put
from pyxcsr.container.foreign import ForeignReader
from pyxcsr.container.reader import Kind, LibxlType
from pyxcsr.errors import StreamError, StreamTruncated, UsageError
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import DomainType, RecordType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.order import TAIL
from pyxcsr.stream.source import SKIP_STEP, Input, Source

IN_MEMORY = 4 << 20
"""Bytes of a checkpoint's state that are kept in memory; a longer one goes into a temporary file."""


class Piece(NamedTuple):
    """The header of a record, of libxc's or (``libxl``) libxl's layer. ``size``: of what follows it, with padding."""

    libxl: bool
    code: int
    head: bytes
    size: int
    offset: int


class Walk:
    """The records of a checkpointed stream, in both layers. What is not taken of one is passed over.

    Raises NotAStream, StreamError, OSError; a stream may end anywhere, which is no error: its sender has died.
    """

    def __init__(self, file: Input) -> None:
        self.source = Source(file)
        self.kind = cont.kind_of(self.source)
        self.config: Optional[bytes] = None
        self._enter(ForeignReader(self.source))
        self.start = self.source.offset
        head = StreamReader(self.source)
        self.guest = DomainType(head.domain_header.type).name
        self.headers = head.image_header.encode() + head.domain_header.encode()

    def _enter(self, reader: ForeignReader) -> None:
        if self.kind is Kind.XENSERVER:
            raise UsageError("a XenServer suspend image has no checkpoints")
        if self.kind is Kind.XL:
            header = reader.known_xl_header()
            data = reader.optional_data(header)
            if data.config and header.mandatory_flags & cont.XL_CONFIG_IS_JSON:
                self.config = data.config.split(b"\0", 1)[0]
        elif self.kind is Kind.LIBVIRT:
            reader.libvirt()
        if self.kind is not Kind.LIBXC:
            reader.libxl_header()
            reader.libxc_context()

    def pieces(self) -> Iterator[Piece]:
        """Each record up to END, or as far as there are whole ones."""
        libxl = False
        while (piece := self._piece(libxl)) is not None:
            behind = self.source.offset + piece.size
            yield piece
            left = behind - self.source.offset
            if left and self.source.skip(left) < left:
                return
            if piece.code == (LibxlType.END if libxl else RecordType.END):
                return
            if self.kind is not Kind.LIBXC:
                libxl = piece.code != LibxlType.CHECKPOINT_END if libxl else piece.code == RecordType.CHECKPOINT

    def _piece(self, libxl: bool) -> Optional[Piece]:
        offset = self.source.offset
        head = bytes(self.source.read(fmt.RECORD_HEADER.size))
        if len(head) < fmt.RECORD_HEADER.size:
            return None
        code, length = fmt.RECORD_HEADER.unpack(head)
        if libxl and code not in (*cont.EMULATOR_TYPES, LibxlType.CHECKPOINT_END):
            name = cont.record_name(code)
            text = f"{name} behind a checkpoint: a stream of COLO, or none that is known"
            raise StreamError(text, offset=offset, record=name)
        if not libxl and length > fmt.RECORD_LENGTH_MAX:
            name = fmt.record_name(code)
            text = f"{name}: length {length} is above the limit of {fmt.RECORD_LENGTH_MAX} bytes"
            raise StreamError(text, offset=offset, record=name)
        return Piece(libxl, code, head, length + fmt.padding_of(length), offset)

    def ends_checkpoint(self, piece: Piece) -> bool:
        """Whether a checkpoint is whole with this record."""
        if self.kind is Kind.LIBXC:
            return piece.code == RecordType.CHECKPOINT
        return piece.libxl and piece.code == LibxlType.CHECKPOINT_END


def count(file: Input) -> int:
    """How many whole checkpoints a stream has. Raises as Walk does."""
    walk = Walk(file)
    return sum(walk.ends_checkpoint(piece) for piece in walk.pieces())


def convert_checkpoint(file: Input, put: Put, number: int, to: Optional[Kind] = None) -> Conversion:
    """Writes the checkpoint ``number``, counted from 1, as a plain stream. What follows it in ``file`` is not read.

    ``to``: as of ``convert``; LIBXC by default. Raises UsageError, StreamError if there is no such checkpoint, and what
    Walk and ``put`` raise.
    """
    walk = Walk(file)
    return _Converter(walk, put, to or Kind.LIBXC).run(number)


class _Converter:
    def __init__(self, walk: Walk, put: Put, to: Kind) -> None:
        self._walk, self._put_all = walk, put
        self._done = Conversion(walk.kind, to, walk.guest)
        if to not in cont.OUTPUTS:
            raise UsageError(f"{to.an} cannot be written, only read")
        if to is not Kind.LIBXC and walk.kind is Kind.LIBXC:
            raise UsageError("a bare stream's checkpoint is taken out as a bare stream: convert that again")
        if to is Kind.XL and walk.config is None:
            raise UsageError("an xl save file needs the guest's configuration, and the input has none")

    def run(self, number: int) -> Conversion:
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as state, tempfile.SpooledTemporaryFile(IN_MEMORY) as device:
            if self._done.to is not Kind.LIBXC:
                self._put(cont.prefix(self._walk.config if self._done.to is Kind.XL else None))
            self._put(self._walk.headers)
            found = self._copy(number, state, device)
            if found < number:
                text = f"there are {found} whole checkpoints" if found else "there is no whole checkpoint"
                raise StreamError(f"{text} in the stream, not {number}", offset=self._walk.start, record=None)
            self._put_file(state)
            self._put(fmt.RECORD_HEADER.pack(RecordType.END, 0))
            if self._done.to is not Kind.LIBXC:
                self._put_file(device)
                self._put(cont.SUFFIX)
            else:
                self._done.left_out = device.tell()
        return self._done

    def _copy(self, number: int, state: IO[bytes], device: IO[bytes]) -> int:
        """All pages up to that checkpoint, and its state into files. Returns how many checkpoints there were."""
        found = 0
        for piece in self._walk.pieces():
            if self._walk.ends_checkpoint(piece):
                found += 1
                if found == number:
                    break
                for file in (state, device):
                    file.seek(0)
                    file.truncate()
            elif piece.libxl:
                self._take(piece, device.write)
            elif piece.code in TAIL:
                self._take(piece, state.write)
            elif piece.code not in (RecordType.CHECKPOINT, RecordType.END):
                self._take(piece, self._put)
        return found

    def _take(self, piece: Piece, put: Put) -> None:
        put(piece.head)
        left = piece.size
        while left:
            data = self._walk.source.read(min(left, SKIP_STEP))
            if not data:
                text = f"the input ends within a record, at byte {self._walk.source.offset}: it has no such checkpoint"
                raise StreamTruncated(text, offset=piece.offset, record=None, wanted=left, got=0)
            put(data)
            left -= len(data)

    def _put(self, data: Union[bytes, memoryview]) -> None:
        self._put_all(data)
        self._done.bytes += len(data)

    def _put_file(self, file: IO[bytes]) -> None:
        end = file.tell()
        file.seek(0)
        while data := file.read(SKIP_STEP):
            self._put(data)
        assert file.tell() == end
