"""The save records of an HVM context, decoded: each field by name, as far as the record has it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pyxcsr.details.cpu_names import msr_name
from pyxcsr.details.save_types import LAPIC_REGISTERS, LAPIC_VECTORS, SAVE_FIELDS, SIGNED
from pyxcsr.image.registers import HVM_FIELDS, Field
from pyxcsr.stream import hvm_context as hvm

if TYPE_CHECKING:
    from pyxcsr.stream.records import Buffer

ENTRIES_MAX = 4096
"""Save records that are decoded. Xen allows an HVM guest 128 vcpus, with eight or nine save records each."""

MSRS_MAX = 256
"""MSRs of one vcpu that are decoded."""

LAPIC_REGS = 6
_PENDING = Field("pending_event", 1016, 4)
_CPU_TAIL = (_PENDING, Field("error_code", 1020, 4), Field("flags", 1024, 4))
_EVENT_VALID = 1 << 31
_MSR = struct.Struct("<IIQ")


def decoded(context: Buffer) -> list[dict[str, Any]]:
    """A dict for each save record: type, typecode, instance, length, and its fields (numbers; sets as lists)."""
    facts, _ = hvm.look(context)
    return [
        {
            "type": entry.name,
            "typecode": entry.typecode,
            "instance": entry.instance,
            "length": entry.length,
            "fields": fields_of(entry.typecode, entry.body(context)),
        }
        for entry in facts.entries[:ENTRIES_MAX]
    ]


def fields_of(typecode: int, body: memoryview) -> dict[str, Any]:
    """The fields of one save record. One that is shorter than it should be lacks those that it has not."""
    if typecode == hvm.CPU:
        return {**_taken(HVM_FIELDS, body), **_cpu_tail(body)}
    if typecode == LAPIC_REGS:
        return _lapic(body)
    if typecode == hvm.MSR:
        return {msr_name(index): value for index, _, value in _msrs(body)}
    return _taken(SAVE_FIELDS.get(typecode, ()), body)


def _taken(fields: tuple[Field, ...], body: memoryview) -> dict[str, Any]:
    return {
        x.name: int.from_bytes(body[x.at : x.at + x.size], "little", signed=x.name in SIGNED)
        for x in fields
        if x.at + x.size <= len(body)
    }


def _cpu_tail(body: memoryview) -> dict[str, Any]:
    """The event that waits to be delivered. (Before Xen 4.7 there are no flags.)"""
    tail = _taken(_CPU_TAIL, body)
    event = tail.get("pending_event", 0)
    if event & _EVENT_VALID:
        tail["pending_vector"], tail["pending_type"] = event & 0xFF, event >> 8 & 7
    return tail


def _lapic(body: memoryview) -> dict[str, Any]:
    fields = _taken(tuple(Field(name, at, 4) for name, at in LAPIC_REGISTERS.items()), body)
    return {**fields, **{name: _vectors(body, at) for name, at in LAPIC_VECTORS.items() if at + 128 <= len(body)}}


def _vectors(body: memoryview, at: int) -> list[int]:
    words = [int.from_bytes(body[at + 16 * x : at + 16 * x + 4], "little") for x in range(8)]
    return [32 * x + bit for x, word in enumerate(words) for bit in range(32) if word >> bit & 1]


def _msrs(body: memoryview) -> list[tuple[int, int, int]]:
    """As many as are there, whatever the count says."""
    whole = (len(body) - 8) // _MSR.size
    return list(_MSR.iter_unpack(body[8 : 8 + min(whole, MSRS_MAX) * _MSR.size])) if whole > 0 else []
