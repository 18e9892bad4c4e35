"""Details of whole streams: those of the stub's guests, and made-up ones."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path

import pytest
from support import streams
from support.containers import HVM

from pyxcsr.cli import main
from pyxcsr.container.survey import survey_input
from pyxcsr.details import collect
from pyxcsr.details.collect import Details
from pyxcsr.details.cpu_names import FEATURES, NO_SUBLEAF, features, leaf_name, msr_name
from pyxcsr.image.memory import MemoryImage
from pyxcsr.stream import records as rec

LEAF = struct.Struct("<6I")


def cpuid(*leaves: tuple[int, ...]) -> rec.CpuidPolicy:
    return rec.CpuidPolicy(b"".join(LEAF.pack(*x) for x in leaves))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = os.fspath(tmp_path_factory.mktemp("image") / "s")
    assert main.main(["save", "--backend", "stub", "--quiet", "pv64:mem=8M,vcpus=2", path]) == 0
    return path


def test_the_registers_are_those_of_the_image(image: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main(["inspect", "--json", image]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["schema"] == 1 and list(document) == ["schema", "records", "summary", "details"]
    found = document["details"]["vcpus"]
    with MemoryImage(image) as memory:
        for vcpu in (0, 1):
            assert found[vcpu]["vcpu"] == vcpu and found[vcpu]["registers"] == memory.registers(vcpu).values
            assert found[vcpu]["page_table_levels"] == 4
    assert {"extended", "xsave", "msrs"} <= set(found[0]) and found[0]["registers"]["cr3"]
    assert document["details"]["tsc"] and document["details"]["hvm_context"] == []


def test_an_hvm_guest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s").write_bytes(HVM)
    assert main.main(["inspect", "--decode", os.fspath(tmp_path / "s")]) == 0
    text = capfd.readouterr().out
    for words in ("CPU, instance 0", "MTRR, instance 0", "LAPIC_REGS, instance 0", "HVM_PARAMS", "STORE_PFN=0x"):
        assert words in text
    details = Details()
    sums = survey_input(io.BytesIO(HVM), lambda line: None, take=details.take)
    found = details.to_dict()
    assert [x["type"] for x in found["hvm_context"]] == [x["type"] for x in sums.hvm_context]
    assert found["hvm_params"] == sums.hvm_params and found["vcpus"] == []


def test_cpuid_by_name() -> None:
    details = Details()
    name = b"An Imaginary CPU @ 1 GHz".ljust(48, b"\0")
    brand = [(0x8000_0002 + x, NO_SUBLEAF, *struct.unpack_from("<4I", name, 16 * x)) for x in range(3)]
    vendor = struct.unpack("<3I", b"GenuineIntel")
    first, second = (0, NO_SUBLEAF, 13, vendor[0], vendor[2], vendor[1]), (1, NO_SUBLEAF, 0x306C3, 0, 1 << 17, 3)
    details.take(cpuid(first, second, *brand))
    found = details.to_dict()["cpuid"]
    assert found["vendor"] == "GenuineIntel" and found["brand"] == "An Imaginary CPU @ 1 GHz"
    assert found["leaves"][1]["features"] == ["pcid", "fpu", "vme"] and found["leaves"][1]["subleaf"] is None
    assert found["leaves"][0]["name"] == "highest leaf and vendor" and "features" not in found["leaves"][0]


def test_features_have_32_names_each() -> None:
    for word, names in FEATURES.items():
        assert len(names.split()) <= 32, word
    assert features(1, NO_SUBLEAF, "ecx", 1 << 26 | 1 << 27 | 1 << 31) == ["xsave", "osxsave", "hypervisor"]
    assert features(7, 0, "ebx", 1 << 16 | 1 << 31) == ["avx512f", "avx512vl"]
    assert features(0x8000_0001, NO_SUBLEAF, "edx", 1 << 29 | 1 << 20) == ["nx", "lm"]
    assert features(0x8000_0001, NO_SUBLEAF, "ecx", 1 << 31) == ["bit_31"]
    assert features(7, 1, "ebx", 1) == [] and leaf_name(0x4000_0002) == "Xen" and msr_name(0x277) == "PAT"


def test_hostile_records_are_bounded() -> None:
    details = Details()
    for vcpu in range(collect.VCPUS_MAX + 100):
        details.take(rec.VcpuXsave(vcpu, b""))
        details.take(rec.VcpuExtended(vcpu, b"\xff" * 3))
        details.take(rec.VcpuBasic(vcpu, b"\xff"))
    details.take(cpuid(*[(x, 0, 0, 0, 0, 0) for x in range(2 * collect.LEAVES_MAX)]))
    details.take(rec.MsrPolicy(b"\xff" * 16 * 2 * collect.MSRS_MAX))
    details.take(rec.HvmParams([(x, x) for x in range(2 * collect.PARAMS_MAX)]))
    found = details.to_dict()
    assert len(found["vcpus"]) == collect.VCPUS_MAX and len(found["cpuid"]["leaves"]) == collect.LEAVES_MAX
    assert len(found["hvm_params"]) == collect.PARAMS_MAX and "registers" not in found["vcpus"][0]
    details.take(rec.PvInfo(8, 4))
    details.take(rec.VcpuBasic(0, b"\xff"))
    assert details.to_dict()["vcpus"][0]["registers"]["rip"] == 0


def test_the_streams_of_all_kinds(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(streams.assemble(streams.pv64()))
    assert main.main(["inspect", "--decode", os.fspath(tmp_path / "s")]) in (0, 1)
    assert "vcpu 0: registers" in capfd.readouterr().out
