"""What is in whatever a saver wrote: a libxc stream by itself, or in a libxl stream or an xl save file."""

from __future__ import annotations

import json
from typing import Callable, Optional

from pyxcsr.container import config as conf
from pyxcsr.container import foreign
from pyxcsr.container import reader as cont
from pyxcsr.container.foreign import ForeignReader, PartType
from pyxcsr.container.reader import Kind, LibxlType, RecordHeader
from pyxcsr.container.rules import note_config
from pyxcsr.errors import NotAStream, StreamError, StreamTruncated
from pyxcsr.stream import format as fmt
from pyxcsr.stream.after_end import look
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.reader import DOMAIN_HEADER_NAME, IMAGE_HEADER_NAME, StreamReader
from pyxcsr.stream.source import Input, Source
from pyxcsr.stream.survey import Line, Survey, Surveyor, Take, note_after_end, survey
from pyxcsr.stream.wrapping import Container


def survey_input(
    file: Input, show: Callable[[Line], None], *, fold: bool = True, take: Optional[Take] = None
) -> Survey:
    """Reads a libxc stream, or one in a container of any kind, up to its END; like ``survey`` with more lines.

    Then it reads what follows to the input's end, but on a block device, for a line on it.

    The Survey is that of the libxc stream, with ``container`` describing what is around it. Raises NotAStream if the
    input is none of them or a legacy one, StreamError for an unusable header of a bare libxc stream, OSError.
    """
    source = Source(file)
    kind = cont.kind_of(source)
    if kind is Kind.LIBXC:
        sums = survey(StreamReader(source), show, fold=fold, take=take)
        if sums.complete:
            note_after_end(sums, look(source), show)
        return sums
    return _ContainerSurveyor(source, kind, show, fold, take).run()


class _ContainerSurveyor:
    def __init__(
        self, source: Source, kind: Kind, show: Callable[[Line], None], fold: bool, take: Optional[Take]
    ) -> None:
        self._source = source
        self._reader = ForeignReader(source)
        self._show = show
        self._fold, self._take = fold, take
        self._facts = Container(kind.value)
        self._survey: Optional[Survey] = None
        self._whole = 0  # checkpoints, with libxl's part of each
        self._problems: list[str] = []

    def run(self) -> Survey:
        try:
            self._read()
        except StreamError as error:
            if isinstance(error, NotAStream) and error.offset == 0:
                raise
            if isinstance(error, StreamTruncated) and self._survey is not None and self._whole:
                self._survey.cut_off = "it ends within libxl's records of its last checkpoint, which is not whole"
            else:
                self._problems.append(f"offset 0x{error.offset:x}: {error}")
        sums = self._survey or Survey(0, "unknown", "unknown")
        self._facts.bytes = self._source.offset
        sums.container = self._facts
        if self._facts.complete:
            note_after_end(sums, look(self._source), self._show)
        for problem in self._problems:
            sums.add_problem(problem)
        return sums

    def _read(self) -> None:
        if self._facts.kind == Kind.XENSERVER:
            self._read_image()
            return
        if self._facts.kind == Kind.XL:
            self._read_xl()
        elif self._facts.kind == Kind.LIBVIRT:
            self._read_libvirt()
        offset = self._source.offset
        header = self._reader.libxl_header()
        self._facts.libxl_offset, self._facts.libxl_options = offset, header.options
        text = f"version {header.version}, little-endian"
        if header.options & cont.LIBXL_CONVERTED:
            text += ", converted from a legacy stream"
        if header.options & cont.LIBXL_OPTIONS_RESERVED:
            text += f", options 0x{header.options:x}"
        self._line(offset, cont.LIBXL_HEADER_NAME, text)
        while self._read_record():
            pass

    def _line(self, offset: int, name: str, text: str) -> None:
        """A line for what has been read from ``offset`` on."""
        self._show(Line(offset, name, self._source.offset - offset, text))

    def _read_xl(self) -> None:
        header = self._reader.xl_header()
        flags = "JSON, " if header.mandatory_flags & cont.XL_CONFIG_IS_JSON else ""
        self._line(
            0,
            cont.XL_HEADER_NAME,
            f"{flags}stream version 2; flags 0x{header.mandatory_flags:x}/0x{header.optional_flags:x}, "
            f"{header.optional_length} bytes of optional data",
        )
        data = self._reader.optional_data(header)
        note_config(header, data, self._facts)
        if header.optional_length:
            self._line(data.offset, cont.CONFIG_NAME, self._describe_config(data))

    def _read_libvirt(self) -> None:
        head = self._reader.libvirt()
        at = foreign.LIBVIRT_HEADER.size
        self._show(Line(0, foreign.LIBVIRT_HEADER_NAME, at, f"version {head.version}"))
        self._facts.name = head.name
        text = f"{head.declared} bytes" + (f"; {json.dumps(head.name)}" if head.name else "")
        self._show(Line(at, foreign.XML_NAME, head.declared, text))

    def _read_image(self) -> None:
        """The parts of XenServer's suspend image."""
        self._reader.signature()
        self._line(0, foreign.SIGNATURE_NAME, "")
        while not self._facts.complete:
            part = self._reader.part()
            self._facts.records += 1
            if part.code == PartType.LIBXC:
                self._line(part.offset, part.name, "the libxc stream follows")
                if not self._read_libxc():
                    return
                continue
            self._reader.skip(part)
            self._line(part.offset, part.name, f"{part.length} bytes" if part.length else "")
            self._facts.complete = part.code == PartType.END_OF_IMAGE

    def _describe_config(self, data: cont.OptionalData) -> str:
        text = f"{data.declared} bytes" if data.declared is not None else "no configuration"
        if self._facts.config is not None:
            text += f"; {conf.describe(conf.summary(self._facts.config))}"
        elif data.config is None:
            text += ", too long to be looked at"
        elif data.config:
            text += ", not a JSON object"
        return text + (f"; {data.rest} bytes follow it" if data.rest else "")

    def _read_record(self) -> bool:
        """One record, and the libxc stream if that is what it announces; whether the next one can be found."""
        header = self._reader.record_header()
        body = self._reader.body(header, cont.EMULATOR_HEADER.size)
        self._facts.records += 1
        self._line(header.offset, header.name, _describe(header, body.head))
        if header.code == LibxlType.LIBXC_CONTEXT:
            return self._read_libxc()
        self._facts.complete = header.code == LibxlType.END
        return not self._facts.complete

    def _read_libxc(self) -> bool:
        stream = StreamReader(self._source)
        image, domain = stream.image_header, stream.domain_header
        start = stream.start
        self._show(Line(start, IMAGE_HEADER_NAME, fmt.IMAGE_HEADER.size, f"libxc stream, version {image.version}"))
        self._show(
            Line(
                start + fmt.IMAGE_HEADER.size,
                DOMAIN_HEADER_NAME,
                fmt.DOMAIN_HEADER.size,
                f"{DomainType(domain.type).name} guest of Xen {domain.xen_major}.{domain.xen_minor}",
            )
        )
        surveyor = Surveyor(stream, self._show, self._fold, self._take)
        sums = surveyor.sums
        first = self._survey is None
        if self._survey is None:
            self._survey = sums
            self._facts.libxc_offset = start
        else:
            self._survey.add_problem(f"offset 0x{start:x}: a second libxc stream")
        while surveyor.follow() and self._read_checkpoint():
            self._whole += first
        return stream.ended

    def _read_checkpoint(self) -> bool:
        """libxl's records between two checkpoints of the libxc stream; whether that goes on."""
        while True:
            header = self._reader.record_header()
            body = self._reader.body(header, cont.EMULATOR_HEADER.size)
            self._facts.records += 1
            self._line(header.offset, header.name, _describe(header, body.head))
            if header.code == LibxlType.CHECKPOINT_END:
                return True
            if header.code not in cont.EMULATOR_TYPES:
                text = f"{header.name} behind a checkpoint: a stream of COLO, or none that is known"
                self._problems.append(f"offset 0x{header.offset:x}: {text}")
                return False


def _describe(header: RecordHeader, head: bytes) -> str:
    if header.code == LibxlType.LIBXC_CONTEXT:
        return "the libxc stream follows"
    if header.code in cont.EMULATOR_TYPES and len(head) == cont.EMULATOR_HEADER.size:
        emulator, index = cont.EMULATOR_HEADER.unpack(head)
        name = cont.EMULATORS.get(emulator, f"unknown emulator {emulator}")
        return f"{name}, index {index}, {header.length - len(head)} bytes"
    return f"{header.length} bytes" if header.length else ""
