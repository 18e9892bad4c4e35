"""What is fuzzed: every input goes through reader, verify, inspect and dump, and into a domain of the stub.

An input may make them say what is wrong with it, by the exceptions that they document, and nothing else; within bounds
of time and memory that grow with its length.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from support.image import MemoryImage as Judge
from support.pace import too_long
from support.peak import peak_begins, status

import pyxcsr
from fuzz import image_targets
from pyxcsr.container.copy import convert
from pyxcsr.container.survey import survey_input
from pyxcsr.container.verify import verify_input
from pyxcsr.image import pagemap
from pyxcsr.image.dump import Format, dump_image
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import Verify

DOMAIN = 2 << 20
VCPUS = 2
MEMORY_RULES = {"table-target", "table-bound", "p2m-frame", "superpage", "pfn-bound", "truncated", "hvm-page",
                "hvm-context"}  # fmt: skip
"""Of verify. Not those of vcpus: it complains about each context, and of a repeated one a restore takes the last."""
HEADERS, TYPE_AT, HVM = 40, 24, bytes((2, 0, 0, 0))
SECONDS, SECONDS_PER_BYTE = 3.0, 2e-6
BYTES, BYTES_PER_BYTE = 24 << 20, 16
SLACK = 2 * pagemap.SLACK
"""An image's words may take so much, and so may the list of the p2m's pages, by however few entries they are named."""
PAGES = 64
"""Pages that are compared with the judge's."""


class Finding(Exception):
    """An input that does what none may do."""


class Targets:
    """All of them, on one stub machine."""

    def __init__(self) -> None:
        hv = pyxcsr.open_hypervisor("stub")
        self._hv: Any = hv
        self._hv.stub.reset(frames=1 << 13, force=True)
        self.executions = 0
        self.accepted = 0  # restored with success

    def __call__(self, data: bytes) -> None:
        """Raises Finding."""
        self.executions += 1
        fd = os.memfd_create("stream")
        try:
            os.write(fd, data)
            mine = (self._read, self._verify, self._inspect, self._convert, self._image)
            for target in (*mine, *image_targets.TARGETS):
                self._bounded(target, fd, len(data))
            self._bounded(self._restore, fd, len(data))
        finally:
            os.close(fd)

    def _bounded(self, target: Callable[[int], None], fd: int, length: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        before, began = peak_begins(), time.process_time()
        target(fd)
        seconds, nr_bytes = time.process_time() - began, status("VmHWM") - before
        if too_long(seconds, SECONDS + SECONDS_PER_BYTE * length):
            raise Finding(f"{target.__name__}: {seconds:.1f} s for {length} bytes")
        more = SLACK if target == self._image else 0
        if nr_bytes > BYTES + more + BYTES_PER_BYTE * length:
            raise Finding(f"{target.__name__}: {nr_bytes >> 20} MiB for {length} bytes")

    def _read(self, fd: int) -> None:
        try:
            for record in StreamReader(fd):
                repr(record.name)
        except pyxcsr.StreamError:
            pass

    def _verify(self, fd: int) -> None:
        self._complaints: set[str] = {"unreadable"}
        try:
            report = verify_input(fd)
        except pyxcsr.NotAStream:
            return
        report.to_dict()
        self._complaints = {x.rule for x in report.complaints}

    def _inspect(self, fd: int) -> None:
        with suppress(pyxcsr.StreamError):
            survey_input(fd, lambda line: None).to_dict()

    def _convert(self, fd: int) -> None:
        with suppress(pyxcsr.XcsrError):
            convert(fd, lambda data: None)

    def _image(self, fd: int) -> None:
        """All that can be asked of it, and a dump; and of its pages the plain judge says the same."""
        out = os.memfd_create("dump")
        try:
            with pyxcsr.MemoryImage(fd) as image:
                image.types()
                for vcpu in image.vcpus()[:4]:
                    repr(image.registers(vcpu))
                    with suppress(pyxcsr.XcsrError):
                        image.walk(image.registers(vcpu).rsp, vcpu)
                judged(image, fd)
                dump_image(image, out, Format.ELF)
        except pyxcsr.XcsrError:
            return
        finally:
            os.close(out)

    def _restore(self, fd: int) -> None:
        hv = self._hv
        domid = hv.stub.create_empty(DOMAIN, vcpus=VCPUS, kind="hvm" if is_hvm(os.pread(fd, HEADERS, 0)) else "pv64")
        try:
            pyxcsr.restore(hv, domid, fd)
        except pyxcsr.XcsrError:
            return
        else:
            self.accepted += 1
            self._compare_with_verify()
        finally:
            state = hv.stub.guest(domid).state()
            hv.stub.destroy(domid)
            leaks = hv.stub.leaks()
            if state.running or not state.paused or leaks:
                raise Finding(f"restore: leaves {leaks}, {state}")

    def _compare_with_verify(self) -> None:
        """What is restored with success must be what verify finds whole."""
        wrong = self._complaints & MEMORY_RULES
        if wrong:
            raise Finding(f"restored with success, but verify finds {sorted(wrong)}")


def judged(image: pyxcsr.MemoryImage, fd: int) -> None:
    """Raises Finding where an image and the judge differ. The judge knows neither containers nor VERIFY."""
    try:
        judge = Judge(fd)
    except pyxcsr.StreamError:
        return
    if any(isinstance(x, Verify) for x in records_of(fd)):
        return
    for pfn in sorted({*judge.entries, *islice(image.pfns(), PAGES)})[:PAGES]:
        if (image.page(pfn), image.type_of(pfn)) != (judge.page(pfn), judge.type_of(pfn)):
            raise Finding(f"pfn 0x{pfn:x} is not as the stream left it")


def records_of(fd: int) -> StreamReader:
    """From the beginning."""
    os.lseek(fd, 0, os.SEEK_SET)
    return StreamReader(fd)


def is_hvm(data: bytes) -> bool:
    """Whether a stream's domain header says so: a domain to restore it into is made accordingly."""
    return data[TYPE_AT : TYPE_AT + 4] == HVM
