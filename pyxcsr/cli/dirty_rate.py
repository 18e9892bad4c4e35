"""Measures how a guest dirties its memory, without saving it, and predicts what a live save would come to.

The guest runs on, somewhat more slowly. A save or migration of it that begins meanwhile goes first: what has been
measured until then is shown.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from typing import Optional

from pyxcsr.cli import say, status
from pyxcsr.cli.controlling import add_run_dir, savers_for
from pyxcsr.cli.opening import find_domain, opened
from pyxcsr.cli.show_rate import told
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.cli.suspending import guest_parts
from pyxcsr.errors import UsageError, untouched_so_far
from pyxcsr.hypervisor.names import BACKENDS
from pyxcsr.limits.given import Given
from pyxcsr.limits.limits import Limits
from pyxcsr.limits.words import BY_NAME
from pyxcsr.measure.dirty_rate import dirty_rate

BANDWIDTHS = ("100M", "1G")

FURTHER = ("timeout", "on_timeout", "max_iterations", "target_dirty", "abort_if_busy")
"""Limits that hold for every prediction of one run. What ``throttle`` would win cannot be told beforehand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "measured, though for a shorter time if a save came",
        "failed: log-dirty mode is off again, or the text says that it is not",
        "cannot be done as asked",
    )
    add = parser.add_argument
    add("domain", metavar="GUEST", help="id or name of the domain; on the stub, a guest described as data")
    add("--seconds", type=float, default=10.0, metavar="N", help="for how long to measure (10)")
    add(
        "--bandwidth",
        action="append",
        metavar="SIZE",
        help="predict a save through an output that takes so many bytes a second, as 500M; may be given several times "
        f"({' and '.join(BANDWIDTHS)})",
    )
    add(
        "--max-downtime",
        action="append",
        metavar="TIME",
        help="predict a save in which the guest may be paused for so long, as 300ms; may be given several times (none)",
    )
    for word in (BY_NAME[x] for x in FURTHER):
        if word.metavar:
            add(word.option, metavar=word.metavar, help=f"predict with this limit: {word.help}")
        else:
            add(word.option, action="store_const", const="yes", help=f"predict with this limit: {word.help}")
    add(
        "--take-over",
        action="store_true",
        help="if the guest's writes are tracked already, as for the display of an HVM guest, begin that anew; refused "
        "while a process of this host is seen to save it",
    )
    add("--backend", choices=BACKENDS, default="xen", help="hypervisor (default: xen; never chosen for you)")
    add_run_dir(add)
    add("--json", action="store_true", help="print what was measured and predicted, or the error, as JSON")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    bandwidths = [_bandwidth(x) for x in args.bandwidth or BANDWIDTHS]
    limits = [_limits(args, x) for x in args.max_downtime or [None]]
    cancel = CancelBySignal()
    with cancel.installed(), opened(args.backend, "dirty-rate") as hv:
        with untouched_so_far():
            domid = find_domain(hv, args.domain)
            model = guest_parts(hv, domid, 60.0, cancel).device_model
        found = dirty_rate(
            hv, domid, seconds=args.seconds, device_model=model, cancel=cancel, take_over=args.take_over,
            savers=savers_for(args, hv, domid),
        )  # fmt: skip
    predictions = [found.predict(bandwidth, limits=x) for bandwidth, x in product(bandwidths, limits)]
    if args.json:
        document = {"ok": True, **found.to_dict(), "predictions": [x.to_dict() for x in predictions]}
        say.report(json.dumps(document, indent=2))
    else:
        say.report(told(found, predictions))
    return status.DONE


def _bandwidth(text: str) -> int:
    try:
        nr_bytes: int = BY_NAME["bandwidth"].parse(text)
    except UsageError as error:
        raise UsageError(f"--bandwidth: {error}") from None
    return nr_bytes


def _limits(args: argparse.Namespace, max_downtime: Optional[str]) -> Limits:
    """The limits of one prediction. Raises UsageError that names the option."""
    given = Given()
    for name, text in {"max_downtime": max_downtime, **{x: getattr(args, x) for x in FURTHER}}.items():
        if text is not None:
            option = BY_NAME[name].option
            given.add(name, text, option, option)
    return given.limits()
