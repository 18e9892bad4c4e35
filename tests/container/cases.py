"""Containers with one thing wrong each, and the rules they break."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from support import streams as build
from support.containers import (
    BLOB,
    CHECKPOINT_END,
    CHECKPOINT_STATE,
    EMULATOR,
    END,
    HVM,
    IMAGE,
    IMAGE_END,
    LIBXC,
    LIBXL_HEADER,
    MAGIC,
    PAIRS,
    PV,
    XENOPS,
    XENSTORE,
    config,
    emulator,
    libvirt,
    libxl,
    part,
    record,
    suspend_image,
    text_of,
    xl,
    xl_header,
)

from pyxcsr.container.config import CONFIG_MAX
from pyxcsr.container.foreign import XML_MAX
from pyxcsr.stream import records as rec


class Broken(NamedTuple):
    """``rules`` broken, exactly; ``record`` and ``where``: name and offset of the first complaint; ``words`` in one."""

    data: bytes
    rules: str
    record: str | None
    where: int
    words: str = ""


TEXT = text_of(config()) + b"\0"
HVM_TEXT = text_of(config("hvm")) + b"\0"

# Where things are in an xl save file with TEXT
CONFIG_AT = 48
LIBXL_AT = CONFIG_AT + 4 + len(TEXT)
LIBXC_AT = LIBXL_AT + 24
END_AT = LIBXC_AT + len(PV)

# Where the record behind the libxc stream is in a libxl stream
PV_TAIL = 24 + len(PV)
HVM_TAIL = 24 + len(HVM)

BROKEN: dict[str, Broken] = {}


def case(name: str, data: bytes, rules: str, record: str | None, where: int, words: str = "") -> None:
    """Notes a case."""
    BROKEN[name] = Broken(data, rules, record, where, words)


def optional(data: bytes) -> bytes:
    """An xl save file with any optional data."""
    return xl_header(len(data)) + data + libxl()


def changed(**values: Any) -> bytes:
    """A configuration with other values in c_info."""
    what = config()
    what["c_info"].update(values)
    return text_of(what) + b"\0"


# The xl header

case("flags", xl(must=7), "xl-mandatory-flags", "xl header", 0, "0x4")
case("optional_flags", xl(may=8), "xl-optional-flags", "xl header", 0, "0x8")
case("magic_alone", MAGIC, "truncated", "xl header", 0, "32 of 48")

# The configuration


def config_case(name: str, data: bytes, rule: str, words: str = "") -> None:
    """One whose first complaint is about the configuration."""
    case(name, data, rule, "xl configuration", CONFIG_AT, words)


config_case("no_optional_data", optional(b""), "xl-config")
config_case("no_config", optional(bytes(4)), "xl-config")
config_case("three_bytes", optional(b"abc"), "xl-config-length", "3 bytes")
config_case("too_short", optional(struct.pack("<I", 1 << 31) + TEXT), "xl-config-length", "2147483648")
config_case("bytes_behind", optional(struct.pack("<I", len(TEXT)) + TEXT + b"!"), "xl-config-length")
config_case("huge_config", xl(text=b" " * CONFIG_MAX + b"{}\0"), "xl-config-limit", "not looked at")
config_case("no_nul", xl(text=TEXT[:-1]), "xl-config-nul", "no NUL")
config_case("two_nuls", xl(text=TEXT + b"\0"), "xl-config-nul")
config_case("half_json", xl(text=TEXT[:90] + b"\0"), "xl-config-json", "line")
config_case("list", xl(text=b"[]\0"), "xl-config-json", "a list")
config_case("number", xl(text=b"3\0"), "xl-config-json", "a number")
config_case("too large", xl(text=b'{"a": 1e999}\0'), "xl-config-json", "1e999")
config_case("nan", xl(text=b'{"a": NaN}\0'), "xl-config-json", "NaN")
config_case("latin1", xl(text=b'{"a": "\xe4"}\0'), "xl-config-json", "UTF-8")
config_case("deep", xl(text=b"[" * 200_000 + b"\0"), "xl-config-json", "deep")
config_case("long_number", xl(text=b"9" * 10_000 + b"\0"), "xl-config-json")
config_case("no_parts", xl(text=b"{}\0"), "xl-config-json", "c_info")
config_case("no_name", xl(text=changed(name="")), "xl-config-json", "no name")
config_case("odd_type", xl(text=changed(type=["pv"])), "xl-config-json", "type")
config_case("half_config", xl()[:100], "truncated", "ends at byte 100")
case("other_guest", xl(text=HVM_TEXT), "xl-config-guest", "libxl END", END_AT + len(HVM_TEXT) - len(TEXT), "PV guest")

for _name, _values, _rule, _words in (
    ("memory", {"max_memkb": 64, "target_memkb": 64}, "xl-config-memory", "4 KiB"),
    ("vcpus", {"max_vcpus": 1}, "xl-config-vcpus", "has 1 vcpus, but the libxc stream has state of vcpu 1"),
    ("no_vcpus", {"max_vcpus": 0}, "xl-config-vcpus", "has 0 vcpus"),
):
    _text = text_of(config(**_values)) + b"\0"
    _inner = libxl(build.assemble(build.pv64(nr_pfns=400)))
    config_case(f"less_{_name}", xl(_inner, _text), _rule, _words)
_text = text_of(config("hvm", max_vcpus=0)) + b"\0"
config_case("less_vcpus_hvm", xl(libxl(HVM, PAIRS, BLOB), _text), "xl-config-vcpus", "vcpu 0")

# libvirt and XenServer

XML_AT = 64
case("libvirt_unused", libvirt(unused=b"\1" + bytes(39)), "libvirt-header", "libvirt header", 0)
case("libvirt_no_xml", libvirt(xml=b""), "libvirt-xml", "libvirt XML", XML_AT, "no XML")
case("libvirt_no_nul", libvirt(xml=b"<domain/>"), "libvirt-xml", "libvirt XML", XML_AT, "no NUL")
case("libvirt_two_nuls", libvirt(xml=b"<a/>\0\0"), "libvirt-xml", "libvirt XML", XML_AT, "NUL at byte 4 of 6")
case("libvirt_huge", libvirt(xml=bytes(XML_MAX + 1)), "libvirt-xml", "libvirt XML", XML_AT, "not looked at")
case("libvirt_half_header", libvirt()[:30], "truncated", "libvirt header", 0, "30 of 64")
case("libvirt_half_xml", libvirt()[:70], "truncated", "libvirt XML", XML_AT)
case("libvirt_no_libxl", libvirt(PV), "libxl-header", "libxl header", XML_AT + len(libvirt(b"")) - 64, "ff ff ff ff")
case("image_half", suspend_image()[:20], "truncated", "XenServer part", 15, "5 of 16")
case("image_unknown", suspend_image(ahead=part(0x77)), "xenserver-part", "XenServer unknown 0x77", 15)
case("image_negative", suspend_image(ahead=part(XENOPS, length=-1)), "xenserver-part", "XenServer XENOPS", 15, "-1")
case("image_huge", suspend_image(ahead=part(XENOPS, length=1 << 62)), "truncated", "XenServer XENOPS", 15)
case("image_legacy", suspend_image(ahead=part(0xF2)), "xenserver-part", "XenServer LIBXC_LEGACY", 15, "legacy")
case("image_without", b"XenSavedDomv2-\n" + part(IMAGE_END), "xenserver-libxc", "XenServer END_OF_IMAGE", 15)
_twice = suspend_image(PV, part(IMAGE), PV)
case("image_twice", _twice, "xenserver-libxc", "XenServer LIBXC", 15 + 40 + 16 + len(PV), "second")
case("image_no_stream", suspend_image(b"no stream" * 9), "libxc-stream", "image header", 15 + 40 + 16)
case("image_goes_on", suspend_image() + b"!", "after-end", None, len(suspend_image()))

# The libxl header


def header(version: int, options: int = 0) -> bytes:
    """A libxl header."""
    return struct.pack(">8sII", b"LibxlFmt", version, options)


for _name, _inner, _words in (
    ("version", libxl(header=header(3)), "version 3"),
    ("legacy", libxl(header=header(1)), "legacy"),
    ("big_endian", libxl(header=header(2, 1)), "big-endian"),
    ("not_libxl", PV, "ff ff ff ff"),
):
    case(f"{_name}_in_xl", xl(_inner), "libxl-header", "libxl header", LIBXL_AT, _words)
case("options", libxl(header=header(2, 0x14)), "libxl-options", "libxl header", 0, "0x14")
case("half_libxl_header", libxl()[:12], "truncated", "libxl header", 0, "12 of 16")

# Records of PV guests


def pv_case(name: str, tail: bytes, rules: str, record: str, words: str = "") -> None:
    """One whose first complaint is about what follows the libxc stream."""
    case(name, libxl(PV, tail), rules, f"libxl {record}", PV_TAIL, words)


pv_case("unknown_record", record(6), "libxl-unknown-record", "unknown 0x00000006")
pv_case("unknown_optional", record(1 << 31, b"x"), "libxl-unknown-record", "unknown 0x80000000")
pv_case("checkpoint_end", record(CHECKPOINT_END), "libxl-checkpoint", "CHECKPOINT_END")
pv_case("checkpoint_state", record(CHECKPOINT_STATE, bytes(8)), "libxl-checkpoint", "CHECKPOINT_STATE")
pv_case("empty_state", record(CHECKPOINT_STATE), "libxl-checkpoint libxl-length", "CHECKPOINT_STATE")
pv_case("two_contexts", record(LIBXC) + PV, "libxl-once", "LIBXC_CONTEXT", "0x10")
pv_case("emulator_of_pv", PAIRS + BLOB, "emulator-guest", "EMULATOR_XENSTORE_DATA", "pv guest")
case("long_end", libxl()[:-8] + record(END, b"12345678"), "libxl-length", "libxl END", PV_TAIL)
case("no_context", LIBXL_HEADER + record(END), "libxl-missing", "libxl END", 16, "LIBXC_CONTEXT")
case(
    "long_context",
    LIBXL_HEADER + record(LIBXC, b"12345678") + PV + record(END),
    "libxl-length",
    "libxl LIBXC_CONTEXT",
    16,
    "8 bytes",
)
case(
    "checkpointed",
    libxl(PV[:-8] + rec.frame(rec.Checkpoint()) + record(CHECKPOINT_END) + PV[-8:]),
    "forbidden-record",
    "CHECKPOINT",
    PV_TAIL - 8,
)

# Records of HVM guests


def hvm_case(name: str, tail: bytes, rules: str, record: str, words: str = "") -> None:
    """One whose first complaint is about the record that follows the libxc stream."""
    case(name, libxl(HVM, tail), rules, f"libxl {record}", HVM_TAIL, words)


_PADDED = record(EMULATOR, struct.pack("<II", 2, 0) + b"x", b"\0\0\0\0\0\0\1")
hvm_case("padding", _PADDED, "padding", "EMULATOR_CONTEXT", "00000000000001")
hvm_case("short_emulator", record(EMULATOR, b"1234567"), "libxl-length", "EMULATOR_CONTEXT", "at least 8")
hvm_case("short_xenstore", record(XENSTORE), "libxl-length", "EMULATOR_XENSTORE_DATA")
hvm_case("emulator_id", emulator(EMULATOR, b"", 3), "emulator-id", "EMULATOR_CONTEXT", "emulator 3")
for _name, _data, _words in (
    ("no_nul_in_pairs", b"a\0b", "no NUL"),
    ("odd_strings", b"a\0b\0c\0", "3 strings"),
    ("empty_path", b"\0b\0", "empty"),
    ("absolute_path", b"/vm\0b\0", "'/vm'"),
    ("strange_path", b"a\x1b[1m\0b\0", "\\x1b"),
    ("long_pairs", b"a\0b\0" * (1 << 18), "not looked at"),
):
    hvm_case(_name, emulator(XENSTORE, _data), "emulator-xenstore", "EMULATOR_XENSTORE_DATA", _words)

_SECOND = HVM_TAIL + len(BLOB)
case("two_emulators", libxl(HVM, BLOB, BLOB), "libxl-once", "libxl EMULATOR_CONTEXT", _SECOND)
case("pairs_last", libxl(HVM, BLOB, PAIRS), "libxl-order", "libxl EMULATOR_XENSTORE_DATA", _SECOND)
case(
    "emulator_first",
    LIBXL_HEADER + BLOB + record(LIBXC) + HVM + record(END),
    "libxl-order",
    "libxl LIBXC_CONTEXT",
    16 + len(BLOB),
    "0x10",
)
case(
    "no_emulator",
    xl(libxl(HVM), HVM_TEXT),
    "libxl-missing",
    "libxl END",
    CONFIG_AT + 4 + len(HVM_TEXT) + HVM_TAIL,
    "EMULATOR_CONTEXT",
)
case(
    "emulator_of_pvh",
    xl(libxl(HVM, BLOB), changed(type="pvh")),
    "emulator-guest",
    "libxl EMULATOR_CONTEXT",
    CONFIG_AT + 4 + len(changed(type="pvh")) + HVM_TAIL,
    "pvh guest",
)

# The libxc stream

_NO_STREAM = b"no stream at all, but long enough for any header"
for _name, _inner, _words in (
    ("garbage_for_libxc", libxl(_NO_STREAM), "not a libxc stream"),
    ("xl_in_libxl", libxl(xl()), "a save file of xl"),
    ("libxc_version", libxl(build.assemble(build.pv64(), version=9)), "version 9"),
    ("nothing_for_libxc", LIBXL_HEADER + record(LIBXC), "empty"),
):
    case(_name, _inner, "libxc-stream", "image header", 24, _words)
_STRANGE = rec.image_header() + rec.domain_header(7, 4, 17)  # type: ignore[arg-type]
case("domain_type", libxl(_STRANGE), "domain-header", "domain header", 48)

# Ends

case("half_libxc", xl()[: END_AT - 4], "truncated", "record header", END_AT - 8, f"ends at byte {END_AT - 4}")
case("no_libxl_end", xl()[:-8], "truncated", None, END_AT, "END record of libxl")
case("half_libxl_end", xl()[:-1], "truncated", None, END_AT, "within a record's header")
case("half_emulator", libxl(HVM, BLOB)[:-1000], "truncated", "libxl EMULATOR_CONTEXT", HVM_TAIL)
case("half_padding", libxl(HVM, emulator(EMULATOR, b"x"))[:-9], "truncated", "libxl EMULATOR_CONTEXT", HVM_TAIL)
case("after_end", xl() + b"\0" * 9, "after-end", None, END_AT + 8, "9 bytes")
