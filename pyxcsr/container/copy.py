"""From one container into another, or out of any: a stream of any size in constant memory, without seeking.

What is copied is followed by its framing only: whether it is right is ``verify``'s to say.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Callable, Optional, Union

from pyxcsr.container import config as conf
from pyxcsr.container import reader as cont
from pyxcsr.container.foreign import ForeignReader, PartType
from pyxcsr.container.reader import Kind, LibxlType, RecordHeader
from pyxcsr.errors import StreamError, StreamTruncated, UsageError
from pyxcsr.stream import format as fmt
from pyxcsr.stream.after_end import AfterEnd, look
from pyxcsr.stream.format import DomainType, RecordType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.source import SKIP_STEP, Input, Source

Put = Callable[[Union[bytes, memoryview]], object]
"""Takes all bytes it is given, or raises."""

_HEADERS = fmt.IMAGE_HEADER.size + fmt.DOMAIN_HEADER.size


@dataclass
class Conversion:
    """What was converted: from and to which kind, the guest (PV, HVM), bytes written.

    ``left_out``: bytes of emulator records that the new kind has no place for. ``after_end``: what follows on a device.
    """

    source: Kind
    to: Kind
    guest: str = ""
    bytes: int = 0
    left_out: int = 0
    after_end: Optional[AfterEnd] = None


def convert(file: Input, put: Put, *, to: Optional[Kind] = None, config: Optional[bytes] = None) -> Conversion:
    """Copies the stream in ``file`` to ``put``, in a container of the kind ``to`` or, as LIBXC, out of any.

    ``to`` is LIBXC by default if there is a container. ``config``, for XL only, is the JSON text to be put into the
    file; without it that of an xl save file is kept. Nothing is put before headers, guest type and configuration have
    been looked at. Raises UsageError where this cannot be done as asked, NotAStream, StreamTruncated, StreamError
    (also for bytes after the end, but for those of a block device), OSError, and what ``put`` raises.
    """
    source = Source(file)
    return _Converter(source, put, cont.kind_of(source), to, config).run()


class _Converter:
    def __init__(
        self, source: Source, put: Put, kind: Kind, to: Optional[Kind], config: Optional[bytes]
    ) -> None:
        self._source, self._put_all, self._config = source, put, config
        self._reader = ForeignReader(source)
        self._kind = kind
        self._done = Conversion(kind, to or Kind.LIBXC)
        if kind is Kind.LIBXC:
            _ = self._begin().image_header  # says what the input is if it is no stream
            if to is None:
                raise UsageError("the input is a libxc stream already; --to says into what it is to be put")
        if self._done.to is kind and config is None:
            raise UsageError(f"the input is {kind.an} already")
        if self._done.to not in cont.OUTPUTS:
            raise UsageError(f"{self._done.to.an} cannot be written, only read")
        if kind is Kind.XENSERVER and self._done.to is not Kind.LIBXC:
            raise UsageError("of a XenServer suspend image only the libxc stream can be had: convert that again")
        if config is not None and to is not Kind.XL:
            raise UsageError("only an xl save file (--to xl) has a configuration")

    def run(self) -> Conversion:
        if self._kind is Kind.XL:
            self._take_xl()
        elif self._kind is Kind.LIBVIRT:
            self._reader.libvirt()
        if self._done.to is Kind.XL and self._config is None:
            raise UsageError("an xl save file needs the guest's configuration (--config), and the input has none")
        if self._kind is Kind.LIBXC:
            self._wrap()
        elif self._kind is Kind.XENSERVER:
            self._copy_image()
        else:
            self._copy_libxl()
        self._check_end()
        return self._done

    def _put(self, data: Union[bytes, memoryview]) -> None:
        self._put_all(data)
        self._done.bytes += len(data)

    def _take_xl(self) -> None:
        """Reads xl's header and configuration; the latter is kept unless there is another."""
        header = self._reader.known_xl_header()
        data = self._reader.optional_data(header)
        if self._config is None and data.config and header.mandatory_flags & cont.XL_CONFIG_IS_JSON:
            self._config = data.config.split(b"\0", 1)[0]

    def _wrap(self) -> None:
        """A bare libxc stream into a container."""
        guest = self._look_at_libxc()
        kind = self._config_kind(guest)
        if guest == DomainType.HVM.name and kind != "pvh":
            raise UsageError(
                "the stream is an HVM guest's; libxl needs its device model's state too, which is not in a libxc "
                "stream: an HVM guest cannot be put into a container"
                + ("" if kind else " (a PVH guest can, with --to xl: its configuration tells the two apart)")
            )
        self._put(cont.prefix(self._config if self._done.to is Kind.XL else None))
        self._copy_libxc()
        self._put(cont.SUFFIX)

    def _config_kind(self, guest: str) -> Optional[str]:
        """The guest type in the configuration, if one is to be written. UsageError if it does not fit the stream's."""
        if self._done.to is not Kind.XL or self._config is None:
            return None
        try:
            config = conf.parse(self._config)
            problem = conf.problem(config)
        except ValueError as error:
            problem = str(error)
        if problem is not None:
            raise UsageError(f"the configuration is not usable: {problem}")
        kind = conf.summary(config).type or ""
        if conf.STREAM_KINDS.get(kind) != guest:
            raise UsageError(f"the configuration is for a guest of type {kind}, the stream is {GUESTS[guest]} guest's")
        return kind

    def _copy_image(self) -> None:
        """The libxc stream out of a suspend image; of the other parts the device model's are counted."""
        self._reader.signature()
        self._reader.libxc_part()
        self._look_at_libxc()
        self._copy_libxc()
        part = self._reader.part()
        while part.code != PartType.END_OF_IMAGE:
            if part.code in (PartType.QEMU_TRAD, PartType.QEMU_XEN):
                self._done.left_out += part.length
            self._reader.skip(part)
            part = self._reader.part()

    # The libxl stream

    def _copy_libxl(self) -> None:
        """A libxl stream, as it is or only the libxc stream in it."""
        header = self._reader.libxl_header()
        self._reader.libxc_context()
        self._config_kind(self._look_at_libxc())
        if self._done.to is not Kind.LIBXC:
            ahead = b"" if self._config is None or self._done.to is Kind.LIBXL else cont.xl_prefix(self._config)
            self._put(ahead + header.encode() + cont.record(LibxlType.LIBXC_CONTEXT))
        self._copy_libxc()
        while self._copy_record(self._reader.record_header()):
            pass

    def _copy_record(self, header: RecordHeader) -> bool:
        """A record of libxl behind the libxc stream; False if it is the last."""
        if header.code not in (LibxlType.END, *cont.EMULATOR_TYPES):
            text = f"{header.name} cannot follow the libxc stream of a plain libxl stream"
            raise StreamError(text, offset=header.offset, record=header.name)
        wanted = header.size - fmt.RECORD_HEADER.size
        if self._done.to is Kind.LIBXC:
            if self._source.skip(wanted) < wanted:
                raise self._truncated(header.offset, header.name)
            self._done.left_out += header.size if header.code != LibxlType.END else 0
        else:
            self._put(fmt.RECORD_HEADER.pack(header.code, header.length))
            self._copy(wanted, header.offset, header.name)
        return header.code != LibxlType.END

    # The libxc stream

    def _begin(self) -> StreamReader:
        """A reader of the headers of the libxc stream that begins here; they stay to be read. Offsets are the input's.
        """
        headers = Source(io.BytesIO(self._source.peek(_HEADERS)))
        headers.offset = self._source.offset
        return StreamReader(headers)

    def _look_at_libxc(self) -> str:
        """Which kind of guest the libxc stream holds that begins here; nothing of it is read."""
        self._done.guest = DomainType(self._begin().domain_header.type).name
        return self._done.guest

    def _copy_libxc(self) -> None:
        self._copy(_HEADERS, self._source.offset, "libxc headers")
        code = -1
        while code != RecordType.END:
            code = self._copy_libxc_record()

    def _copy_libxc_record(self) -> int:
        offset = self._source.offset
        head = bytes(self._source.read(fmt.RECORD_HEADER.size))
        if len(head) < fmt.RECORD_HEADER.size:
            raise self._truncated(offset, None)
        code, length = fmt.RECORD_HEADER.unpack(head)
        name = fmt.record_name(code)
        if length > fmt.RECORD_LENGTH_MAX:
            text = f"{name}: length {length} is above the limit of {fmt.RECORD_LENGTH_MAX} bytes"
            raise StreamError(text, offset=offset, record=name)
        if code == RecordType.CHECKPOINT:
            text = "this is a checkpointed stream (Remus, COLO), which has no single guest image in it"
            raise StreamError(text, offset=offset, record=name)
        self._put(head)
        self._copy(length + fmt.padding_of(length), offset, name)
        return int(code)

    # Bytes

    def _copy(self, left: int, offset: int, record: Optional[str]) -> None:
        while left:
            data = self._source.read(min(left, SKIP_STEP))
            if not data:
                raise self._truncated(offset, record)
            self._put(data)
            left -= len(data)

    def _truncated(self, offset: int, record: Optional[str]) -> StreamTruncated:
        return StreamTruncated(
            f"the input ends at byte {self._source.offset}, within {record or 'the stream'}: it is not complete",
            offset=offset,
            record=record,
            wanted=None,
            got=None,
        )

    def _check_end(self) -> None:
        """On a block device something may follow, elsewhere nothing."""
        after = look(self._source, count=False)
        if after is not None and not after.on_device:
            raise StreamError(f"the input goes on after its last END: {after.what}", offset=after.offset, record=None)
        self._done.after_end = after


GUESTS = {"PV": "a PV", "HVM": "an HVM"}
"""A guest's kind with its article."""
