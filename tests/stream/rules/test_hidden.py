"""What is wrong is told however much that is only unusual stands ahead of it."""

from __future__ import annotations

import io

import pytest
from support import hvm as context
from support import streams as build

from pyxcsr.stream import hvm_context
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.hvm import PAGES_MAX
from pyxcsr.stream.rules.verify import VerifyReport, verify
from stream.rules.cases import Records, change

HOLE = [(1, 3), (17, 6)]
"""Parameters of which STORE_PFN names the hole of ``build.hvm``."""

ISA_IRQ, VIRIDIAN_VCPU = 8, 17


def check(records: Records, minor: int) -> VerifyReport:
    """A stream of Xen 4.``minor``."""
    head = rec.image_header(3) + rec.domain_header(DomainType.HVM, 4, minor)
    return verify(StreamReader(io.BytesIO(head + b"".join(map(rec.frame, records)))))


@pytest.mark.parametrize("nr_unknown", [0, hvm_context.PROBLEMS_MAX])
def test_behind_save_records_that_a_newer_xen_may_have(nr_unknown: int) -> None:
    unknown = b"".join(context.record(99, instance, b"") for instance in range(nr_unknown))
    twice = context.record(ISA_IRQ, 0, bytes(8)) * 2
    records = build.hvm()
    change(records, rec.HvmContext, blob=context.header() + unknown + twice + context.END)
    report = check(records, 23)
    assert [x.rule for x in report.complaints] == ["hvm-context"] * 2
    assert "comes twice" in report.complaints[0].text and "no registers" in report.complaints[1].text
    assert len(report.notes) == nr_unknown


@pytest.mark.parametrize("nr_vcpus", [0, PAGES_MAX // 2])
def test_behind_pages_that_a_context_names(nr_vcpus: int) -> None:
    pages = bytearray(216)
    pages[0:8] = pages[16:24] = (0x5001).to_bytes(8, "little")
    viridian = b"".join(context.record(VIRIDIAN_VCPU, vcpu, bytes(pages)) for vcpu in range(nr_vcpus))
    records = build.hvm()
    change(records, rec.HvmContext, blob=context.context()[:-8] + viridian + context.END)
    assert check(records, 17).ok
    change(records, rec.HvmParams, params=HOLE)
    assert [x.rule for x in check(records, 17).complaints] == ["hvm-page"]
