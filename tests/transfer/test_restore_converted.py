"""A guest of the stub, in an image as Xen 4.5 would have saved it, converted by Xen's tool: verified and restored."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support import legacy
from support.hvm_guests import judge_hvm, pages_of, restored, save_hvm
from support.judge import save_to

import pyxcsr
from pyxcsr.errors import HypervisorError, IncompleteStream, StreamError
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.stream import hvm_params
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.records import (
    HvmParams,
    Record,
    StaticDataEnd,
    TscInfo,
    VcpuExtended,
    domain_header,
    frame,
    image_header,
)
from pyxcsr.stream.rules.verify import verify
from pyxcsr.transfer.restore import restore


@pytest.mark.parametrize("live", [True, False])
def test_a_converted_stream(hv: StubBackend, tmp_path: Path, live: bool) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", vcpus=2, holes=0.05, seed=4))
    save_to(hv, domid, tmp_path / "good", live=live)
    records = read(tmp_path / "good")
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


GUESTS = {
    "hvm": "hvm:mem=8M,compact=yes",
    "holes": "hvm:mem=16M,holes=0.3,vcpus=2,compact=yes",
    "far holes": "hvm:mem=8M",
    "no driver": "hvm:mem=8M,pv_drivers=no,compact=yes",
    "viridian": "hvm:mem=8M,viridian=yes,compact=yes",
}


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("name", GUESTS)
def test_a_converted_hvm_stream(hv: StubBackend, tmp_path: Path, name: str, live: bool) -> None:
    """Two HVM_PARAMS, holes that are not there, and the device model's state behind END."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse(GUESTS[name]))
    hv.set_hvm_param(domid, hvm_params.VM86_TSS, hv.hvm_param(domid, hvm_params.VM86_TSS))  # of the size of that time
    save_hvm(hv, domid, tmp_path / "good", live=live)
    data = legacy.convert(legacy.hvm(read(tmp_path / "good"), live=live), tmp_path, "hvm", "libxc", "-v")
    report = verify(StreamReader(io.BytesIO(data)))
    noted = {note.rule for note in report.notes}
    assert report.complaints == [] and noted >= {"once", "order", "after-end"} and report.nr_unsent > 0
    was = hv.stub.guest(domid)
    vcpus = hv.domain_info(domid).max_vcpu_id + 1
    now = restored(hv, tmp_path / "converted", "hvm", "20M", vcpus)
    rings = {page.pfn for page in hvm_params.pages([(i, hv.hvm_param(domid, i)) for i in hvm_params.SENT])}
    assert pages_of(now, but=rings) == pages_of(was, but=rings)
    assert hv.hvm_context(now.domid) == hv.hvm_context(domid)
    for index in {*legacy.PARAM_CHUNKS, *legacy.MAGIC, hvm_params.VM86_TSS_SIZED}:
        assert hv.hvm_param(now.domid, index) == hv.hvm_param(domid, index), hvm_params.name(index)
    if name == "no driver":  # its kernel did not notice the save, and knows the TSS as it was made
        return
    now.adopt()
    now.tick(50)
    save_hvm(hv, now.domid, tmp_path / "again", live=live)
    judge_hvm(hv, now.domid, tmp_path / "again")


@pytest.mark.parametrize("guest", ["pv", "hvm"])
def test_a_stream_converted_to_version_2(hv: StubBackend, tmp_path: Path, guest: str) -> None:
    """As the converters of Xen 4.6 to 4.13 made it."""
    domid, image = imaged(hv, tmp_path, guest)
    legacy.convert(image, tmp_path, guest)
    records = [x for x in read(tmp_path / "converted") if not isinstance(x, StaticDataEnd)]
    head = image_header(2) + domain_header(1 if guest == "pv" else 2, 0, 1)
    (tmp_path / "v2").write_bytes(head + b"".join(map(frame, records)))
    now = taken(hv, tmp_path / "v2", guest)
    assert now.pfns_with_memory() == hv.stub.guest(domid).pfns_with_memory()


@pytest.mark.parametrize("guest", ["pv", "hvm"])
def test_an_image_of_xen_3_has_no_tsc(hv: StubBackend, tmp_path: Path, guest: str) -> None:
    """The domain keeps the TSC that its toolstack has given it. In any other stream it must not be missing."""
    domid, image = imaged(hv, tmp_path, guest, TscInfo)
    data = bytearray(legacy.convert(image, tmp_path, guest))
    now = taken(hv, tmp_path / "converted", guest)
    assert now.pfns_with_memory() == hv.stub.guest(domid).pfns_with_memory()
    data[32:36] = b"\4\0\0\0"
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(IncompleteStream, match="it has no X86_TSC_INFO"):
        taken(hv, tmp_path / "other", guest)


def imaged(hv: StubBackend, folder: Path, guest: str, but: type[Record] = Record) -> tuple[int, bytes]:
    """A guest of the stub, and its legacy image, without records of the class ``but``."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse("pv64:mem=4M" if guest == "pv" else "hvm:mem=4M,compact=yes"))
    save_to(hv, domid, folder / "good", live=False)
    records = [x for x in read(folder / "good") if but is Record or not isinstance(x, but)]
    return domid, (legacy.pv if guest == "pv" else legacy.hvm)(records, live=False)


def read(path: Path) -> list[Record]:
    with open(path, "rb") as file:
        return list(StreamReader(file))


def taken(hv: StubBackend, path: Path, guest: str) -> StubDomain:
    """A stream restored into a new domain."""
    new = hv.stub.create_empty(max_mem="8M", vcpus=1, kind="pv64" if guest == "pv" else guest)
    with open(path, "rb") as file:
        restore(hv, new, file)
    return hv.stub.guest(new)


def test_a_parameter_that_only_a_newer_xen_knows(hv: StubBackend, tmp_path: Path) -> None:
    """It is Xen that says whether it can be set; the stub knows none. Of a Xen whose parameters are known it is wrong.
    """
    domid = hv.stub.create(pyxcsr.StubGuest.parse("hvm:mem=4M,compact=yes"))
    save_to(hv, domid, tmp_path / "good", live=False)
    records = [
        HvmParams([*x.params, (39, 1)]) if isinstance(x, HvmParams) else x for x in read(tmp_path / "good")
    ]
    for minor, error, words in (
        (22, StreamError, "there is no parameter 39"),
        (23, HypervisorError, "xc_hvm_param_set"),
    ):
        (tmp_path / "new").write_bytes(image_header() + domain_header(2, 4, minor) + b"".join(map(frame, records)))
        with pytest.raises(error, match=words):
            taken(hv, tmp_path / "new", "hvm")


@pytest.mark.parametrize("feature", [(9, 1 | 1 << 20), (38, 1 << 40)], ids=["VIRIDIAN", "MCA_CAP"])
def test_a_feature_that_only_a_newer_xen_has(hv: StubBackend, tmp_path: Path, feature: tuple[int, int]) -> None:
    """As with a parameter: the saver lets them pass, which has Xen's own word for them."""
    domid = hv.stub.create(pyxcsr.StubGuest.parse("hvm:mem=4M,compact=yes"))
    save_to(hv, domid, tmp_path / "good", live=False)
    records = [HvmParams([*x.params, feature]) if isinstance(x, HvmParams) else x for x in read(tmp_path / "good")]
    for minor, error, words in ((22, StreamError, "must be"), (23, HypervisorError, "xc_hvm_param_set")):
        (tmp_path / "new").write_bytes(image_header() + domain_header(2, 4, minor) + b"".join(map(frame, records)))
        with pytest.raises(error, match=words):
            taken(hv, tmp_path / "new", "hvm")


@pytest.mark.parametrize("size", [72, 73, 100, 127, 128])
def test_an_extended_context_of_any_size_that_was_ever_written(hv: StubBackend, tmp_path: Path, size: int) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", seed=4))
    save_to(hv, domid, tmp_path / "good", live=False)
    records = read(tmp_path / "good")
    longer = [
        VcpuExtended(x.vcpu_id, bytes(x.blob).ljust(size, b"\xee")) if isinstance(x, VcpuExtended) else x
        for x in records
    ]
    (tmp_path / "longer").write_bytes(image_header() + domain_header(1, 4, 17) + b"".join(map(frame, longer)))
    new = hv.stub.create_empty(max_mem="4M", vcpus=1)
    with open(tmp_path / "longer", "rb") as file:
        restore(hv, new, file)
    assert hv.vcpu_extended(new, 0) == hv.vcpu_extended(domid, 0)
