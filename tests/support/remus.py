"""A checkpointed save, the guest's truth at each of its checkpoints, and streams that are cut off anywhere."""

from __future__ import annotations

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

RINGS = {"store_evtchn": 1, "console_evtchn": 2}
HEADERS = 24 + 16  # of the image and of the domain


class Place(NamedTuple):
    """Where a record begins and ends in a stream, and its type."""

    begin: int
    end: int
    code: int


def places(data: bytes) -> list[Place]:
    """All whole records of a stream."""
    found, at = [], HEADERS
    while at + 8 <= len(data):
        code, length = struct.unpack_from("<II", data, at)
        end = at + 8 + length + fmt.padding_of(length)
        if end > len(data):
            break
        found.append(Place(at, end, code))
        at = end
    return found


def is_hvm(hv: StubBackend, domid: int) -> bool:
    """PVH guests, too."""
    return bool(hv.stub.guest(domid).state().hvm)


def truth(hv: StubBackend, domid: int, leaves: Any = None) -> dict[str, Any]:
    """All that a suspended or restored guest is, by the machine's own tables."""
    return hvm_truth.image_of(hv, domid) if is_hvm(hv, domid) else image_of(hv, domid, leaves)


class Protected:
    """A guest that is saved by checkpoints into a file. ``truths``: what it was at each of them."""

    def __init__(self, hv: StubBackend, domid: int, path: Union[str, Path], **options: Any) -> None:
        self.hv, self.domid, self.path = hv, domid, Path(path)
        self.truths: list[dict[str, Any]] = []
        info = hv.domain_info(domid)
        self.max_mem, self.vcpus = info.max_pages * 4096, info.max_vcpu_id + 1
        self.hvm = is_hvm(hv, domid)
        kinds = {False: "pv64", True: "hvm" if hv.stub.guest(domid).state().device_model else "pvh"}
        self.kind = kinds[self.hvm]
        self.report: SaveReport
        self._options = options

    def run(self, count: int, interval: float = 0.0, **more: Any) -> SaveReport:
        """``count`` checkpoints, the last of which ends the stream."""
        asked = pyxcsr.Checkpointed(interval, last=lambda: self._note(count), **more)
        with open(self.path, "wb") as out:
            self.report = pyxcsr.save(
                self.hv, self.domid, out, **{"policy": "libxc", **self._options}, checkpointed=asked
            )
        return self.report

    def _note(self, count: int) -> bool:
        self.truths.append(truth(self.hv, self.domid))
        return len(self.truths) >= count

    def whole_at(self, data: bytes) -> int:
        """How many whole checkpoints these first bytes of the stream have."""
        return sum(place.code == RecordType.CHECKPOINT for place in places(data))

    def restored(self, data: bytes, path: Path) -> tuple[int, RestoreReport]:
        """A new domain from these bytes. Raises what restore does; then there is no such domain."""
        path.write_bytes(data)
        new = self.hv.stub.create_empty(max(self.max_mem - (1 << 20), 1 << 20), vcpus=self.vcpus, kind=self.kind)
        try:
            with path.open("rb") as stream:
                return new, pyxcsr.restore(self.hv, new, stream, checkpointed=True, **RINGS)
        except BaseException:
            self.hv.stub.destroy(new)
            raise

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
