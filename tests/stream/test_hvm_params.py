"""HVM parameters: names as in Xen's header, what may be set, and which pages they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pyxcsr.stream import hvm_params as hp

HEADER = Path("/usr/include/xen/hvm/params.h")


def test_the_names_are_those_of_xens_header() -> None:
    if not HEADER.exists():
        pytest.skip("Xen's public headers are not installed: apt-get install libxen-dev")
    defined = re.findall(r"#define\s+HVM_PARAM_(\w+)\s+(\d+)\s*$", HEADER.read_text(), re.MULTILINE)
    known = {int(number): name for name, number in defined if not name.startswith("CALLBACK_TYPE")}
    assert known == hp.NAMES


def test_what_may_be_set() -> None:
    assert len(hp.SENT) == 16 and set(hp.SENT) <= hp.RESTORED
    assert not hp.RESTORED & (hp.REFUSED | hp.DROPPED)
    assert set(hp.SENT) >= hp.NEEDED_PAGES and set(hp.SENT) >= hp.CLEARED


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (hp.STORE_PFN, 0xFEFFC),
        (hp.STORE_PFN, (1 << 40) - 1),
        (hp.IDENT_PT, 0xFEFFE000),
        (hp.VIRIDIAN, 0x1),
        (hp.VIRIDIAN, 0x1FFF),
        (hp.VM86_TSS, 0xFC000),
        (hp.VM86_TSS_SIZED, 128 << 32 | 0xFC000 | 1 << 63),
        (hp.NR_IOREQ_SERVER_PAGES, 64),
        (hp.X87_FIP_WIDTH, 8),
        (hp.ACPI_IOPORTS_LOCATION, 1),
        (hp.MCA_CAP, 1),
        (hp.PAE_ENABLED, 1),
        (hp.IOREQ_PFN, 0),
        (hp.X87_FIP_WIDTH, 0),
    ],
)
def test_values_that_can_be(index: int, value: int) -> None:
    assert hp.problem(index, value) is None


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (3, 1, "there is no parameter 3"),
        (39, 1, "there is no parameter 39"),
        (1 << 63, 1, "there is no parameter 9223372036854775808"),
        (13, 1, "DM_DOMAIN 0x1 cannot be set"),
        (35, 1, "ALTP2M 0x1 cannot be set"),
        (hp.STORE_PFN, 1 << 40, "STORE_PFN 0x10000000000 must be a pfn below"),
        (hp.IDENT_PT, 0xFEFFE001, "must be the address of a page"),
        (hp.IDENT_PT, 1 << 52, "must be an address below"),
        (hp.VIRIDIAN, 0x2, "must be bit 0"),
        (hp.VIRIDIAN, 0x2001, "must be bit 0 with some of the bits 0x1fff"),
        (hp.VIRIDIAN, 0, "must be left out where it is zero"),
        (hp.VM86_TSS, 1 << 32, "below 4 GiB"),
        (hp.VM86_TSS_SIZED, 103 << 32 | 1 << 63, "a size of at least 104 bytes"),
        (hp.NR_IOREQ_SERVER_PAGES, 65, "must be at most 64"),
        (hp.X87_FIP_WIDTH, 5, "must be 0, 4 or 8"),
        (hp.ACPI_IOPORTS_LOCATION, 2, "must be 0 or 1"),
        (hp.MCA_CAP, 2, "must be 0 or 1"),
    ],
)
def test_values_that_cannot_be(index: int, value: int, words: str) -> None:
    assert words in (hp.problem(index, value) or "")


def test_pages() -> None:
    params = [
        (hp.STORE_PFN, 0xFEFFC),
        (hp.CONSOLE_PFN, 0),
        (hp.IDENT_PT, 0xFEFFE000),
        (hp.VM86_TSS_SIZED, 128 << 32 | 0xFC000),
        (hp.VIRIDIAN, 0x1),
        (hp.IOREQ_SERVER_PFN, 0xFEFF0),
        (hp.IOREQ_PFN, 1 << 60),
    ]
    assert list(hp.pages(params)) == [
        (hp.STORE_PFN, 0xFEFFC),
        (hp.IDENT_PT, 0xFEFFE),
        (hp.VM86_TSS_SIZED, 0xFC),
        (hp.IOREQ_SERVER_PFN, 0xFEFF0),
    ]
