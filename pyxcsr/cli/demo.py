"""Saves a guest of the built-in stub hypervisor live, while it writes its memory, and checks the result.

Needs neither Xen nor root, and leaves nothing behind. The stream is verified against every rule of the format, and
each page in it is compared with the guest's memory as it was when the guest was suspended.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial

from pyxcsr.cli import progress, say, status
from pyxcsr.cli.opening import make_guest
from pyxcsr.cli.show import summary
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.errors import untouched_so_far
from pyxcsr.hypervisor.open import StubBackend, open_hypervisor
from pyxcsr.hypervisor.stub.devmodel import device_model_of
from pyxcsr.hypervisor.stub.text import StubGuest
from pyxcsr.image.memory import MemoryImage
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.verify import verify
from pyxcsr.transfer.save import save

WRITERS: dict[str, Callable[..., StubGuest]] = {
    "pv64": partial(StubGuest.pv64, pt_updates=2),
    "pv32": partial(StubGuest.pv32, pt_updates=2),
    "pvh": StubGuest.pvh,
    "hvm": partial(StubGuest.hvm, devmodel=50),
}
"""The guests. What they do besides writing: a PV guest changes page tables, an HVM guest's device model writes, too."""

SHOWN = 10
"""How many complaints and differing pages are listed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--guest", choices=tuple(WRITERS), default="pv64", help="what kind of guest (pv64)")
    add("--mem", default="256M", help="the guest's memory (256M)")
    add("--vcpus", type=int, default=2, help="the guest's vcpus (2)")
    add("--rate", type=int, default=20000, metavar="N", help="pages the guest writes a second (20000)")
    add("--seed", type=int, default=1, help="of the guest's memory and writes (1)")
    add("--holes", type=float, default=0.02, metavar="SHARE", help="share of memory ballooned out (0.02)")
    add("--progress", action=argparse.BooleanOptionalAction, default=True, help="show progress (default)")


def run(args: argparse.Namespace) -> int:
    """The command. Returns 0 if the stream is complete and right."""
    guest = WRITERS[args.guest](
        mem=args.mem,
        vcpus=args.vcpus,
        seed=args.seed,
        holes=args.holes,
        writer="thread",
        rate=args.rate,
    )
    cancel = CancelBySignal()
    with untouched_so_far():
        hv = open_hypervisor("stub")
    assert isinstance(hv, StubBackend)
    with cancel.installed(), hv, tempfile.TemporaryFile(prefix="pyxcsr-demo-") as out:
        domid = make_guest(hv, guest)
        say.report(f"guest: {guest.describe()}")
        line = progress.progress_line(args.progress, progress.of_save, "stalled: nothing written")
        try:
            report = save(
                hv,
                domid,
                out,
                progress=line,
                cancel=progress.Ticking(cancel, line),
                device_model=device_model_of(hv.stub.guest(domid)),
            )
        finally:
            if line:
                line.done()
        say.report(summary(report))
        right = _check_rules(out.fileno()) & _check_pages(hv, domid, out.fileno())
        hv.stub.destroy(domid)
    return status.DONE if right else status.FAILED


def _check_rules(fd: int) -> bool:
    os.lseek(fd, 0, os.SEEK_SET)
    found = verify(StreamReader(fd))
    for complaint in found.complaints[:SHOWN]:
        say.note(f"wrong: {complaint}")
    say.report(f"stream: {'every rule of the format holds' if found.ok else 'BREAKS the format'}")
    return bool(found.ok)


def _check_pages(hv: StubBackend, domid: int, fd: int) -> bool:
    """Compares what the stream says with the suspended guest's memory, as the stub's own tables have it."""
    guest = hv.stub.guest(domid)
    os.lseek(fd, 0, os.SEEK_SET)
    with MemoryImage(fd) as image:
        pfns = guest.pfns_with_memory()
        wrong = [pfn for pfn in pfns if image.page(pfn) != guest.expected_page(pfn)]
        surplus = sorted(set(image.pfns()) - set(pfns))
    for pfn in (wrong + surplus)[:SHOWN]:
        say.note(f"wrong: pfn {pfn:#x} differs from the guest's memory")
    if wrong or surplus:
        say.report(f"pages: {len(wrong) + len(surplus)} DIFFER from the guest's memory at suspend")
    else:
        say.report(f"pages: all {len(pfns)} equal the guest's memory at suspend")
    return not wrong and not surplus
