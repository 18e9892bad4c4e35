"""A checkpointed save, the guest's truth at each of its checkpoints, and streams that are cut off anywhere.

With ``libxl`` libxl is played at both ends: behind each CHECKPOINT it writes records of its own into the stream, and
reads them out of it; a checkpoint is whole only with these.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple, Union

from peer.image import differences, image_of

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.report import RestoreReport, SaveReport
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import RecordType
from support import hvm_truth

RINGS: dict[str, Any] = {"store_evtchn": 1, "console_evtchn": 2}
HEADERS = 24 + 16  # of the image and of the domain


LIBXLS = struct.pack("<IIIIQ", 3, 16, 2, 0, 0x1122334455667788) + struct.pack("<II", 4, 0)
"""An EMULATOR_CONTEXT of libxl's, and its CHECKPOINT_END."""


class Place(NamedTuple):
    """Where a record begins and ends in a stream, its type, and whether it is libxl's."""

    begin: int
    end: int
    code: int
    libxls: bool = False


def places(data: bytes, libxl: bool = False) -> list[Place]:
    """All whole records of a stream, libxl's among them if it has any."""
    found, at, libxls = [], HEADERS, False
    while at + 8 <= len(data):
        code, length = struct.unpack_from("<II", data, at)
        end = at + 8 + length + fmt.padding_of(length)
        if end > len(data):
            break
        found.append(Place(at, end, code, libxls))
        at = end
        if libxl:
            libxls = code != 4 if libxls else code == RecordType.CHECKPOINT
    return found


def is_whole_with(place: Place, libxl: bool) -> bool:
    """Whether a checkpoint is whole with this record."""
    return (place.libxls and place.code == 4) if libxl else place.code == RecordType.CHECKPOINT


def is_hvm(hv: StubBackend, domid: int) -> bool:
    """PVH guests, too."""
    return bool(hv.stub.guest(domid).state().hvm)


def truth(hv: StubBackend, domid: int, leaves: Any = None) -> dict[str, Any]:
    """All that a suspended or restored guest is, by the machine's own tables."""
    return hvm_truth.image_of(hv, domid) if is_hvm(hv, domid) else image_of(hv, domid, leaves)


class Protected:
    """A guest that is saved by checkpoints into a file. ``truths``: what it was at each of them."""

    def __init__(
        self, hv: StubBackend, domid: int, path: Union[str, Path], libxl: bool = False, **options: Any
    ) -> None:
        self.hv, self.domid, self.path, self.libxl = hv, domid, Path(path), libxl
        self.truths: list[dict[str, Any]] = []
        info = hv.domain_info(domid)
        self.max_mem, self.vcpus = info.max_pages * 4096, info.max_vcpu_id + 1
        self.hvm = is_hvm(hv, domid)
        if self.hvm:
            self.kind = "hvm" if hv.stub.guest(domid).state().device_model else "pvh"
        else:
            self.kind = f"pv{8 * hv.domain_width(domid)}"
        self.report: SaveReport
        self._options = options

    def run(self, count: int, interval: float = 0.0, **more: Any) -> SaveReport:
        """``count`` checkpoints, the last of which ends the stream."""
        with open(self.path, "wb") as out:
            if self.libxl:
                more["checkpoint"] = lambda done: os.write(out.fileno(), LIBXLS)
            asked = pyxcsr.Checkpointed(interval, last=lambda: self._note(count), **more)
            self.report = pyxcsr.save(
                self.hv, self.domid, out, **{"policy": "libxc", **self._options}, checkpointed=asked
            )
        return self.report

    def _note(self, count: int) -> bool:
        self.truths.append(truth(self.hv, self.domid))
        return len(self.truths) >= count

    def whole_at(self, data: bytes) -> int:
        """How many whole checkpoints these first bytes of the stream have."""
        return sum(is_whole_with(place, self.libxl) for place in places(data, self.libxl))

    def restored(self, data: bytes, path: Path) -> tuple[int, RestoreReport]:
        """A new domain from these bytes. Raises what restore does; then there is no such domain."""
        path.write_bytes(data)
        new = self.hv.stub.create_empty(max(self.max_mem - (1 << 20), 1 << 20), vcpus=self.vcpus, kind=self.kind)
        try:
            with path.open("rb", buffering=0) as stream:
                reads = (lambda: self._reads(stream.fileno())) if self.libxl else None
                return new, pyxcsr.restore(self.hv, new, stream, checkpointed=True, checkpoint=reads, **RINGS)
        except BaseException:
            self.hv.stub.destroy(new)
            raise

    @staticmethod
    def _reads(fd: int) -> bool:
        """libxl at the other end, which reads what is its own behind each CHECKPOINT."""
        got = os.read(fd, len(LIBXLS))
        assert LIBXLS.startswith(got), "the restore has read too much, or too little"
        return got == LIBXLS

    def check(self, new: int, number: int) -> None:
        """Asserts that a restored domain is the guest of that checkpoint, and that its kernel goes on."""
        was = self.truths[number - 1]
        now = truth(self.hv, new, was.get("leaves"))
        if self.hvm:
            found, extra = hvm_truth.differences(was, now)
            assert (found, extra) == ([], []), f"checkpoint {number}: {found[:4]} {extra[:4]}"
        else:
            found = differences(was, now)
            assert found == [], f"checkpoint {number}: {found[:4]}"
        self.hv.stub.guest(new).adopt()

    def check_cut(self, data: bytes, path: Path) -> RestoreReport:
        """Restores these first bytes of the stream, which have a whole checkpoint, and checks what comes of it."""
        new, report = self.restored(data, path)
        number = self.whole_at(data)
        assert report.checkpoints == number
        self.check(new, number)
        self.hv.stub.destroy(new)
        return report
