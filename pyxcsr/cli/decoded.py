"""What ``inspect --decode`` prints: a stream's registers, chips, CPUID leaves and MSRs, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyxcsr.details.collect import Details

WIDTH = 118


def decoded_lines(details: Details) -> Iterator[str]:
    """All that is known, as lines."""
    found = details.to_dict()
    for vcpu in found["vcpus"]:
        yield from _vcpu(vcpu)
    for entry in found["hvm_context"]:
        head = f"{entry['type']}, instance {entry['instance']}, {entry['length']} bytes"
        yield from _block(head, {name: value for name, value in entry["fields"].items() if value})
    if found["hvm_params"]:
        yield from _block("HVM_PARAMS", found["hvm_params"])
    if found["tsc"]:
        yield from _block("TSC", found["tsc"], plain=True)
    if found["cpuid"]:
        yield from _cpuid(found["cpuid"])
    if found["msrs"]:
        yield from _block("MSR policy", found["msrs"])


def _vcpu(vcpu: dict[str, Any]) -> Iterator[str]:
    for kind in ("registers", "extended", "xsave", "msrs"):
        if kind in vcpu:
            yield from _block(f"vcpu {vcpu['vcpu']}: {kind}", vcpu[kind])


def _cpuid(cpuid: dict[str, Any]) -> Iterator[str]:
    names = [x for x in (cpuid["vendor"], cpuid["brand"]) if x]
    yield f"CPUID{': ' if names else ''}{', '.join(names)}"
    for leaf in cpuid["leaves"]:
        where = f"0x{leaf['leaf']:x}" + ("" if leaf["subleaf"] is None else f".{leaf['subleaf']:x}")
        values = " ".join(f"{leaf[x]:08x}" for x in ("eax", "ebx", "ecx", "edx"))
        yield f"    {where:<12} {values}  {leaf['name']}".rstrip()
        yield from _filled(leaf.get("features", []), "        ", " ")


def _block(head: str, values: dict[str, Any], *, plain: bool = False) -> Iterator[str]:
    yield head
    words = [f"{name}={_shown(value, plain)}" for name, value in values.items()]
    yield from _filled(words, "    ", "  ")


def _shown(value: Any, plain: bool) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return str(value) if plain or value < 0 else f"0x{value:x}"


def _filled(words: list[str], indent: str, between: str) -> Iterator[str]:
    """Words in lines of no more than WIDTH characters, unless a single one is longer."""
    line = ""
    for word in words:
        if line and len(indent) + len(line) + len(between) + len(word) > WIDTH:
            yield indent + line
            line = ""
        line += (between if line else "") + word
    if line:
        yield indent + line
