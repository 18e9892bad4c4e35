"""A guest of the stub, in an image as Xen 4.5 would have saved it, converted by Xen's tool: verified and restored."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support import legacy
from support.judge import save_to

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import VcpuExtended, domain_header, frame, image_header
from pyxcsr.stream.rules.verify import verify
from pyxcsr.transfer.restorer import restore


@pytest.mark.parametrize("live", [True, False])
def test_a_converted_stream(hv: StubBackend, tmp_path: Path, live: bool) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", vcpus=2, holes=0.05, seed=4))
    save_to(hv, domid, tmp_path / "good", live=live)
    with open(tmp_path / "good", "rb") as file:
        records = list(StreamReader(file))
    data = legacy.convert(legacy.pv(records, live=live), tmp_path, "pv")
    report = verify(StreamReader(io.BytesIO(data)))
    assert report.complaints == [] and report.nr_unsent > 0
    new = hv.stub.create_empty(max_mem="8M", vcpus=2)
    with open(tmp_path / "converted", "rb") as file:
        restore(hv, new, file, store_evtchn=3, console_evtchn=4)
    was, now = hv.stub.guest(domid), hv.stub.guest(new)
    pfns = now.pfns_with_memory()
    assert pfns == was.pfns_with_memory()
    assert now.types(pfns) == was.types(pfns)
    for vcpu in range(2):
        assert hv.vcpu_extended(new, vcpu) == hv.vcpu_extended(domid, vcpu)
        assert hv.vcpu_xsave(new, vcpu) == hv.vcpu_xsave(domid, vcpu)


@pytest.mark.parametrize("size", [72, 73, 100, 127, 128])
def test_an_extended_context_of_any_size_that_was_ever_written(hv: StubBackend, tmp_path: Path, size: int) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", seed=4))
    save_to(hv, domid, tmp_path / "good", live=False)
    with open(tmp_path / "good", "rb") as file:
        records = list(StreamReader(file))
    longer = [
        VcpuExtended(x.vcpu_id, bytes(x.blob).ljust(size, b"\xee")) if isinstance(x, VcpuExtended) else x
        for x in records
    ]
    (tmp_path / "longer").write_bytes(image_header() + domain_header(1, 4, 17) + b"".join(map(frame, longer)))
    new = hv.stub.create_empty(max_mem="4M", vcpus=1)
    with open(tmp_path / "longer", "rb") as file:
        restore(hv, new, file)
    assert hv.vcpu_extended(new, 0) == hv.vcpu_extended(domid, 0)
