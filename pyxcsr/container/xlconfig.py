"""A domain's configuration for an xl save file: from a file, or from libxl's own record of a domain that it made.

libxl keeps, for each domain, the configuration it was made from as JSON in /var/lib/xen, in a file whose name has
the domain's id and UUID. What can change in a domain's life (its name, memory, which vcpus are online, detached disks
and network cards) stands in xenstore; as xl does when it saves, that is taken from there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional, Protocol

from pyxcsr.container import config as conf
from pyxcsr.container.reader import ContainerReader, Kind, kind_of
from pyxcsr.errors import StreamError, UsageError, XcsrError
from pyxcsr.hypervisor.names import domain_name
from pyxcsr.stream.source import Source, open_input

RECORDS = "/var/lib/xen"
"""Where libxl keeps its records."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADVICE = "give the configuration by --config (a JSON file, or an xl save file of the guest), or save --format libxc"


class ConfigUnavailable(XcsrError):
    """A domain's configuration cannot be had. Facts: domid, and path if it is about a file."""


class Xenstore(Protocol):
    """The part of a Hypervisor that is needed here."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """The node's content, or None if there is no such node."""


def read_config(name: str) -> bytes:
    """The JSON text in a file, or that of an xl save file, without its NUL, checked to be a guest's configuration.

    Raises UsageError, also for a file that cannot be read.
    """
    try:
        with open_input(name) as fd:
            text = _text_in(Source(fd), name)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error
    except StreamError as error:
        raise UsageError(f"{name}: {error}") from error
    _parse_usable(text, name)
    return text


def _text_in(source: Source, name: str) -> bytes:
    if kind_of(source) is Kind.XL:
        reader = ContainerReader(source)
        data = reader.optional_data(reader.xl_header())
        if not data.config:
            raise UsageError(f"{name}: this xl save file has no configuration, or one that is too long")
        return data.config.split(b"\0", 1)[0]
    text = bytes(source.read(conf.CONFIG_MAX + 2))
    return text.rstrip(b"\0")


def _parse_usable(text: bytes, name: str) -> dict[str, Any]:
    try:
        config = conf.parse(text)
        problem = conf.problem(config)
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        raise UsageError(f"{name} is not a guest's configuration in JSON: {problem}")
    return config


def check_name(text: bytes, name: Optional[bytes], where: str) -> None:
    """Raises UsageError if the configuration is for a guest of another name than the domain's (None: not known)."""
    found = conf.summary(conf.parse(text)).name or ""
    if name is not None and found.encode(errors="surrogatepass") != name:
        raise UsageError(f"{where} is the configuration of {found!r}, but the domain's name is {_text(name)!r}")


def of_domain(hv: Xenstore, domid: int, folder: str = RECORDS) -> bytes:
    """The JSON text for a domain that libxl made, as `xl save` would write it. Raises ConfigUnavailable.

    Only xenstore and the record are read; the guest is not touched.
    """
    path = _find_record(hv, domid, Path(folder))
    try:
        text = path.read_bytes().rstrip(b"\0")
    except OSError as error:
        raise _unavailable(f"{path}: {error.strerror}", domid, path) from error
    try:
        config = conf.parse(text)
        problem = conf.problem(config)
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        raise _unavailable(f"libxl's record {path} is damaged: {problem}", domid, path)
    _update(config, hv, domid)
    return conf.dump(config)


def _unavailable(what: str, domid: int, path: Optional[Path] = None) -> ConfigUnavailable:
    text = f"the configuration of domain {domid} cannot be had: {what}; {_ADVICE}"
    return ConfigUnavailable(text, domid=domid, path=None if path is None else os.fspath(path))


def _find_record(hv: Xenstore, domid: int, folder: Path) -> Path:
    """The record's path, by the UUID in xenstore or, without one there, if there is only one."""
    vm = _text(hv.xenstore_read(f"/local/domain/{domid}/vm") or b"")
    uuid = vm.rsplit("/", 1)[-1]
    if _UUID.fullmatch(uuid):
        path = folder / f"userdata-d.{domid}.{uuid}.libxl-json"
        if not path.exists():
            text = f"there is no {path}: was the domain made by another toolstack than libxl?"
            raise _unavailable(text, domid, path)
        return path
    found = sorted(folder.glob(f"userdata-d.{domid}.*.libxl-json"))
    if not found:
        text = f"there is no userdata-d.{domid}.*.libxl-json in {folder}: was it made by another toolstack than libxl?"
        raise _unavailable(text, domid)
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise _unavailable(f"xenstore does not tell its UUID, and there are several records: {names}", domid)
    return found[0]


# What xenstore knows better


def _update(config: dict[str, Any], hv: Xenstore, domid: int) -> None:
    name = domain_name(hv, domid)
    if name is None:
        raise _unavailable("it has no name in xenstore", domid)
    try:
        config["c_info"]["name"] = name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unavailable(f"its name in xenstore, {name!r}, is not UTF-8", domid) from error
    config["c_info"].pop("domid", None)  # restored under whatever id is free
    base, b_info = f"/local/domain/{domid}", config["b_info"]
    target = _kib(hv, f"{base}/memory/target", domid)
    if target is not None:
        video = b_info.get("video_memkb")  # the target in the configuration includes it
        b_info["target_memkb"] = target + (video if type(video) is int and video > 0 else 0)
    most = _kib(hv, f"{base}/memory/static-max", domid)
    if most is not None:
        b_info["max_memkb"] = most
    vcpus = b_info.get("max_vcpus")
    if type(vcpus) is int and 0 < vcpus <= _VCPUS_MAX:
        b_info["avail_vcpus"] = _online(hv, base, vcpus)
    for kind, field, number in (("vif", "nics", _nic_number), ("vbd", "disks", _disk_number)):
        devices = config.get(field)
        if isinstance(devices, list):
            places = [f"/libxl/{domid}/device/{kind}", f"{base}/device/{kind}"]
            config[field] = list(_attached(hv, places, devices, number))


_VCPUS_MAX = 8192


def _kib(hv: Xenstore, path: str, domid: int) -> Optional[int]:
    value = hv.xenstore_read(path)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 20:
        raise _unavailable(f"{path} is {value!r} in xenstore, not a number of KiB", domid)
    return int(value)


def _online(hv: Xenstore, base: str, vcpus: int) -> list[int]:
    return [vcpu for vcpu in range(vcpus) if hv.xenstore_read(f"{base}/cpu/{vcpu}/availability") == b"online"]


def _attached(
    hv: Xenstore, places: list[str], devices: list[Any], number: Callable[[Any], Optional[int]]
) -> Iterator[Any]:
    """The devices that xenstore still has in one of the places; those whose number cannot be told stay."""
    for device in devices:
        at = number(device)
        if at is None or any(hv.xenstore_read(f"{place}/{at}") is not None for place in places):
            yield device


def _nic_number(nic: Any) -> Optional[int]:
    devid = nic.get("devid") if isinstance(nic, dict) else None
    return devid if type(devid) is int and devid >= 0 else None


_DISK = re.compile(r"(xvd|hd|sd)([a-z]{1,2})(\d{0,2})")


def _disk_number(disk: Any) -> Optional[int]:
    """A disk's number in xenstore, from its name in the guest (xen-vbd-interface): major << 8 | disk | partition."""
    vdev = disk.get("vdev") if isinstance(disk, dict) else None
    match = _DISK.fullmatch(vdev) if isinstance(vdev, str) else None
    if match is None:
        return None
    kind, letters, digits = match.groups()
    index, part = _letters(letters), int(digits or 0)
    if kind == "xvd":
        plain = index < 16 and part < 16
        return 202 << 8 | index << 4 | part if plain else 1 << 28 | index << 8 | part
    if kind == "sd":
        return 8 << 8 | index << 4 | part if index < 16 and part < 16 else None
    return (3 if index < 2 else 22) << 8 | (index & 1) << 6 | part if index < 4 and part < 64 else None


def _letters(letters: str) -> int:
    """a is 0, z is 25, aa is 26."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
