"""Guests described as data: text and fields, there and back."""

from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path
from typing import Any

import pytest

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor.stub.text import StubGuest
from pyxcsr.units import format_size, parse_size


def test_defaults() -> None:
    assert StubGuest.parse("pv64") == StubGuest.pv64() == StubGuest()
    assert StubGuest().describe() == "pv64"


def test_text_and_fields_say_the_same() -> None:
    text = "pv64:mem=1G,vcpus=4,offline_vcpus=1+3,holes=0.1,writer=thread,rate=20001,"
    text += "p2m_vaddr=0xffffc90005000000"
    guest = StubGuest.pv64(
        mem=1 << 30, vcpus=4, offline_vcpus=(1, 3), holes=0.1, writer="thread", rate=20001,
        p2m_vaddr=0xFFFFC90005000000,
    )
    assert StubGuest.parse(text) == guest
    assert set(guest.describe()[5:].split(",")) == set(text[5:].split(","))


CHOICES: dict[str, list[Any]] = {
    "mem": [1 << 24, 3 << 33], "max_mem": [0, 1 << 30], "holes": [0.0, 0.37], "vcpus": [1, 7],
    "filled": [True, False], "seed": [0, 1 << 59], "offline_vcpus": [(), (1,), (1, 2, 6)], "msrs": [0, 8],
    "xsave": [0, 832], "writes": [0, 99], "hot": [0, 1 << 22], "writer": ["calls", "thread", "none"],
    "rate": [1, 20000], "suspend": ["ok", "ignore", "crash", "poweroff", "ack-only"], "ack_polls": [0, 9],
    "suspend_polls": [0, 50], "name": ["", "web-1"],
}
PV: dict[str, list[Any]] = {
    "span": [0, 1 << 36], "spare_p2m": [0, 3 << 20], "p2m_vaddr": [0xFFFFC90000000000, 0xFFFFE00000001000],
    "tree": ["no", "both", "only"], "share_invalid": [True, False], "fixmap": [True, False],
    "packed": [True, False], "pt_updates": [0, 5],
}
TRANSLATED: dict[str, list[Any]] = {
    "pod": [0, 1 << 22], "pod_missing": [0], "balloon": [0, 3], "balloon_every": [1, 7], "viridian": [True, False],
    "compact": [True, False],
}
EMULATED: dict[str, list[Any]] = {
    "vram": [0, 1 << 22], "devmodel": [0, 4], "devmodel_stops": ["itself", "told"], "pv_drivers": [True, False],
    "acpi_s_state": [0, 3],
}
OF_KIND = {"pv64": {**CHOICES, **PV}, "pvh": {**CHOICES, **TRANSLATED}, "hvm": {**CHOICES, **TRANSLATED, **EMULATED}}


def test_every_field_belongs_to_a_kind() -> None:
    fields = {x.name for x in dataclasses.fields(StubGuest)} - {"kind"}
    assert set().union(*OF_KIND.values()) == fields
    for kind, choices in OF_KIND.items():
        for name in fields - set(choices):
            with pytest.raises(UsageError, match=f"a {kind} guest of the stub has no '{name}'"):
                StubGuest.parse(f"{kind}:{name}=1")


@pytest.mark.parametrize("kind", OF_KIND)
@pytest.mark.parametrize("seed", range(20))
def test_parse_undoes_describe(seed: int, kind: str) -> None:
    rng = random.Random(seed)
    guest = StubGuest(kind=kind, **{name: rng.choice(values) for name, values in OF_KIND[kind].items()})
    assert StubGuest.parse(guest.describe()) == guest
    assert guest.describe().partition(":")[0] == kind


def test_slow_suspend_is_a_number_of_polls() -> None:
    assert StubGuest.parse("pv64:suspend=slow:40") == StubGuest(suspend="ok", suspend_polls=40)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hvm64:mem=1G", "describes no stub guest"),
        ("pv64:memory=1G", "no 'memory'"),
        ("pv64:mem", "not KEY=VALUE"),
        ("pv64:mem=1G,mem=2G", "given twice"),
        ("pv64:mem=lots", "not a size"),
        ("pv64:mem=4097", "not a multiple"),
        ("pv64:mem=-4096", "not a size"),
        ("pv64:vcpus=two", "not a number"),
        ("pv64:holes=some", "not a number"),
        ("pv64:writer=fast", "none of calls, thread, none"),
        ("pv64:suspend=never", "none of ok"),
        ("pv64:suspend=slow:x", "slow:N"),
        ("pv64:tree=maybe", "none of no"),
        ("pv64:fixmap=perhaps", "neither yes nor no"),
        ("pv64:seed=-1", "must not be negative"),
        ("pv64:offline_vcpus=1+99", "0 to 63"),
        ("pv64:kind=hvm", "no 'kind'"),
        ("pvh:balloon_every=0", "at least 1"),
        ("hvm:acpi_s_state=4", "0, or 3"),
        ("pvh:mem=16M,pod=9M", "at most half"),
        ("hvm:mem=16M,pod=1M,pod_missing=2M", "at most pod"),
        ("hvm:devmodel_stops=never", "none of itself"),
        ("pv64:name=" + 64 * "x", "63 bytes"),
    ],
)
def test_wrong_text(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        StubGuest.parse(text)
    assert says in str(caught.value)


SIZES = [("0", 0), ("4096", 4096), ("64K", 65536), ("3g", 3 << 30), ("2T", 2 << 40)]


@pytest.mark.parametrize(("text", "nr_bytes"), SIZES)
def test_sizes(text: str, nr_bytes: int) -> None:
    assert parse_size(text) == nr_bytes
    assert parse_size(format_size(nr_bytes)) == nr_bytes


def test_documented_keys() -> None:
    """docs/stub.md's table has each key, and no other."""
    text = (Path(__file__).resolve().parents[2] / "docs/stub.md").read_text()
    guests = text.partition("## Guests as text")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `(\w+)` \|", guests, re.MULTILINE)
    assert keys == [x.name for x in dataclasses.fields(StubGuest) if x.name != "kind"]
