"""Verifying whatever a saver wrote: a libxc stream by itself, or in a libxl stream or an xl save file.

The rules of the containers are in ``rules`` and ``fit``; those of the libxc stream within are ``verify``'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Union

from pyxcsr.container import foreign_rules, rules
from pyxcsr.container import reader as cont
from pyxcsr.container.fit import FitRules
from pyxcsr.container.foreign import ForeignReader, Part, PartType
from pyxcsr.container.reader import Kind, LibxlType, RecordHeader
from pyxcsr.errors import NotAStream, StreamError, StreamTruncated
from pyxcsr.stream.after_end import look
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.complaints import Complaints
from pyxcsr.stream.rules.verify import Verifier, VerifyReport, verify
from pyxcsr.stream.source import Input, Source
from pyxcsr.stream.wrapping import Container


def verify_input(file: Input, *, limit: int = 10_000, checkpointed: bool = False) -> VerifyReport:
    """Verifies a libxc stream, or one in a container of any kind, told apart by the first bytes; may be a pipe.

    Everything up to the input's end is read. ``checkpointed``: as of ``verify``. Raises NotAStream if
    it is none of them or a legacy one, OSError if it cannot be read; everything else is a complaint, with offsets that
    are offsets in the input.
    """
    source = Source(file)
    kind = cont.kind_of(source)
    if kind is Kind.LIBXC:
        return verify(StreamReader(source), limit=limit, checkpointed=checkpointed)
    return _ContainerVerifier(source, kind, Complaints(limit), checkpointed).run()


class _ContainerVerifier:
    def __init__(self, source: Source, kind: Kind, complaints: Complaints, checkpointed: bool) -> None:
        self._checkpointed = checkpointed and kind is not Kind.XENSERVER
        self._source = source
        self._reader = ForeignReader(source)
        self._complaints = complaints
        self._facts = Container(kind.value)
        self._report: Optional[VerifyReport] = None
        self._whole = 0  # checkpoints, with libxl's part of each
        self._order = rules.OrderRules(complaints)
        self._unchecked: list[str] = []
        self._passed_over: dict[str, list[int]] = {}  # what it is -> how often there is such, and bytes in all

    def run(self) -> VerifyReport:
        try:
            self._read()
        except StreamTruncated as error:
            note = self._whole > 0  # whose sender has died
            self._complaints.add("truncated", str(error), offset=error.offset, record=error.record, note=note)
        except NotAStream as error:
            if error.offset == 0:
                raise
            self._add("libxl-header", error)
        except StreamError as error:
            self._add("xenserver-part", error)
        self._facts.bytes = self._source.offset
        report = self._report or _NOTHING
        return replace(
            report,
            complaints=self._complaints.kept,
            dropped=self._complaints.dropped,
            notes=self._complaints.notes,
            unchecked=[*report.unchecked, *self._unchecked, *self._what_was_passed_over()],
            container=self._facts,
            checkpoints=self._whole,
        )

    def _pass_over(self, what: str, length: int) -> None:
        sums = self._passed_over.setdefault(what, [0, 0])
        sums[0] += 1
        sums[1] += length

    def _what_was_passed_over(self) -> list[str]:
        """In words: a line for each kind, of which a hostile input may have millions."""
        return [
            f"{what} of {size} bytes" + (f", in {count} pieces" if count > 1 else "")
            for what, (count, size) in self._passed_over.items()
        ]

    def _read(self) -> None:
        if self._facts.kind == Kind.XENSERVER:
            self._read_image()
            return
        if self._facts.kind == Kind.XL:
            self._read_xl()
        elif self._facts.kind == Kind.LIBVIRT:
            head = self._reader.libvirt()
            self._facts.name = head.name
            foreign_rules.check_libvirt(head, self._complaints)
            self._unchecked.append("libvirt's XML, but for its length")
        offset = self._source.offset
        header = self._reader.libxl_header()
        rules.check_libxl_header(header, offset, self._complaints)
        self._facts.libxl_offset, self._facts.libxl_options = offset, header.options
        going_on = True
        while going_on:
            going_on = self._read_record()

    def _read_xl(self) -> None:
        header = self._reader.xl_header()
        rules.check_xl_header(header, self._complaints)
        data = self._reader.optional_data(header)
        rules.check_config(header, data, self._complaints, converted=self._reader.says_converted())
        rules.note_config(header, data, self._facts)
        if self._facts.guest is not None:
            self._unchecked.append("the configuration, but for the guest's type, memory and vcpus")
        elif data.declared:
            self._unchecked.append("the configuration: it is not JSON")

    def _read_image(self) -> None:
        """The parts of XenServer's suspend image."""
        self._reader.signature()
        while not self._facts.complete:
            part = self._reader.part()
            self._facts.records += 1
            if part.code == PartType.LIBXC:
                if not self._read_libxc(part):
                    return
                continue
            self._reader.skip(part)
            if part.code == PartType.END_OF_IMAGE:
                self._facts.complete = True
                foreign_rules.check_end(part, self._report, self._complaints)
                self._look_after_end()
            elif part.code != PartType.XENOPS:
                self._pass_over(f"the part {part.name}", part.length)

    def _read_record(self) -> bool:
        """One record, and the libxc stream if that is what it announces; whether the next one can be found."""
        header = self._reader.record_header()
        self._facts.records += 1
        body = self._reader.body(header, rules.BODY_KEPT)
        rules.check_body(header, body, self._complaints)
        self._order.check(header)
        if header.code == LibxlType.EMULATOR_CONTEXT:
            self._pass_over("the device model's state", header.length)
        if header.code == LibxlType.LIBXC_CONTEXT:
            return self._read_libxc(header)
        if header.code == LibxlType.END:
            self._finish(header)
        return header.code != LibxlType.END

    def _read_libxc(self, header: Union[RecordHeader, Part]) -> bool:
        stream = StreamReader(self._source)
        if self._report is not None and isinstance(header, Part):
            foreign_rules.refuse_second(header, self._complaints)
        verifier = Verifier(stream, self._complaints, nested=True, checkpointed=self._checkpointed)
        try:
            again = verifier.follow()
        except NotAStream as error:
            self._add("libxc-stream", error)
            return False
        first = self._report is None
        if first:
            self._facts.libxc_offset = stream.start
        try:
            while again and self._read_checkpoint():
                self._whole += first
                again = verifier.follow()
        finally:
            if first:
                self._report = verifier.report()
        return stream.ended

    def _read_checkpoint(self) -> bool:
        """libxl's records between two checkpoints of the libxc stream; False if what comes is something else."""
        order = rules.CheckpointRules(self._complaints)
        while True:
            header = self._reader.record_header()
            self._facts.records += 1
            body = self._reader.body(header, rules.BODY_KEPT)
            rules.check_body(header, body, self._complaints)
            if not order.check(header):
                return False
            if header.code == LibxlType.CHECKPOINT_END:
                return True

    def _finish(self, end: RecordHeader) -> None:
        self._facts.complete = True
        guest = self._report.guest if self._report else None
        self._order.finish(end, guest, self._facts.guest)
        if self._report is not None and self._facts.guest is not None:
            at = (self._facts.config_offset or 0) - cont.CONFIG_LENGTH.size
            FitRules(self._complaints).check(at, cont.CONFIG_NAME, self._facts.guest, self._report)
        self._look_after_end()

    def _look_after_end(self) -> None:
        after = look(self._source)
        if after is not None:
            self._complaints.add("after-end", after.text, offset=after.offset, record=None, note=after.on_device)

    def _add(self, rule: str, error: StreamError) -> None:
        self._complaints.add(rule, str(error), offset=error.offset, record=error.record)


_NOTHING = VerifyReport(
    version=0,
    guest=None,
    bytes=0,
    records=0,
    entries=0,
    pages=0,
    nr_pfns=0,
    nr_unsent=0,
    unsent=[],
    memory_checked=False,
    complaints=[],
    dropped=0,
)
"""What there is to report of a libxc stream that was not reached."""
