"""``pyxcsr save --format xl``: what stands around the stream in a file that ``xl restore`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

from pyxcsr.errors import Cancelled, UsageError
from pyxcsr.hypervisor.names import domain_name

if TYPE_CHECKING:
    import argparse

    from pyxcsr.devicemodel.qemu import Qemu
    from pyxcsr.hypervisor.backend import Backend


def check_arguments(args: argparse.Namespace) -> None:
    """What can be told from the arguments alone. Raises UsageError."""
    if args.config and args.format != "xl":
        raise UsageError("--config is for --format xl")
    if args.format == "xl" and args.backend == "stub" and not args.config:
        raise UsageError("--format xl needs --config JSON on the stub, which has no libxl that keeps configurations")


def config_for(hv: Backend, domid: int, args: argparse.Namespace) -> Optional[bytes]:
    """The configuration to be put into the file, or None where there is none in it. The guest is not touched.

    Raises UsageError for an unusable --config, ConfigUnavailable, NotSupported.
    """
    if args.format != "xl":
        return None
    from pyxcsr.container import config as conf
    from pyxcsr.container import xlconfig

    kinds = ("hvm", "pvh") if hv.domain_info(domid).hvm else ("pv",)
    if args.config:
        text = xlconfig.read_config(args.config)
        xlconfig.check_name(text, domain_name(hv, domid), args.config)
    else:
        text = xlconfig.of_domain(hv, domid)
    kind = conf.summary(conf.parse(text)).type
    if kind not in kinds:
        raise UsageError(
            f"the configuration is of a {kind} guest, but domain {domid} is a {' or '.join(kinds).upper()} guest"
        )
    return text


@contextmanager
def wrapped(
    hv: Backend, domid: int, fd: int, config: Optional[bytes], qemu: Optional[Qemu], cancel: Callable[[], bool]
) -> Iterator[None]:
    """Writes what belongs ahead of the stream and, if that could be written, behind it; nothing without ``config``.

    The guest stays suspended, and ``qemu``, its device model, stopped, until this has ended. Raises OutputError,
    DeviceModelError, and Cancelled if ``cancel`` says so while the output is stalled.
    """
    if config is None:
        yield
        return
    from pyxcsr.container import reader as container
    from pyxcsr.container.emulator import emulator_records

    _write(hv, fd, container.prefix(config), cancel)
    yield
    if qemu is not None:
        _write(hv, fd, emulator_records(hv, domid, qemu.state()), cancel)
    _write(hv, fd, container.SUFFIX, cancel)


def _write(hv: Backend, fd: int, data: bytes, cancel: Callable[[], bool]) -> None:
    def again() -> None:
        if cancel():
            raise Cancelled("cancelled while the output was stalled")

    sink = hv.open_sink(fd)
    try:
        sink.write(data, again)
    finally:
        sink.close()
