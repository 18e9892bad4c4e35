"""A guest's configuration as libxl and xl write it: a JSON object (libxl_domain_config_to_json), read with caution."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple, NoReturn, Optional

CONFIG_MAX = 4 << 20
"""Longest configuration that is looked at, in bytes; one of a guest with many devices has some 20 KiB."""

NESTED_MAX = 64
"""Most levels of objects and lists in one another; libxl writes some five."""

STREAM_KINDS = {"pv": "PV", "hvm": "HVM", "pvh": "HVM"}
"""A configuration's guest type -> the domain type of the libxc stream (PVH guests are sent as HVM)."""


class GuestSummary(NamedTuple):
    """What a configuration says of the guest in short; None where it does not say it, or not as libxl would.

    ``type`` is pv, hvm or pvh. Memory is in KiB: ``memory_kib`` what the guest is to have now, ``max_memory_kib``
    what it may grow to. ``vcpus`` counts all, ``vcpus_online`` those that are not taken away. ``device_model``: its
    kind as libxl names it, "none" for a guest without one.
    """

    name: Optional[str]
    type: Optional[str]
    memory_kib: Optional[int]
    max_memory_kib: Optional[int]
    vcpus: Optional[int]
    vcpus_online: Optional[int]
    device_model: Optional[str]


def parse(text: bytes) -> dict[str, Any]:
    """The object in a configuration's text (without the NUL). Raises ValueError, saying why, if there is none."""
    if len(text) > CONFIG_MAX:
        raise ValueError(f"{len(text)} bytes, more than {CONFIG_MAX}")
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"not an object but {_KINDS.get(type(value), 'a number')}")
    if _is_deep(value):
        raise ValueError("nested too deeply")
    return value


def _is_deep(value: Any) -> bool:
    """Whether it has more levels than NESTED_MAX: whoever writes or copies it takes a call, and more, for each."""
    level = [value]
    for _ in range(NESTED_MAX):
        inside = (x for outer in level for x in (outer.values() if isinstance(outer, dict) else outer))
        level = [x for x in inside if isinstance(x, (dict, list))]
    return bool(level)


_KINDS = {list: "a list", str: "a string", type(None): "null", bool: "a truth value"}


def _finite(text: str) -> float:
    """A number that is written out again as one: one that is too large for a float would become Infinity."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def dump(config: dict[str, Any]) -> bytes:
    """A configuration as text, without the NUL."""
    return json.dumps(config, indent=4).encode("ascii") + b"\n"


def summary(config: dict[str, Any]) -> GuestSummary:
    """The guest in short. Never fails: the configuration may hold anything."""
    c_info, b_info = _part(config, "c_info"), _part(config, "b_info")
    online = b_info.get("avail_vcpus")
    return GuestSummary(
        _text(c_info.get("name")),
        _text(c_info.get("type")),
        _number(b_info.get("target_memkb")),
        _number(b_info.get("max_memkb")),
        _number(b_info.get("max_vcpus")),
        len(online) if isinstance(online, list) else None,
        _text(b_info.get("device_model_version")),
    )


def problem(config: dict[str, Any]) -> Optional[str]:
    """Why libxl could not make a guest of it, as far as that can be told from here; None if nothing is seen."""
    if not isinstance(config.get("c_info"), dict) or not isinstance(config.get("b_info"), dict):
        return "it lacks c_info or b_info: this is not what libxl writes"
    guest = summary(config)
    if not guest.name:
        return "it has no name (c_info.name)"
    if guest.type not in STREAM_KINDS:
        return "its guest type (c_info.type) is none of pv, hvm and pvh"
    return None


def describe(guest: GuestSummary) -> str:
    """A line on the guest, of printable ASCII whatever the configuration holds."""
    name = "a guest without a name" if guest.name is None else json.dumps(guest.name)
    parts = [json.dumps(guest.type)[1:-1] if guest.type else "no type"]
    if guest.memory_kib is not None:
        most = "" if guest.max_memory_kib in (None, guest.memory_kib) else f" of at most {_mib(guest.max_memory_kib)}"
        parts.append(f"{_mib(guest.memory_kib)} MiB{most}")
    if guest.vcpus is not None:
        online = "" if guest.vcpus_online in (None, guest.vcpus) else f" ({guest.vcpus_online} online)"
        parts.append(f"{guest.vcpus} vcpu{'s' if guest.vcpus != 1 else ''}{online}")
    return f"{name}: {', '.join(parts)}"


def _mib(kib: Optional[int]) -> str:
    return f"{(kib or 0) / 1024:.6g}"


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> Optional[str]:
    return value if isinstance(value, str) else None


def _number(value: object) -> Optional[int]:
    """An unsigned 64-bit number, or None."""
    return value if type(value) is int and 0 <= value < 1 << 64 else None
